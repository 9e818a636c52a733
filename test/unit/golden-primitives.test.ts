// The reference interpreter against PyTorch's values of every primitive, forward, in f32, f16 and bf16. The bounds are
// derived: the reference works in float64 and rounds each equation's result once.
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { bind, setDefaultDevice } from '../../src/tensor/dispatch.ts'
import type { FloatDType } from '../../src/tensor/dtype.ts'
import { tensor } from '../../src/tensor/ops/create.ts'
import { logSoftmax, logSumExp, mean, softmax } from '../../src/tensor/ops/reduce.ts'
import { isPointwise } from '../../src/tensor/primitives.ts'
import type { PrimitiveName } from '../../src/tensor/primitives.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { readSafetensors } from '../../src/train/files/safetensors.ts'

const folder = fileURLToPath(new URL('../golden/', import.meta.url))

interface Case {
  readonly name: string
  readonly op: string
  readonly params: Readonly<Record<string, unknown>>
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
}

const { cases } = JSON.parse(readFileSync(`${folder}primitives.json`, 'utf8')) as { cases: readonly Case[] }

/** Primitives of the file that are no pointwise ones. */
const others = [
  'reduceSum',
  'reduceMax',
  'reduceMin',
  'moments',
  'dot',
  'conv2d',
  'conv2dInputGrad',
  'conv2dFilterGrad',
  'maxPool2d',
  'avgPool2d',
  'gather',
  'scatterAdd',
]
const isPrimitive = ({ op }: Case): boolean => isPointwise(op as PrimitiveName) || others.includes(op)

/** Functions of several equations; each rounds, so their bound is several roundings instead of one. */
const composed: Readonly<
  Record<string, (x: Tensor, params: { readonly axes: number[]; readonly axis: number }) => Tensor>
> = {
  mean: (x, { axes }) => mean(x, { axes }),
  logSumExp: (x, { axes }) => logSumExp(x, { axes }),
  softmax: (x, { axis }) => softmax(x, axis),
  logSoftmax: (x, { axis }) => logSoftmax(x, axis),
}

/** Layers, activations and losses, which src/nn tests. */
const layers = [
  'batchNorm',
  'linear',
  'squeezeExcite',
  'softmaxCrossEntropy',
  'globalAveragePool',
  'gelu',
  'silu',
  'relu',
]

type Numbers = Float32Array | Int32Array
const golden = new Map<string, { readonly shape: readonly number[]; readonly data: Numbers }>()

beforeAll(async () => {
  setDefaultDevice(referenceDevice())
  for (const [name, { dtype, shape, data }] of (await readSafetensors(`${folder}primitives.safetensors`)).tensors) {
    const { buffer, byteOffset, byteLength } = data
    const list =
      dtype === 'I32'
        ? new Int32Array(buffer as ArrayBuffer, byteOffset, byteLength / 4)
        : new Float32Array(buffer as ArrayBuffer, byteOffset, byteLength / 4)
    golden.set(name, { shape, data: list })
  }
})

function named(name: string): { readonly shape: readonly number[]; readonly data: Numbers } {
  const found = golden.get(name)
  if (found === undefined) throw new Error(`primitives.safetensors has no ${name}`)
  return found
}

function operand(name: string, dtype: FloatDType): Tensor {
  const { shape, data } = named(name)
  return tensor(data, { shape, dtype: data instanceof Int32Array ? 'i32' : dtype })
}

/** norm(a - b) / norm(b) */
function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) throw new Error(`${actual.length} elements instead of ${expected.length}`)
  const norm = (of: (index: number) => number): number => Math.hypot(...Array.from(actual, (_, index) => of(index)))
  return norm((i) => actual[i]! - expected[i]!) / norm((i) => expected[i]!)
}

const reports = new Map<string, { readonly name: string; readonly error: number }[]>()

async function compare(group: string, entry: Case, results: readonly Tensor[], bound: number): Promise<void> {
  const list = reports.get(group) ?? []
  reports.set(group, list)
  expect(results).toHaveLength(entry.outputs.length)
  for (const [index, result] of results.entries()) {
    const name = entry.outputs[index]!
    const { shape, data } = named(name)
    expect(result.shape, name).toEqual(shape)
    const error = relativeError(await result.data(), data)
    list.push({ name, error })
    expect(error, name).toBeLessThanOrEqual(bound)
  }
}

afterAll(() => {
  for (const [group, list] of reports) {
    const worst = list.toSorted((a, b) => b.error - a.error).slice(0, 5)
    console.log(
      `${group}: ${list.length} tensors; worst ${worst.map(({ name, error }) => `${error.toExponential(1)} ${name}`).join(', ')}`,
    )
  }
})

test('every case is run here or belongs to src/nn', () => {
  const strangers = cases.filter(
    (entry) => !isPrimitive(entry) && !(entry.op in composed) && !layers.includes(entry.op),
  )
  expect(strangers.map(({ op }) => op)).toEqual([])
  for (const op of others)
    expect(
      cases.some((entry) => entry.op === op),
      op,
    ).toBe(true)
})

// One rounding is at most half a unit in the last place: 2^-24 of an f32, 2^-11 of an f16, 2^-8 of a bf16; the golden
// value itself is rounded to f32. No result overflows or is subnormal in any of them.
describe.each<[FloatDType, number]>([
  ['f64', 2 ** -24],
  ['f32', 2 ** -24 + 2 ** -24],
  ['f16', 2 ** -11 + 2 ** -24],
  ['bf16', 2 ** -8 + 2 ** -24],
])('%s', (dtype, bound) => {
  test.each(cases.filter(isPrimitive))('$name', async (entry) => {
    const operands = entry.inputs.map((name) => operand(name, dtype))
    await compare(dtype, entry, bind(entry.op as PrimitiveName, operands, entry.params as never), bound)
  })
})

// At most seven equations that round, and the golden value; the differences of inputs (multiples of 1/64) are exact.
test.each(cases.filter(({ op }) => op in composed))('composed: $name', async (entry) => {
  const result = composed[entry.op]!(operand(entry.inputs[0]!, 'f32'), entry.params as never)
  await compare('composed', entry, [result], 8 * 2 ** -24)
})
