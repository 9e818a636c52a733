// The part `smoke`: in seconds, one small try of each thing that only a real GPU can refuse (launches, large arguments,
// recorded graphs, library calls under capture, plans from their JSON, whole steps), each told by itself. A try that ends the
// process, or leaves the GPU unusable, costs the others nothing: they go on in another process.
import type { CudaDevice } from '../../src/cuda/device.ts'
import { isSticky } from '../../src/cuda/runtime/failure.ts'
import type { Gpu, Part, Tell } from './part.ts'
import { driverSteps } from './smoke-driver.ts'
import { librarySteps } from './smoke-libraries.ts'
import { trainingSteps } from './smoke-training.ts'

/** What a step is given. */
export interface Bench {
  readonly gpu: Gpu
  /** One device for all steps that change nothing about it, opened by the first of them. */
  readonly device: CudaDevice
  readonly tell: Tell
  /** Says what is tried next: it is named if it ends the process. */
  trying(what: string): void
}

/** One thing that is tried. */
export interface SmokeStep {
  readonly name: string
  /** Whether it is also tried where little is. */
  readonly small: boolean
  run(bench: Bench): Promise<void> | void
}

const steps: readonly SmokeStep[] = [...driverSteps, ...librarySteps, ...trainingSteps]

/** Runs the steps behind the one that ended the process before; ends behind one that leaves the GPU unusable. */
async function runSteps(all: readonly SmokeStep[], gpu: Gpu, tell: Tell): Promise<void> {
  const chosen = all.filter(({ small }) => gpu.size === 'full' || small)
  const opened: { device?: CudaDevice } = {}
  try {
    for (const step of chosen.slice(1 + chosen.findIndex(({ name }) => name === gpu.after))) {
      tell.begun(step.name, 'opening the device')
      const bench: Bench = {
        gpu,
        tell,
        get device() {
          return (opened.device ??= gpu.open())
        },
        trying: (what) => tell.begun(step.name, what),
      }
      const error = await failureOf(step, bench)
      if (error === undefined) continue
      tell.threw(step.name, error)
      if (isSticky(error)) tell.lost()
      const unopened = step === chosen[0] && opened.device === undefined
      if (unopened) tell.note('no device could be opened: nothing else was tried')
      if (unopened || isSticky(error)) return
    }
  } finally {
    await opened.device?.close()
  }
}

/** What a step throws. */
async function failureOf(step: SmokeStep, bench: Bench): Promise<unknown> {
  try {
    await step.run(bench)
    return undefined
  } catch (error) {
    return error ?? new Error('it threw nothing')
  }
}

/** The part with other steps: for showing that it goes on behind one that fails. */
export function smokeOf(list: readonly SmokeStep[]): Part {
  return {
    says: 'one small try of each thing that only a real GPU can refuse, in seconds, each by itself',
    seconds: 100,
    stepSeconds: 20,
    alone: true,
    run: (gpu, tell) => runSteps(list, gpu, tell),
  }
}

export const smoke: Part = smokeOf(steps)
