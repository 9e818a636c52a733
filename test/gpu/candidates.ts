// Every way in which contractions of the model's kinds can be computed on this GPU (our grouped kernels, cuDNN's and
// cuBLASLt's first proposals) against plain kernels of ours: a program only runs the one that was chosen.
import type { ConvEquation } from '../../src/compile/index.ts'
import { convDepth } from '../../src/compile/index.ts'
import { convCandidates, convFromRecipe, convKey, convProblem, deviceSession } from '../../src/cuda/conv/index.ts'
import type { CudaDevice } from '../../src/cuda/device.ts'
import { groupedCandidate } from '../../src/cuda/kernels/grouped.ts'
import { plainCandidate } from '../../src/cuda/kernels/index.ts'
import { type DotEquation, type Precision, matmulProblem, matmulTask } from '../../src/cuda/matmul/index.ts'
import { type Bench, type TuningTask, runtimeBench } from '../../src/cuda/tune/index.ts'
import { disagreement } from '../../src/cuda/tune/verify.ts'
import type { Candidate } from '../../src/cuda/work.ts'
import { abstractEvaluate } from '../../src/tensor/abstract.ts'
import type { ConvParams } from '../../src/tensor/primitives.ts'
import { variable } from '../../src/tensor/program.ts'
import { type Shape, at } from '../../src/tensor/shape.ts'
import { type Gpu, type Tell, attempt } from './part.ts'

type DType = 'f16' | 'bf16' | 'f32'

/** A convolution: images [n, h, w, channels], `out` filters of `kernel` by `kernel`. */
interface Geometry {
  readonly images: readonly [number, number, number, number]
  readonly out: number
  readonly kernel: number
  readonly stride: number
  readonly groups: number
}

const grouped = (width: number, stride: number, size: number): Geometry => ({
  ...{ images: [4, size, size, 32 * width], out: 32 * width, kernel: 3, stride, groups: 32 },
})

/** The model's kinds: the stem, squeezing and expanding, projecting with a stride, and the grouped ones of every stage. */
export const geometries: readonly Geometry[] = [
  ...[grouped(4, 2, 28), grouped(8, 1, 14), grouped(16, 2, 14), grouped(32, 1, 7)],
  { images: [4, 28, 28, 128], out: 256, kernel: 1, stride: 2, groups: 1 },
  grouped(4, 1, 28),
  { images: [4, 28, 28, 128], out: 256, kernel: 1, stride: 1, groups: 1 },
  { images: [2, 64, 64, 3], out: 64, kernel: 7, stride: 2, groups: 1 },
]

export const few: readonly Geometry[] = [{ images: [1, 7, 9, 64], out: 64, kernel: 3, stride: 1, groups: 16 }]

/** [m, n, k], and which side is transposed. */
export const products: readonly (readonly [m: number, n: number, k: number, turned: string])[] = [
  [64, 1000, 2048, 'NT'],
  [64, 2048, 1000, 'NN'],
  [1000, 2048, 64, 'TN'],
  [64, 128, 16, 'NT'],
]

/** cuDNN's proposals for each convolution: compiling one takes up to half a second. */
const mostProposals = 2

/** A convolution and its two gradients. */
export function equations({ images, out, kernel, stride, groups }: Geometry, dtype: DType): readonly ConvEquation[] {
  const pad = (kernel - 1) / 2
  const side = [pad, pad] as const
  const params: ConvParams = { stride: [stride, stride], padding: [side, side], dilation: [1, 1], groups }
  const typed = (shape: Shape) => variable({ shape, dtype })
  const [x, filter] = [typed(images), typed([out, kernel, kernel, images[3] / groups])]
  const y = typed(at(abstractEvaluate('conv2d', [x.type, filter.type], params), 0).shape)
  const [inputShape, filterShape] = [x.type.shape, filter.type.shape]
  return [
    { primitive: 'conv2d', inputs: [x, filter], outputs: [y], params },
    { primitive: 'conv2dInputGrad', inputs: [y, filter], outputs: [x], params: { ...params, inputShape } },
    { primitive: 'conv2dFilterGrad', inputs: [x, y], outputs: [filter], params: { ...params, filterShape } },
  ]
}

