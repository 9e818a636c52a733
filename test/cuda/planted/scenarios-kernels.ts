// Scenarios of our own kernels: fused ones as they are printed, launches of many as one, and what the prelude computes.
import * as ops from '../../../src/tensor/ops/index.ts'
import { bindOne } from '../../../src/tensor/dispatch.ts'
import { at, range } from '../../../src/tensor/shape.ts'
import type { Tensor } from '../../../src/tensor/tensor.ts'
import { encode } from '../../../src/tensor/half.ts'
import { type Place, type Results, type Scenario, compile, elements, results, typed, usual } from './scenario.ts'

type Inputs = readonly Tensor[]

/** Sums along rows and columns by one block and by several, beside elements that are kept, all in one plan. */
function reductions({ open }: Place): Promise<Results> {
  const f = (inputs: Inputs): readonly Tensor[] => {
    const [wide, tall, odd] = [at(inputs, 0), at(inputs, 1), at(inputs, 2)]
    const moved = ops.add(tall, 1)
    return [
      moved,
      ops.sum(wide, { axes: [1] }),
      ops.sum(ops.mul(wide, wide), { axes: [1] }),
      ops.sum(ops.mul(tall, 2), { axes: [0] }),
      ops.max(odd, { axes: [0] }),
      ops.sum(odd, { axes: [1] }),
      ops.mul(odd, ops.broadcastTo(ops.sum(odd, { axes: [0] }), odd.shape)),
    ]
  }
  return results(open(), f, [typed([2, 20_011]), typed([2001, 64]), typed([37, 301])], { optimize: 'fuse' })
}

/** A map over rows and columns that many threads share, transposed on the way. */
function maps({ open }: Place): Promise<Results> {
  const f = (inputs: Inputs): readonly Tensor[] => {
    const [x, y] = [at(inputs, 0), at(inputs, 1)]
    return [
      ops.add(ops.transpose(x, [1, 0]), ops.broadcastTo(y, [70, 41])),
      ops.cast(ops.slice(ops.mul(x, 2), [2, 4], [40, 68]), 'f16'),
    ]
  }
  return results(open(), f, [typed([41, 70]), typed([41])], { optimize: 'fuse' })
}

const lengths = range(11).map((k) => 100 + 300 * k)

/** Eleven kernels of one text in one launch, of several blocks each, whose results one more kernel needs. */
function joined({ open }: Place): Promise<Results> {
  const f = (inputs: Inputs): readonly Tensor[] => {
    const [sums, last] = [inputs.map((x) => ops.add(x, x)), at(inputs, inputs.length - 1)]
    const first = ops.slice(at(sums, 10), [0], [100])
    return [...sums, ops.mul(ops.add(at(sums, 0), first), ops.slice(last, [0], [100]))]
  }
  return results(
    open(),
    f,
    lengths.map((length) => typed([length])),
    { runs: 2 },
  )
}

/** Nothing but them. */
function oneLaunch({ open }: Place): Promise<Results> {
  return results(
    open(),
    (inputs) => inputs.map((x) => ops.add(x, x)),
    lengths.map((length) => typed([length])),
  )
}

/** Eight sums, each by several blocks, in one launch: their partial results lie side by side. */
function joinedSums({ open }: Place): Promise<Results> {
  const f = (inputs: Inputs): readonly Tensor[] => inputs.map((x) => ops.sum(x))
  const types = range(8).map((k) => typed([20_000 + 4 * k]))
  return results(open(), f, types, { runs: 2 })
}

/** Updates of three kinds that share a rate, and sums by several blocks, in one launch; then what needs them. */
function mixed({ open }: Place): Promise<Results> {
  const f = (inputs: Inputs): readonly Tensor[] => {
    const [rate, ...rest] = inputs
    if (rate === undefined) throw new RangeError()
    const updated = rest.map((x, k) => {
      const step = ops.mul(x, ops.broadcastTo(rate, x.shape))
      return [ops.add(x, step), ops.sub(step, 1), ops.mul(step, 2)][k % 3] ?? x
    })
    const sums = rest.slice(0, 4).map((x) => ops.sum(x))
    return [...updated, ...sums, ops.add(at(sums, 0), at(sums, 3))]
  }
  const types = range(40).map((k) => typed([k < 4 ? 20_000 + 4 * k : 17 + 31 * k]))
  return results(open(), f, [typed([]), ...types], { optimize: 'fuse', runs: 2 })
}

/** Values that later ones take the memory of, in kernels that could be launched together or later. */
function reuse({ open }: Place): Promise<Results> {
  const f = (inputs: Inputs): readonly Tensor[] => {
    const [x, y] = [at(inputs, 0), at(inputs, 1)]
    let [a, b] = [ops.add(x, 1), ops.mul(y, 2)]
    const sums: Tensor[] = []
    for (const k of range(6)) {
      const c = ops.add(a, b)
      sums.push(ops.sum(ops.mul(c, k)))
      ;[a, b] = [ops.mul(c, -1), ops.add(b, c)]
    }
    return [a, b, ...sums]
  }
  return results(open(), f, [typed([700]), typed([700])], { runs: 2 })
}

/** One sum by one block: the kernel by which others wait in the prelude. */
function oneSum({ open }: Place): Promise<Results> {
  return results(open(), (inputs) => [ops.sum(at(inputs, 0))], [typed([1500])])
}

/** Two sums of one kernel, in registers of different sizes. */
function twoSums({ open }: Place): Promise<Results> {
  const f = (inputs: Inputs): readonly Tensor[] => {
    const x = at(inputs, 0)
    return [ops.sum(x), ops.sum(ops.cast(x, 'f32'))]
  }
  return results(open(), f, [typed([1500], 'f64')], { optimize: 'fuse' })
}

