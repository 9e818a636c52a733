import { simulation } from '../sim/library.ts'
import { gpuOf } from './part.ts'
import { outcomeLines } from './report.ts'
import { runHere } from './run.ts'
const name = process.argv[2] ?? ''
const sim = await simulation()
const gpu = gpuOf({ size: process.argv[3] === 'full' ? 'full' : 'small', seed: 1 }, sim)
const module = (await import(`./${name}.ts`)) as Record<string, any>
const outcome = await runHere(name as never, module[name], gpu, (m) => console.log(JSON.stringify(m).slice(0, 400)))
console.log(outcomeLines(outcome).join('\n'))
console.log(sim.report().violations)
process.exit(0)
