// npm run gpu:check: whether this GPU computes what it should, in at most four minutes, in parts that can be chosen. Each part
// runs in a process of its own; all that is found is kept in bench/results as it is found.
import { relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { cudaProbe } from '../../src/cuda/index.ts'
import { gpuOf } from './part.ts'
import { type PartName, partNames, parts } from './parts.ts'
import { factsOf, outcomeLines, resultsFile, table, verdict, writeResults } from './report.ts'
import { type Outcome, messenger, noted, nothingOf, runApart } from './run.ts'

/** Seconds for all parts together. */
const budget = 235

const usage = `npm run gpu:check -- [--only part,part] [--seed n] [--out folder] [--small]
parts:
${partNames.map((name) => `  ${name.padEnd(12)}${parts[name].says}`).join('\n')}
`

interface Options {
  readonly only: readonly PartName[] | undefined
  /** The part that this process is to run for another one. */
  readonly part: PartName | undefined
  readonly seed: number
  readonly out: string
  readonly size: 'full' | 'small'
}

/** Something in the command line that means nothing. */
class UsageError extends Error {}

function partNamed(text: string): PartName {
  const found = partNames.find((name) => name === text)
  if (found === undefined) throw new UsageError(`expected parts among ${partNames.join(', ')}, got '${text}'`)
  return found
}

function parse(argv: readonly string[]): Options | 'help' {
  const flags = {
    only: { type: 'string', multiple: true },
    part: { type: 'string' },
    seed: { type: 'string', default: '1' },
    out: { type: 'string', default: fileURLToPath(new URL('../../bench/results', import.meta.url)) },
    small: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  } as const
  const { values } = parsed(() => parseArgs({ args: [...argv], options: flags }))
  if (values.help) return 'help'
  const seed = Number(values.seed)
  if (!Number.isInteger(seed) || seed < 0 || seed >= 2 ** 31)
    throw new UsageError(`expected --seed to be an integer from 0 to 2147483647, got '${values.seed}'`)
  return {
    only: values.only?.flatMap((list) => list.split(',')).map(partNamed),
    part: values.part === undefined ? undefined : partNamed(values.part),
    ...{ seed, out: values.out, size: values.small ? 'small' : 'full' },
  }
}

/** The parser's complaint in its first sentence. */
function parsed<T>(read: () => T): T {
  try {
    return read()
  } catch (error) {
    const [said = ''] = (error instanceof Error ? error.message : String(error)).split('. ')
    throw new UsageError(said)
  }
}

/** A part for the process that started this one; ends with it. */
async function child(name: PartName, options: Options): Promise<number> {
  const orphaned = (): never => process.exit(1)
  process.once('disconnect', orphaned)
  try {
    await parts[name].run(
      gpuOf(options),
      messenger((message) => process.send?.(message)),
    )
  } finally {
    process.off('disconnect', orphaned) // nothing else keeps the process alive once all messages are sent
  }
  return 0
}

async function check(options: Options): Promise<number> {
  const found = cudaProbe()
  const [problem] = found.problems
  if (problem !== undefined) {
    process.stderr.write(`gpu:check: ${problem.sentence}\n`)
    return 1
  }
  const facts = factsOf(found, new Date(), options)
  const file = resultsFile(options.out, facts, options.only)
  print([...facts.found, `seed ${options.seed}`])
  const outcomes: Outcome[] = []
  const deadline = performance.now() + budget * 1000
  for (const name of options.only ?? partNames) {
    print(['', `${name}: ${parts[name].says}`])
    const left = (deadline - performance.now()) / 1000
    const { size, seed } = options
    const seconds = Math.min(parts[name].seconds, left)
    const told = (_: unknown, sofar: Outcome): void => writeResults(file, facts, [...outcomes, sofar])
    const late = { kind: 'threw', name, error: `no time is left of the ${budget} seconds for all parts` } as const
    outcomes.push(left < 5 ? noted(nothingOf(name), late) : await runApart(name, { seconds, size, seed, told }))
    writeResults(file, facts, outcomes)
    print(outcomeLines(outcomes.at(-1) ?? nothingOf(name)))
  }
  print(['', ...table(outcomes), `recorded in ${relative(process.cwd(), file)}`])
  return outcomes.some((outcome) => verdict(outcome) === 'failed') ? 1 : 0
}

function print(lines: readonly string[]): void {
  process.stdout.write(lines.map((line) => `${line}\n`).join(''))
}

async function main(): Promise<number> {
  const options = parse(process.argv.slice(2))
  if (options === 'help') {
    process.stdout.write(usage)
    return 0
  }
  return options.part === undefined ? check(options) : child(options.part, options)
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130))
try {
  process.exitCode = await main()
} catch (error) {
  const known = error instanceof UsageError
  process.stderr.write(
    `gpu:check: ${known ? `${error.message}. Try --help.` : error instanceof Error ? error.stack : String(error)}\n`,
  )
  process.exitCode = known ? 2 : 1
}
