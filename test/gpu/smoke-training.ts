// The smoke test's last steps: whole training steps of the small model, each time with one thing more: launched one by one,
// recorded, with fused steps, tuned by time, and once more with what the tuning cache has then.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { at, range } from '../../src/tensor/shape.ts'
import { trainSmall } from '../support/small-training.ts'
import { withDevice } from './part.ts'
import type { Bench, SmokeStep } from './smoke.ts'

/** Launched, recorded and replayed. */
const steps = 3
/** Seconds that timing may take: what is left takes first proposals. */
const tuneSeconds = '10'

interface Trained {
  readonly losses: readonly number[]
  /** The device's details. */
  readonly details: Readonly<Record<string, string>>
  readonly seconds: number
}

/** The losses of some steps in f16 on a device opened with these variables. */
async function trained({ gpu, trying }: Bench, what: string, environment: Record<string, string>): Promise<Trained> {
  trying(`${steps} training steps, ${what}`)
  const began = performance.now()
  return withDevice(gpu, { environment: { PULLBACK_VERIFY: '', ...environment } }, async (device) => {
    const outcome = await trainSmall(device, { precision: 'f16', steps })
    const seconds = (performance.now() - began) / 1000
    return { losses: [...(outcome.get('losses') ?? [])], details: device.details(), seconds }
  })
}

/** How far losses may be from those of plain launches: f16 rounds in other places where steps are fused. */
const apart = 0.02

function compare(
  { tell }: Bench,
  what: string,
  { losses, details, seconds }: Trained,
  expected: Trained,
  most: number,
): void {
  const errors = range(steps).map((step) => {
    const [mine, theirs] = [at(losses, step), at(expected.losses, step)]
    return Math.abs(mine - theirs) / Math.abs(theirs)
  })
  tell.compared({
    ...{
      name: `${steps} losses ${what}, off in proportion`,
      cases: steps,
      worst: Math.max(...errors),
      tolerance: most,
    },
    where: losses.join(', '),
  })
  tell.note(`${what}: ${seconds.toFixed(1)} s; ${details['kernels'] ?? ''}; ${details['tuning'] ?? ''}`)
}

const plainly = { PULLBACK_GRAPHS: '0', PULLBACK_FUSIONS: 'never' }

/** What the reference interpreter gives for the same steps in f16; another order of sums moves them by less than a thousandth. */
const ofTheReference: Trained = { losses: [4.7868, 4.6121, 4.4646], details: {}, seconds: 0 }
const closely = 0.005

/** Without graphs and fusions: whether the numbers are right at all. */
async function launched(bench: Bench): Promise<void> {
  compare(bench, 'one by one', await trained(bench, 'launched one by one', plainly), ofTheReference, closely)
}

async function recorded(bench: Bench): Promise<void> {
  const plain = await trained(bench, 'launched one by one', plainly)
  compare(bench, 'recorded', await trained(bench, 'recorded', { PULLBACK_FUSIONS: 'never' }), plain, 0)
}

async function fused(bench: Bench): Promise<void> {
  const plain = await trained(bench, 'launched one by one', plainly)
  compare(
    bench,
    'fused',
    await trained(bench, 'fused wherever it can be', { PULLBACK_FUSIONS: 'always' }),
    plain,
    apart,
  )
}

/** In a cache of its own: timing, and then what it left there. */
async function tuned(bench: Bench): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'pullback-smoke-'))
  const environment = { PULLBACK_TUNE: 'time', PULLBACK_TUNE_SECONDS: tuneSeconds, PULLBACK_CACHE: folder }
  try {
    const plain = await trained(bench, 'launched one by one', plainly)
    const first = await trained(bench, 'tuned by time', environment)
    compare(bench, 'tuned', first, plain, apart)
    const second = await trained(bench, 'with what was tuned', { ...environment, PULLBACK_TUNE_SECONDS: '0' })
    compare(bench, 'with what was tuned', second, first, 0)
    const retuned = Number(/(\d+) retuned/.exec(second.details['tuning'] ?? '')?.[1] ?? 0)
    bench.tell.compared({
      name: 'choices of the tuning cache that could not be used',
      cases: 1,
      worst: retuned,
      tolerance: 0,
    })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

export const trainingSteps: readonly SmokeStep[] = [
  { name: 'launched', small: false, run: launched },
  { name: 'recorded', small: true, run: recorded },
  { name: 'fused', small: false, run: fused },
  { name: 'tuned', small: false, run: tuned },
]
