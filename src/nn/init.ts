// First values of parameters, drawn on the host by a counter-based generator: a parameter's bits depend on the seed and
// on its path alone, so adding a layer changes no other. Layers say which distribution; see layer.ts.
import { storageOf, type Tensor } from '../tensor/tensor.ts'
import { TraceError, ValueError } from '../tensor/errors.ts'
import { tensor } from '../tensor/ops/create.ts'
import { randomBits, seedWords } from '../tensor/philox.ts'
import { at, type Shape, sizeOf } from '../tensor/shape.ts'

/** A distribution of first values. */
export type Initializer =
  | { readonly kind: 'constant'; readonly value: number }
  | { readonly kind: 'normal'; readonly deviation: number }
  /** Uniform in [-bound, bound). */
  | { readonly kind: 'uniform'; readonly bound: number }

/** Where randomness starts: an integer of up to 53 bits, or a concrete key made by `random.key`. */
export type Seed = number | Tensor

type KeyWords = readonly [number, number]

/** Every element the same. */
export function constant(value: number): Initializer {
  return { kind: 'constant', value }
}

/** Whether Kaiming's fan counts the inputs or the outputs of a unit. */
export type Fan = 'fanIn' | 'fanOut'

/**
 * Normal with variance 2 / fan, for layers that a ReLU follows (He et al., 2015). The filter is [out, h, w, in / groups];
 * as in PyTorch, fan-out counts all outputs, whatever the groups.
 */
export function kaimingNormal(filter: Shape, fan: Fan): Initializer {
  const window = at(filter, 1) * at(filter, 2)
  const units = fan === 'fanIn' ? at(filter, 3) : at(filter, 0)
  return { kind: 'normal', deviation: Math.sqrt(2 / (units * window)) }
}

/** Uniform in ±1 / sqrt(fanIn): how PyTorch's linear layers and all biases start. */
export function torchUniform(fanIn: number): Initializer {
  return { kind: 'uniform', bound: 1 / Math.sqrt(fanIn) }
}

/** @internal The two words of a seed. */
export function seedKey(seed: Seed): KeyWords {
  if (typeof seed === 'number') return seedWords(seed)
  const payload = seed.live('init')
  if (payload.kind !== 'stored')
    throw new TraceError(
      '[init] expected a seed or a concrete key, got a traced one. Call init outside of jit and grad.',
    )
  const words = seed.dtype === 'i32' && seed.size === 2 ? payload.storage.device.readSync(storageOf(seed, 'init')) : []
  const [first, second] = words
  if (first === undefined || second === undefined)
    throw new ValueError(`[init] expected a key i32[2], got ${seed.toString()}. Make one with random.key(seed).`)
  return [first, second]
}

/** @internal The first value of the parameter at `path`, on the default device: f32. */
export function drawParameter(key: KeyWords, path: string, parameter: { shape: Shape; initial: Initializer }): Tensor {
  const values = draw(parameter.initial, foldPath(key, path), sizeOf(parameter.shape))
  return tensor(values, { shape: parameter.shape })
}

/** `count` numbers from a distribution; the same key gives the same numbers. */
export function draw(initial: Initializer, key: KeyWords, count: number): Float32Array {
  const out = new Float32Array(count)
  switch (initial.kind) {
    case 'constant':
      return out.fill(initial.value)
    case 'uniform':
      forEachChunk(key, count, (words, start, length) => {
        for (let i = 0; i < length; i++) out[start + i] = initial.bound * (2 * unit(words, i) - 1)
      })
      return out
    case 'normal':
      forEachChunk(key, count, (words, start, length) => fillNormal(out, words, start, length, initial.deviation))
      return out
    default:
      return initial satisfies never
  }
}

/** Box and Muller's transform: each pair of words gives two independent normal numbers. */
function fillNormal(out: Float32Array, words: Int32Array, start: number, length: number, deviation: number): void {
  for (let i = 0; i < length; i += 2) {
    const radius = deviation * Math.sqrt(-2 * Math.log(unit(words, i)))
    const angle = 2 * Math.PI * unit(words, i + 1)
    out[start + i] = radius * Math.cos(angle)
    if (i + 1 < length) out[start + i + 1] = radius * Math.sin(angle)
  }
}

/** A word as a number strictly between 0 and 1. */
function unit(words: Int32Array, index: number): number {
  return (((words[index] ?? 0) >>> 0) + 0.5) * 2 ** -32
}

const chunk = 1 << 16 // keeps the words in the cache

function forEachChunk(
  key: KeyWords,
  count: number,
  body: (words: Int32Array, start: number, length: number) => void,
): void {
  for (let start = 0, index = 0; start < count; start += chunk, index++) {
    const length = Math.min(chunk, count - start)
    body(randomBits(key, index, streams.values, 32, length + (length & 1)), start, length)
  }
}

const streams = { values: 0x696e6974, path: 0x70617468 } as const

/** A key for one path: the seed's key with the hash of the path as counter. */
function foldPath(key: KeyWords, path: string): KeyWords {
  const [first, second] = randomBits(key, hashPath(path), streams.path, 32, 2)
  return [first ?? 0, second ?? 0]
}

/** @internal FNV-1a of a path's UTF-16 units: a signed 32-bit integer. */
export function hashPath(path: string): number {
  let hash = 0x811c9dc5 | 0
  for (let i = 0; i < path.length; i++) hash = Math.imul(hash ^ path.charCodeAt(i), 0x01000193)
  return hash
}
