// The command line of `npm run gpu:check`.
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { type PartName, partNames, parts } from './parts.ts'

/** What is asked for. */
export interface Options {
  /** The parts, in order; all of them where it is undefined. */
  readonly only: readonly PartName[] | undefined
  /** The part that this process is to run for another one. */
  readonly part: PartName | undefined
  /** The step of it that ended the process before. */
  readonly after: string | undefined
  readonly seed: number
  /** The folder of the results. */
  readonly out: string
  readonly size: 'full' | 'small'
}

/** Something in the command line that means nothing, in one sentence. */
export class UsageError extends Error {}

/** What --help prints. */
export const usage = `npm run gpu:check -- [--only part,part] [--seed n] [--out folder] [--small]
parts:
${partNames.map((name) => `  ${name.padEnd(12)}${parts[name].says}`).join('\n')}
--seed: of everything random, 1 by default; --small: as little of each part as shows that it works
`

const flags = {
  only: { type: 'string', multiple: true },
  part: { type: 'string' },
  after: { type: 'string' },
  seed: { type: 'string', default: '1' },
  out: { type: 'string', default: fileURLToPath(new URL('../../bench/results', import.meta.url)) },
  small: { type: 'boolean', default: false },
  help: { type: 'boolean', default: false },
} as const

/** @throws UsageError for a flag, a part or a seed that means nothing. */
export function parseOptions(argv: readonly string[]): Options | 'help' {
  const { values } = explained(() => parseArgs({ args: [...argv], options: flags }))
  if (values.help) return 'help'
  const seed = Number(values.seed)
  if (!/^\d+$/.test(values.seed) || seed >= 2 ** 31)
    throw new UsageError(`expected --seed to be an integer from 0 to 2147483647, got '${values.seed}'`)
  const asked = values.only?.flatMap((list) => list.split(',')).map(partNamed)
  return {
    only: asked === undefined ? undefined : partNames.filter((name) => asked.includes(name)),
    part: values.part === undefined ? undefined : partNamed(values.part),
    ...{ after: values.after, seed, out: values.out, size: values.small ? 'small' : 'full' },
  }
}

function partNamed(text: string): PartName {
  const found = partNames.find((name) => name === text)
  if (found === undefined) throw new UsageError(`expected parts among ${partNames.join(', ')}, got '${text}'`)
  return found
}

/** The parser's complaint in its first sentence. */
function explained<T>(read: () => T): T {
  try {
    return read()
  } catch (error) {
    const [said = ''] = (error instanceof Error ? error.message : String(error)).split(/\.\s|\.$/)
    throw new UsageError(said)
  }
}
