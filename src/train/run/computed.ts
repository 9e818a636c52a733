// How a device computed a run, kept in its checkpoints: where a device chooses among several ways, the bits of a run that is
// resumed are those of an uninterrupted one only if the choices are. What is chosen from is the device's business.
import type { Device } from '../../tensor/device.ts'
import { PullbackError } from '../../tensor/errors.ts'
import type { Checkpoint } from '../checkpoint.ts'

/** A device, and the ways it chose. */
export interface Computed {
  /** The device's description without its number. */
  readonly device: string
  /** The way chosen for each problem. */
  readonly choices: Readonly<Record<string, string>>
}

/** So many differences are named. */
const mostNamed = 3

/** What a checkpoint notes of it: nothing where the device has one way to compute. */
export function computedNotes(device: Device): Readonly<Record<string, string>> {
  const choices = Object.entries(device.choices()).sort(([a], [b]) => (a < b ? -1 : 1))
  if (choices.length === 0) return {}
  return { device: kindOf(device), choices: JSON.stringify(Object.fromEntries(choices)) }
}

/**
 * How the run of a checkpoint was computed; undefined where its device had no choice.
 *
 * @throws PullbackError `file` if what it says is damaged
 */
export function computedOf({ path, metadata }: Checkpoint): Computed | undefined {
  const text = metadata.get('choices')
  if (text === undefined) return undefined
  const choices = readChoices(text)
  if (choices === undefined)
    throw new PullbackError('file', `[checkpoint] ${path}: expected names by name under 'choices', got '${text}'.`)
  return { device: metadata.get('device') ?? 'an unknown device', choices }
}

/** Asks a device to compute as before, if it is of the kind that did: another one's choices say nothing to it. */
export function preferComputed({ device: before, choices }: Computed, device: Device): void {
  if (kindOf(device) === before) device.prefer(choices)
}

/**
 * The sentence about a run that is resumed where its bits may differ from those of an uninterrupted one: it is computed on
 * another device or by other libraries, or some problems were settled otherwise, of which the first few are named.
 */
export function differenceSentence({ device: before, choices }: Computed, device: Device): string | undefined {
  const now = device.choices()
  const other = kindOf(device) === before ? [] : [`it ran on ${before}, and runs on ${kindOf(device)}`]
  const changed = Object.entries(choices).filter(([key, id]) => now[key] !== undefined && now[key] !== id)
  const named = changed.slice(0, mostNamed).map(([key, id]) => `${key} by ${now[key] ?? ''} instead of ${id}`)
  const more = changed.length > mostNamed ? [`and ${changed.length - mostNamed} more`] : []
  const reasons = [...other, ...named, ...more]
  return reasons.length === 0
    ? undefined
    : `the resumed run may differ in bits from an uninterrupted one: ${reasons.join('; ')}`
}

/** The description without the device's name: the same on whichever GPU of a kind. */
function kindOf({ name, description }: Device): string {
  return description.startsWith(`${name}: `) ? description.slice(name.length + 2) : description
}

function readChoices(text: string): Readonly<Record<string, string>> | undefined {
  try {
    const parsed: unknown = JSON.parse(text)
    if (typeof parsed !== 'object' || parsed === null) return undefined
    const entries = Object.entries(parsed).filter((pair): pair is [string, string] => typeof pair[1] === 'string')
    return entries.length === Object.keys(parsed).length ? Object.fromEntries(entries) : undefined
  } catch {
    return undefined
  }
}
