// Training steps of a small SE-ResNeXt on a given device, with everything that comes of them: for comparing devices, and
// ways to run one. Groups of 4 channels, as the 101-layer model has them, and a squeeze in each block.
import { resnet } from '../../src/nn/index.ts'
import type { Device, OptimizeLevel } from '../../src/tensor/device.ts'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'
import { scope } from '../../src/tensor/lifetime.ts'
import { tensor } from '../../src/tensor/ops/index.ts'
import { at, range, zip } from '../../src/tensor/shape.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { type Tree, flatten } from '../../src/tensor/tree.ts'
import { type Precision, dynamic, initTrainState, makeTrainStep, sgd } from '../../src/train/index.ts'

const shape = [2, 32, 32, 3] as const
const model = resnet({ layers: [1, 1], widths: 64, expansion: 2, cardinality: 16, squeeze: { ratio: 16 }, classes: 10 })

/** The losses and every leaf of the state after some steps, by path. */
export type Outcome = ReadonlyMap<string, Float64Array>

/** How it is trained. */
export interface Run {
  readonly precision: Precision
  readonly optimize?: OptimizeLevel
  /** 4 by default: launched one by one, recorded, and replayed twice. */
  readonly steps?: number
  /** Told after each step, when its loss has been read and all that it made but the state was given back. */
  readonly stepped?: (step: number) => void | Promise<void>
}

function batchOf(index: number): { readonly images: Tensor; readonly labels: Tensor } {
  const pixels = range(shape.reduce((size, extent) => size * extent, 1))
  const images = Uint8Array.from(pixels, (i) => (Math.imul(i + 7 * index, 2654435761) >>> 24) & 255)
  return { images: tensor(images, { shape }), labels: tensor(Int32Array.of(index % 10, 9 - (index % 10))) }
}

/** Trains from the same beginning each time. The device stays the default one. */
export async function trainSmall(
  device: Device,
  { precision, optimize = 'fuse', steps = 4, stepped }: Run,
): Promise<Outcome> {
  setDefaultDevice(device)
  const optimizer = sgd({ momentum: 0.9, weightDecay: 1e-4 })
  const step = makeTrainStep(model, { optimizer, precision, labelSmoothing: 0.1, optimize })
  const lossScale = precision === 'f16' ? dynamic({ init: 1024 }) : undefined
  const chosen = { optimizer, seed: 0, ...(lossScale === undefined ? {} : { lossScale }) }
  let state = await initTrainState(model.init(0, shape), chosen)
  const losses: number[] = []
  for (const index of range(steps)) {
    state = await scope(async () => {
      const [next, metrics] = step(state, batchOf(index), tensor(0.01))
      losses.push(await metrics.loss.item())
      return next
    })
    await stepped?.(index)
  }
  const { leaves, structure } = flatten(state as unknown as Tree<Tensor>)
  const values = await Promise.all(leaves.map((leaf) => leaf.data()))
  for (const leaf of leaves) leaf.dispose()
  step.clear()
  const outcome = zip(structure.paths, values).map(([path, value]) => [path, Float64Array.from(value)] as const)
  return new Map([...outcome, ['losses', Float64Array.from(losses)] as const])
}

/** norm(a - b) / norm(b) of the worst leaf, and its path; throws where other leaves are compared. */
export function worstLeaf(found: Outcome, expected: Outcome): readonly [error: number, path: string] {
  if ([...found.keys()].join() !== [...expected.keys()].join()) throw new Error('expected leaves of the same paths')
  const errors = [...expected].map(([path, values]) => {
    const mine = found.get(path) ?? new Float64Array()
    const norm = (list: Float64Array): number => Math.hypot(...list)
    const difference = norm(values.map((value, i) => at(mine, i) - value))
    return [difference / (norm(values) || 1), path] as const
  })
  return errors.reduce((a, b) => (b[0] > a[0] || Number.isNaN(b[0]) ? b : a))
}

/** The parts of an outcome by what rounding does to them: losses, statistics, parameters, and momenta, which are gradients. */
export const outcomeParts = {
  losses: 'losses',
  state: 'running statistics',
  params: 'parameters',
  optimizer: 'momenta',
} as const

/** The leaves of one part. */
export function partOf(outcome: Outcome, part: keyof typeof outcomeParts): Outcome {
  return new Map([...outcome].filter(([path]) => path === part || path.startsWith(`${part}.`)))
}

/** The paths of leaves with an element of other bits. */
export function differingLeaves(found: Outcome, expected: Outcome): readonly string[] {
  return [...expected].flatMap(([path, values]) => {
    const mine = found.get(path)
    return mine?.length === values.length && values.every((value, i) => Object.is(value, mine[i])) ? [] : [path]
  })
}
