// The names and layouts under which people hold weights of the ResNet family (NVIDIA's, timm's), to and from ours.
// Our parameter paths are NVIDIA's names. Whether a model wants a weight is the loader's business.

import { PullbackError } from '../../tensor/errors.ts'
import type { FileTensor } from './safetensors.ts'
import { toFloat32 } from './widen.ts'

/** Whose names a set of weights has; `nvidia-20.06` numbers the stages `layer1.` instead of `layers.0.`. */
export type WeightNaming = 'nvidia' | 'nvidia-20.06' | 'timm'

const stage = /^layer(\d+)\./

/** Recognises the naming by the stages and the squeeze modules; torchvision's names count as timm's. */
export function recogniseNaming(names: Iterable<string>): WeightNaming {
  const bare = [...names].map(withoutPrefix)
  if (bare.some((name) => name.startsWith('layers.'))) return 'nvidia'
  return bare.some((name) => name.includes('.squeeze.')) ? 'nvidia-20.06' : 'timm'
}

/** DistributedDataParallel's prefix. */
const withoutPrefix = (name: string): string => name.replace(/^module\./, '')

/**
 * Our path of a weight under any of the known namings, or undefined for batch norm's `num_batches_tracked`, which
 * nothing here uses. A name of no known form is returned as it is, for the loader to report.
 *
 * `layer3.22.se.fc1.weight` and `module.layers.2.22.squeeze.squeeze.weight` are both `layers.2.22.squeeze.squeeze.weight`.
 */
export function parameterPath(name: string): string | undefined {
  const bare = withoutPrefix(name)
  if (bare.endsWith('num_batches_tracked')) return undefined
  return bare
    .replace(stage, (whole, number: string) => (Number(number) > 0 ? `layers.${Number(number) - 1}.` : whole))
    .replace(/\.se\.fc1\./, '.squeeze.squeeze.')
    .replace(/\.se\.fc2\./, '.squeeze.expand.')
}

/** A weight under our path, in our layout: filters `[out, h, w, in/groups]`, linears `[out, in]`, the rest as it was. */
export interface Weight {
  readonly path: string
  readonly shape: readonly number[]
  readonly data: Float32Array
}

/**
 * One weight of a file in any known naming as ours, in float32; undefined for what nothing here uses.
 *
 * @throws PullbackError `file` for an integer dtype
 */
export function importWeight(name: string, tensor: FileTensor): Weight | undefined {
  const path = parameterPath(name)
  if (path === undefined) return undefined
  const data = toFloat32(name, tensor)
  const [out = 0, inner = 0, height = 0, width = 0] = tensor.shape
  if (tensor.shape.length !== 4) return { path, shape: tensor.shape, data }
  // timm's squeeze modules are 1x1 convolutions; ours are linears.
  const isLinear = height === 1 && width === 1 && /(^|\.)(squeeze\.(squeeze|expand)|fc)\.weight$/.test(path)
  if (isLinear) return { path, shape: [out, inner], data }
  return { path, shape: [out, height, width, inner], data: oihwToOhwi(data, [out, inner, height, width]) }
}

/**
 * One of our weights under NVIDIA's name and in its layout (filters `[out, in/groups, h, w]`), so that it loads elsewhere.
 */
export function exportWeight({ path, shape, data }: Weight): Weight {
  const [out = 0, height = 0, width = 0, inner = 0] = shape
  if (shape.length !== 4) return { path, shape, data }
  return { path, shape: [out, inner, height, width], data: ohwiToOihw(data, [out, height, width, inner]) }
}

type Extents4 = readonly [number, number, number, number]

/** Filters `[out, in, h, w]` (the argument's shape) to `[out, h, w, in]`. */
export function oihwToOhwi(data: Float32Array, [out, inner, height, width]: Extents4): Float32Array {
  return swapInner(data, out, inner, height * width)
}

/** Filters `[out, h, w, in]` (the argument's shape) to `[out, in, h, w]`. */
export function ohwiToOihw(data: Float32Array, [out, height, width, inner]: Extents4): Float32Array {
  return swapInner(data, out, height * width, inner)
}

/** `[n, rows, columns]` to `[n, columns, rows]`. */
function swapInner(data: Float32Array, n: number, rows: number, columns: number): Float32Array {
  if (data.length !== n * rows * columns) {
    throw new PullbackError('shape', `[weights] expected ${n * rows * columns} filter elements, got ${data.length}.`)
  }
  const swapped = new Float32Array(data.length)
  let target = 0
  for (let start = 0; start < data.length; start += rows * columns) {
    for (let column = 0; column < columns; column++) {
      for (let row = 0; row < rows; row++) swapped[target++] = data[start + row * columns + column] ?? 0
    }
  }
  return swapped
}

/** The width between the two linears of the squeeze modules of a model. */
export type SqueezeWidth =
  | { readonly kind: 'none' }
  | { readonly kind: 'fixed'; readonly width: number }
  | { readonly kind: 'ratio'; readonly ratio: number }

/**
 * Reads the squeeze width off the shapes of weights under our paths: the same in every block (NVIDIA's 16), or the
 * block's channels divided by a ratio (the paper's 16).
 *
 * @throws PullbackError `file` when the blocks follow neither rule
 */
export function squeezeWidth(shapes: Iterable<readonly [path: string, shape: readonly number[]]>): SqueezeWidth {
  const pairs: { width: number; channels: number }[] = []
  for (const [path, [width = 0, channels = 0]] of shapes) {
    if (path.endsWith('.squeeze.squeeze.weight')) pairs.push({ width, channels })
  }
  const [first] = pairs
  if (first === undefined) return { kind: 'none' }
  const ratio = first.channels / first.width
  if (pairs.every(({ width, channels }) => width * ratio === channels)) return { kind: 'ratio', ratio }
  if (pairs.every(({ width }) => width === first.width)) return { kind: 'fixed', width: first.width }
  const list = pairs.map(({ width, channels }) => `${width} of ${channels}`).join(', ')
  throw new PullbackError(
    'file',
    `[weights] expected squeeze widths that are all alike or a fixed share of the channels, got ${list}.`,
  )
}
