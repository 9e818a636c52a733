// The smoke test's steps through the libraries: a few ways to compute a product and a convolution, each launched, recorded and
// made again from what the tuning cache keeps.
import { isSticky } from '../../src/cuda/runtime/failure.ts'
import { type Bench as Tried, type TuningTask, runtimeBench } from '../../src/cuda/tune/index.ts'
import { disagreement } from '../../src/cuda/tune/verify.ts'
import type { Candidate } from '../../src/cuda/work.ts'
import { at } from '../../src/tensor/shape.ts'
import { convTask, equations, few, geometries, productTask, products } from './candidates.ts'
import type { Bench, SmokeStep } from './smoke.ts'

/** So many ways are tried, our own included. */
const mostWays = 3

/** A bench on which everything is recorded and replayed. */
function recording(bench: Tried): Tried {
  const run = (work: () => void): void => {
    const made = bench.clock.record(work)
    try {
      made.time()
    } finally {
      made.release()
    }
  }
  return { ...bench, clock: { ...bench.clock, run } }
}

/** What is wrong with the ways that were tried, by how they were run. */
interface Wrong {
  readonly tried: string[]
  readonly complaints: string[]
}

/** Tries the first ways of a task: launched, recorded, and made again from their recipes. */
function tryWays({ device, tell, trying }: Bench, name: string, task: TuningTask): void {
  const wrong = { launched: empty(), recorded: empty(), 'made again': empty() }
  const bench = runtimeBench(device.runtime, true)
  const reference = task.reference?.()
  if (reference === undefined) throw new Error(`${task.key} has no plain way`)
  const ask = (how: keyof typeof wrong, on: Tried, candidate: Candidate): boolean => {
    trying(`${name} by ${candidate.id}, ${how}`)
    const said = complaint(() => disagreement(on, task, candidate, reference))
    wrong[how].tried.push(candidate.id)
    if (said !== undefined) wrong[how].complaints.push(`${candidate.id}: ${said}`)
    return said === undefined
  }
  let left = mostWays
  for (const candidate of task.candidates()) {
    try {
      // launched first: what is loaded at the first launch cannot be loaded while the stream is recorded
      if (ask('launched', bench, candidate)) ask('recorded', recording(bench), candidate)
      again(task, candidate, (made) => ask('made again', recording(bench), made), tell)
    } finally {
      candidate.release?.()
    }
    if (--left === 0) break
  }
  for (const [how, { tried, complaints }] of Object.entries(wrong))
    if (tried.length > 0)
      tell.compared({
        ...{ name: `${name} ${how}, ways that fail or disagree`, cases: tried.length, worst: complaints.length },
        ...{ tolerance: 0, where: complaints.length > 0 ? complaints.join('; ') : tried.join(', ') },
      })
}

const empty = (): Wrong => ({ tried: [], complaints: [] })

/** What a try says, an error included; one that leaves the GPU unusable ends the step. */
function complaint(action: () => string | undefined): string | undefined {
  try {
    return action()
  } catch (error) {
    if (isSticky(error)) throw error
    return error instanceof Error ? error.message : String(error)
  }
}

/** The candidate made from its recipe, where it has one. */
function again(task: TuningTask, { id, recipe }: Candidate, use: (made: Candidate) => void, tell: Bench['tell']): void {
  if (recipe === undefined) return
  const began = performance.now()
  const made = task.restore(id, recipe)
  tell.note(`${id}: ${recipe.length} bytes of recipe, made again in ${(performance.now() - began).toFixed(1)} ms`)
  if (made === undefined) {
    tell.compared({
      name: `${id} from its recipe`,
      cases: 1,
      worst: 1,
      tolerance: 0,
      where: 'refused: it would be tuned at each start',
    })
    return
  }
  try {
    use(made)
  } finally {
    made.release?.()
  }
}

function dot(bench: Bench, dtype: 'f16' | 'f32'): void {
  const { device } = bench
  const product = at(products, products.length - 1)
  device.use('smoke', () => tryWays(bench, `a product in ${dtype}`, productTask(device, product, dtype, 'tf32')))
}

/** A convolution and its two gradients, of a kind that cuDNN or our Tensor Core kernels do. */
function convolutions(bench: Bench, kind: string, geometry: Parameters<typeof equations>[0]): void {
  const { device } = bench
  for (const equation of equations(geometry, 'f16'))
    device.use('smoke', () => tryWays(bench, `${equation.primitive}, ${kind}`, convTask(device, equation, 'tf32')))
}

const dense = { images: [4, 28, 28, 128], out: 256, kernel: 1, stride: 1, groups: 1 } as const

export const librarySteps: readonly SmokeStep[] = [
  { name: 'cublaslt', small: true, run: (bench) => dot(bench, 'f16') },
  { name: 'cublaslt in f32', small: false, run: (bench) => dot(bench, 'f32') },
  { name: 'cudnn', small: false, run: (bench) => convolutions(bench, '1x1', dense) },
  {
    name: 'grouped',
    small: true,
    run: (bench) => convolutions(bench, 'grouped 3x3', bench.gpu.size === 'small' ? at(few, 0) : at(geometries, 1)),
  },
]