/** A convolution as the check asks for it: our own kernel and cuDNN's first proposals against a plain one. */
export function convTask(
  { runtime: { session } }: CudaDevice,
  equation: ConvEquation,
  precision: Precision,
): TuningTask {
  const problem = convProblem(equation, precision)
  const cudnn = deviceSession(session.cudnn, session.dnn)
  return {
    key: convKey(problem),
    inputs: equation.inputs.map(({ type }) => type),
    outputs: equation.outputs.map(({ type }) => type),
    depth: convDepth(equation),
    precision: problem.precision,
    candidates: function* () {
      const own = groupedCandidate(equation)
      if (own !== undefined) yield own
      let left = mostProposals
      for (const candidate of convCandidates(cudnn, problem)) {
        yield candidate
        if (--left === 0) return
      }
    },
    restore: (_, recipe) => (recipe === undefined ? undefined : convFromRecipe(cudnn, problem, recipe)),
    reference: () => plainCandidate(equation),
  }
}

/** A product [m, n, k] likewise. */
export function productTask(
  { runtime }: CudaDevice,
  [m, n, k, turned]: (typeof products)[number],
  dtype: DType,
  precision: Precision,
) {
  const [left, right] = [turned.startsWith('T') ? [1, k, m] : [1, m, k], turned.endsWith('T') ? [1, n, k] : [1, k, n]]
  const contract = [[turned.startsWith('T') ? 1 : 2], [turned.endsWith('T') ? 2 : 1]] as const
  const inputs = [left, right].map((shape) => variable({ dtype, shape }))
  const outputs = [variable({ dtype, shape: [1, m, n] })]
  const equation: DotEquation = { primitive: 'dot', inputs, outputs, params: { batch: [[0], [0]], contract } }
  return matmulTask(runtime.session, matmulProblem(equation, precision), () => plainCandidate(equation))
}

/** Tries every candidate of a task; how many disagree with the plain one, or with themselves the second time. */
function compareAll(bench: Bench, tell: Tell, name: string, task: TuningTask): void {
  const reference = task.reference?.()
  if (reference === undefined) throw new Error(`${task.key} has no plain way`)
  const wrong: string[] = []
  const ids: string[] = []
  const tryOne = (candidate: Candidate): void => {
    ids.push(candidate.id)
    try {
      const said = disagreement(bench, task, candidate, reference)
      if (said !== undefined) wrong.push(`${candidate.id}: ${said}`)
    } finally {
      candidate.release?.()
    }
  }
  for (const candidate of task.candidates()) tryOne(candidate)
  tell.compared({
    ...{ name: `${name}, ways that disagree with the plain one`, cases: ids.length, worst: wrong.length, tolerance: 0 },
    where: wrong[0] ?? ids.join(', '),
  })
}

/** The contractions of one precision of f32: with TF32 those of 16 bits too, where it is no matter. */
export async function compareCandidates(gpu: Gpu, device: CudaDevice, tell: Tell, precision: Precision): Promise<void> {
  const bench = runtimeBench(device.runtime, false)
  const small = gpu.size === 'small'
  const dtypes: readonly DType[] = precision === 'ieee' ? ['f32'] : small ? ['f16'] : ['f16', 'bf16', 'f32']
  const mode = (dtype: DType): string => (dtype === 'f32' ? `f32 ${precision === 'ieee' ? 'IEEE' : 'TF32'}` : dtype)
  for (const dtype of dtypes) {
    // Each engine is compiled for each dtype, which is what takes the time: f16 has them all.
    const chosen = small
      ? few
      : dtype === 'f16'
        ? geometries
        : dtype === 'bf16'
          ? geometries.slice(-3)
          : geometries.slice(-2)
    for (const geometry of chosen)
      for (const equation of equations(geometry, dtype)) {
        const { images, out, kernel, stride, groups } = geometry
        const name = `${equation.primitive} ${images.join('x')} to ${out}, ${kernel}x${kernel}, stride ${stride}, ${groups} groups, ${mode(dtype)}`
        await attempt(tell, name, () =>
          device.use(name, () => compareAll(bench, tell, name, convTask(device, equation, precision))),
        )
      }
    for (const product of small ? products.slice(-1) : products) {
      const [m, n, k, turned] = product
      const name = `dot ${m}x${n}x${k} ${turned}, ${mode(dtype)}`
      await attempt(tell, name, () =>
        device.use(name, () => compareAll(bench, tell, name, productTask(device, product, dtype, precision))),
      )
    }
  }
}