/** A sum by five blocks whose partial results nearly cancel: their order makes its bits. */
async function roundedSum({ open }: Place): Promise<Results> {
  const device = open()
  const type = typed([80_000])
  const sum = compile(device, (inputs) => [ops.sum(at(inputs, 0))], [type])
  const values = range(80_000).map((i) => Math.sin(i * i) + at([6000, 20, -6000, 21, 23], Math.floor(i / 16_000)))
  const [found] = sum.run([device.upload(encode('f32', values), type)])
  return { sum: found === undefined ? [] : await elements(device, found) }
}

/** Overlapping windows with padding, their largest, their mean, and the gradient of the largest. */
function pooling({ open }: Place): Promise<Results> {
  const pool = {
    window: [3, 3],
    stride: [2, 2],
    padding: [
      [1, 0],
      [1, 1],
    ],
  } as const
  const f = (inputs: Inputs): readonly Tensor[] => {
    const [x, cotangent] = [at(inputs, 0), at(inputs, 1)]
    return [bindOne('maxPool2d', [x], pool), bindOne('maxPool2dGrad', [x, cotangent], pool)]
  }
  return results(open(), f, [typed([2, 8, 7, 12]), typed([2, 4, 4, 12])])
}

/** Steps that differ in constants which JSON does not tell apart. */
function constants({ open }: Place): Promise<Results> {
  const f = (inputs: Inputs): readonly Tensor[] => {
    const x = at(inputs, 0)
    return [Infinity, Number.NaN, -Infinity, 0.25].map((value) => ops.add(x, value))
  }
  return results(open(), f, [typed([300])])
}

/** Random bits by key and place. */
function random({ open }: Place): Promise<Results> {
  const f = (inputs: Inputs): readonly Tensor[] => [
    bindOne('randomBits', [at(inputs, 0), at(inputs, 1)], { shape: [300], bits: 24, stream: 3 }),
  ]
  return results(open(), f, [typed([2], 'i32'), typed([], 'i32')], { most: 100 })
}

const special = [1, Number.NaN, 3, -2, Number.NEGATIVE_INFINITY, 0.5, Number.POSITIVE_INFINITY, 2]

/** What a function of rows gives where some have what is no number, what is not finite, or both. */
function notNumbers(f: (x: Tensor) => Tensor) {
  return async ({ open }: Place): Promise<Results> => {
    const device = open()
    const values = range(80).map((i) => (i < 64 ? special[(i * 5 + (i >> 3)) % 8] : i % 8) ?? 0)
    for (const row of [1, 4, 6]) for (const i of range(8)) values[8 * row + i] = i === 3 ? 9 / (4 - row) : -i
    const executable = compile(device, (inputs) => [f(at(inputs, 0))], [typed([10, 8])], { optimize: 'fuse' })
    const [found] = executable.run([device.upload(encode('f32', values), typed([10, 8]))])
    return { found: found === undefined ? [] : await elements(device, found) }
  }
}

/** 16-bit values that are rounded between two operations of one kernel. */
function rounding({ open }: Place): Promise<Results> {
  const f = (inputs: Inputs): readonly Tensor[] => [ops.sub(ops.add(at(inputs, 0), 2049), 2048)]
  return results(open(), f, [typed([300], 'f16')], { optimize: 'fuse' })
}

const indices = typed([500], 'i32')

/** Slices taken, and added, by index. */
function indexed({ open }: Place): Promise<Results> {
  const f = (inputs: Inputs): readonly Tensor[] => {
    const [x, at0] = [at(inputs, 0), at(inputs, 1)]
    const taken = bindOne('gather', [x, ops.abs(at0)], { axis: 0 })
    return [taken, bindOne('scatterAdd', [taken, ops.abs(at0)], { axis: 0, shape: [20, 10] })]
  }
  return results(open(), f, [typed([20, 10]), indices], { most: 19 })
}

export const kernelScenarios = {
  reductions: { tolerance: 0, settings: usual, run: reductions },
  maps: { tolerance: 0, settings: usual, run: maps },
  joined: { tolerance: 0, settings: usual, run: joined },
  mixed: { tolerance: 0, settings: usual, run: mixed },
  'joined sums': { tolerance: 0, settings: usual, run: joinedSums },
  reuse: { tolerance: 0, settings: usual, run: reuse },
  'one launch': { tolerance: 0, settings: usual, run: oneLaunch },
  'two sums': { tolerance: 0, settings: usual, run: twoSums },
  'rounded sum': { tolerance: 1e-4, settings: usual, run: roundedSum },
  pooling: { tolerance: 0, settings: usual, run: pooling },
  constants: { tolerance: 0, settings: usual.slice(0, 1), run: constants },
  random: { tolerance: 0, settings: usual.slice(0, 1), run: random },
  'one sum': { tolerance: 0, settings: usual.slice(0, 2), run: oneSum },
  'the largest': { tolerance: 0, settings: usual.slice(0, 1), run: notNumbers((x) => ops.max(x, { axes: [1] })) },
  'where the largest is': { tolerance: 0, settings: usual.slice(0, 1), run: notNumbers((x) => ops.argMax(x)) },
  finite: { tolerance: 0, settings: usual.slice(0, 1), run: notNumbers((x) => ops.isFinite(x)) },
  rounding: { tolerance: 0, settings: usual.slice(0, 1), run: rounding },
  indexed: { tolerance: 0, settings: usual, run: indexed },
} as const satisfies Record<string, Scenario>
