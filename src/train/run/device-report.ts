// What a run tells of its device: how far programs are that it makes ready, what has become of its details since, and
// whether a run that is resumed may differ in bits.
import type { Device } from '../../tensor/device.ts'
import type { RunLog } from '../report/dllogger.ts'
import type { ProgressReporter } from '../report/progress.ts'
import { type Computed, differenceSentence } from './computed.ts'

/** Watches a device for a run. */
export interface DeviceReporter {
  /** To be called when programs have been made ready: tells what is new. */
  prepared(): void
  /** Watches no more. */
  close(): void
}

/** A reporter to a log and a progress line, either of which may be missing; `before` is how a resumed run was computed. */
export function deviceReporter(
  device: Device,
  { log, progress }: { readonly log?: RunLog; readonly progress?: ProgressReporter },
  before?: Computed,
): DeviceReporter {
  let details = device.details()
  let said: string | undefined
  if (progress !== undefined)
    device.watch(({ phase, done, total }) => progress.note(`${device.name}: ${phase} ${done}/${total}`))
  return {
    prepared() {
      const now = device.details()
      const changed = Object.entries(now).filter(([name, text]) => details[name] !== text)
      details = now
      for (const [name, text] of changed) progress?.message(`${name}: ${text}`)
      if (changed.length > 0) log?.log('PARAMETER', Object.fromEntries(changed))
      const sentence = before === undefined ? undefined : differenceSentence(before, device)
      if (sentence !== undefined && sentence !== said) progress?.message(sentence)
      said = sentence
    },
    close: () => device.watch(undefined),
  }
}
