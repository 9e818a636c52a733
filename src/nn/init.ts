// First values of parameters, drawn on the host by a counter-based generator: a parameter's bits depend on the seed and
// on its path alone, so adding a layer changes no other. Layers say which distribution; see layer.ts.
import { storageOf, type Tensor } from '../tensor/tensor.ts'
import { TraceError, ValueError } from '../tensor/errors.ts'
import { tensor } from '../tensor/ops/create.ts'
import { fillWords, randomBits, seedWords } from '../tensor/philox.ts'
import { at, type Shape, sizeOf } from '../tensor/shape.ts'
import { fillNormal, unit } from './normal.ts'

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

/**
 * @internal First values by path, f32, on the default device: the same seed and path give the same bits. They are drawn
 * into memory that is taken once for all parameters of a model.
 */
export function parameterDraws(
  seed: Seed,
): (path: string, parameter: { readonly shape: Shape; readonly initial: Initializer }) => Tensor {
  const key = seedKey(seed)
  let drawn = new Float32Array(0)
  return (path, { shape, initial }) => {
    const count = sizeOf(shape)
    if (drawn.length < count) drawn = new Float32Array(count)
    const values = drawn.subarray(0, count)
    fill(values, initial, foldPath(key, path))
    return tensor(values, { shape })
  }
}

/** `count` numbers from a distribution; the same key gives the same numbers. */
export function draw(initial: Initializer, key: KeyWords, count: number): Float32Array {
  const out = new Float32Array(count)
  fill(out, initial, key)
  return out
}

function fill(out: Float32Array, initial: Initializer, key: KeyWords): void {
  switch (initial.kind) {
    case 'constant':
      out.fill(initial.value)
      return
    case 'uniform':
      forEachChunk(key, out, (words, part) => {
        for (let i = 0; i < part.length; i++) part[i] = initial.bound * (2 * unit(words[i] ?? 0) - 1)
      })
      return
    case 'normal':
      forEachChunk(key, out, (words, part) => fillNormal(part, words, initial.deviation))
      return
    default:
      initial satisfies never
  }
}

const chunk = 1 << 16 // keeps the words in the cache

/** Calls `body` with each part of `out` and as many words; chunk number `index` has the offset `index`. */
function forEachChunk(key: KeyWords, out: Float32Array, body: (words: Int32Array, part: Float32Array) => void): void {
  const words = new Int32Array(Math.min(chunk, out.length + (out.length & 1)))
  for (let start = 0, index = 0; start < out.length; start += chunk, index++) {
    const part = out.subarray(start, start + chunk)
    const drawn = words.subarray(0, part.length + (part.length & 1))
    fillWords(drawn, key, index, streams.values)
    body(drawn, part)
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
