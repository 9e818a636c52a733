// Records what the real cuDNN answers to the table into test/golden/cudnn-statuses.json:
//   PULLBACK_CUDA_PATH=... npx tsx test/cuda/sequences/record.ts
import { writeFileSync } from 'node:fs'
import { findLibraries, provideDriver } from '../../deviceless/libraries.ts'
import { answers, malformed, wellFormed } from './table.ts'

if (!provideDriver()) throw new Error('without a cuda.h there is no driver for cuDNN to find')
const { cudnn } = findLibraries()
if (cudnn === undefined) throw new Error('no cuDNN is found')
const sequences = [...malformed, ...wellFormed].map((sequence) => [sequence.name, answers(cudnn, sequence)] as const)
const duplicate = sequences.find(([name], index) => sequences.findIndex(([other]) => other === name) !== index)
if (duplicate !== undefined) throw new Error(`two sequences are called ${duplicate[0]}`)
const lines = sequences.map(([name, answer]) => `    ${JSON.stringify(name)}: ${JSON.stringify(answer)}`)
const text = `{\n  "cudnn": ${cudnn.version()},\n  "sequences": {\n${lines.join(',\n')}\n  }\n}\n`
writeFileSync(new URL('../../golden/cudnn-statuses.json', import.meta.url), text)
process.stdout.write(`${sequences.length} sequences of cuDNN ${cudnn.version()}\n`)
