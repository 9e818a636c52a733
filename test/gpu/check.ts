// The check as a whole: what it runs on, each part in turn, what is printed and kept, and how it ends.
import { relative } from 'node:path'
import type { Findings } from '../../src/cuda/doctor.ts'
import { cudaProbe } from '../../src/cuda/index.ts'
import { type Part, gpuOf } from './part.ts'
import { type Options, UsageError, parseOptions, usage } from './options.ts'
import { type PartName, partNames, parts } from './parts.ts'
import { factsOf, outcomeLines, resultsFile, table, verdict, writeResults } from './report.ts'
import { type Outcome, messenger, noted, nothingOf, runApart } from './run.ts'

/** Seconds for all parts together: four minutes with what starting takes. */
const budget = 230
/** Parts that run side by side: most of their time goes into compiling kernels, on one core each. */
const atOnce = 3
/** A part is not begun with less. */
const leastSeconds = 5

/** What the check asks of its surroundings. */
export interface Surroundings {
  /** What there is of CUDA on this machine. */
  readonly find: () => Findings
  readonly print: (text: string) => void
  readonly complain: (text: string) => void
}

const ofThisProcess: Surroundings = {
  find: () => cudaProbe(),
  print: (text) => void process.stdout.write(text),
  complain: (text) => void process.stderr.write(text),
}

/** Does what the command line asks for; the exit code: 0 where all parts passed, 1 where one did not, 2 for bad usage. */
export async function gpuCheck(argv: readonly string[], around: Surroundings = ofThisProcess): Promise<number> {
  try {
    const options = parseOptions(argv)
    if (options === 'help') {
      around.print(usage)
      return 0
    }
    return await (options.part === undefined ? check(options, around) : child(options.part, options))
  } catch (error) {
    if (!(error instanceof UsageError)) throw error
    around.complain(`gpu:check: ${error.message}. Try --help.\n`)
    return 2
  }
}

/** A part for the process that started this one. */
async function child(name: PartName, options: Options): Promise<number> {
  const orphaned = (): never => process.exit(1)
  process.once('disconnect', orphaned)
  process.once('SIGTERM', orphaned) // what this part started ends with it
  const tell = messenger((message) => process.send?.(message))
  try {
    await parts[name].run(gpuOf(options), tell)
  } catch (error) {
    tell.threw(name, error)
  } finally {
    process.off('SIGTERM', orphaned)
    process.off('disconnect', orphaned) // nothing else keeps the process alive once all messages are sent
  }
  return 0
}

async function check(options: Options, { find, print, complain }: Surroundings): Promise<number> {
  const found = find()
  const [problem] = found.problems
  if (problem !== undefined) {
    complain(`gpu:check: ${problem.sentence}\n`)
    return 1
  }
  const lines = (list: readonly string[]): void => print(list.map((line) => `${line}\n`).join(''))
  const facts = factsOf(found, new Date(), options)
  const file = resultsFile(options.out, facts, options.only)
  lines([...facts.found, `seed ${options.seed}`])
  const chosen = options.only ?? partNames
  const sofar = new Map<PartName, Outcome>()
  const outcomes = (): Outcome[] => chosen.flatMap((name) => sofar.get(name) ?? [])
  const keep = (outcome: Outcome): void => {
    sofar.set(outcome.part, outcome)
    writeResults(file, facts, outcomes())
  }
  const deadline = performance.now() + budget * 1000
  const runNext = async (name: PartName): Promise<void> => {
    const outcome = await runOne(name, options, (deadline - performance.now()) / 1000, keep)
    keep(outcome)
    lines(['', `${name}: ${parts[name].says}`, ...outcomeLines(outcome)])
  }
  const alone = (name: PartName): boolean => parts[name].alone === true
  for (const name of chosen.filter(alone)) await runNext(name)
  const rest = chosen.filter((name) => !alone(name)).values()
  await Promise.all(Array.from({ length: atOnce }, () => runAll(rest, runNext)))
  lines(['', ...table(outcomes()), `recorded in ${relative(process.cwd(), file)}`])
  return outcomes().some((outcome) => verdict(outcome) === 'failed') ? 1 : 0
}

/** Takes what is left, one after the other. */
async function runAll(names: Iterable<PartName>, runNext: (name: PartName) => Promise<void>): Promise<void> {
  for (const name of names) await runNext(name)
}

/** Runs a part with the time that is left; `keep` is told of all it found whenever it finds more. */
async function runOne(
  name: PartName,
  { size, seed }: Options,
  left: number,
  keep: (sofar: Outcome) => void,
): Promise<Outcome> {
  if (left < leastSeconds) {
    const error = `not begun: nothing is left of the ${budget} seconds for all parts; choose it with --only ${name}`
    return noted(nothingOf(name), { kind: 'threw', name, error })
  }
  const seconds = Math.min(parts[name].seconds, left)
  const { stepSeconds }: Part = parts[name]
  return runApart(name, { seconds, stepSeconds, size, seed, told: (_, sofar) => keep(sofar) })
}
