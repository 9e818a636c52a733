// The vjp rules against PyTorch's gradients of every primitive, on the reference device. In f64 only the rounding of
// the golden values themselves is left; in f32 each rule's few roundings. Layers and losses are nn-golden.test.ts's.
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { verifyPrograms, vjp } from '../../src/autograd/index.ts'
import { bind, setDefaultDevice } from '../../src/tensor/dispatch.ts'
import type { FloatDType } from '../../src/tensor/dtype.ts'
import * as ops from '../../src/tensor/ops/index.ts'
import type { PrimitiveName } from '../../src/tensor/primitives.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { type FileTensor, readSafetensors } from '../../src/train/files/safetensors.ts'
import { laws } from '../support/primitive-cases.ts'
import { relativeError } from '../support/values.ts'

interface Case {
  readonly name: string
  readonly op: string
  readonly params: Readonly<Record<string, unknown>>
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly cotangents: readonly (string | null)[]
  readonly gradients: readonly (string | null)[]
  readonly ties?: 'first' | 'even'
}

type Composed = (x: Tensor, params: { readonly axes: number[]; readonly axis: number }) => Tensor

/** Functions of several primitives, in src/tensor. */
const composed: Readonly<Record<string, Composed>> = {
  mean: (x, { axes }) => ops.mean(x, { axes }),
  logSumExp: (x, { axes }) => ops.logSumExp(x, { axes }),
  softmax: (x, { axis }) => ops.softmax(x, axis),
  logSoftmax: (x, { axis }) => ops.logSoftmax(x, axis),
  relu: (x) => ops.maximum(x, 0),
}

const folder = fileURLToPath(new URL('../golden/', import.meta.url))
const { cases } = JSON.parse(readFileSync(`${folder}primitives.json`, 'utf8')) as { cases: readonly Case[] }

/** Equal extrema share the gradient here, so the golden cases in which the first takes it all are others'. */
const isOurs = ({ op, ties }: Case): boolean => !(ties === 'first' && (op === 'reduceMax' || op === 'reduceMin'))
const chosen = cases.filter((entry) => (entry.op in laws || entry.op in composed) && isOurs(entry))

let tensors: ReadonlyMap<string, FileTensor>
beforeAll(async () => {
  setDefaultDevice(referenceDevice())
  verifyPrograms(true)
  tensors = (await readSafetensors(`${folder}primitives.safetensors`)).tensors
})

function load(name: string, dtype: FloatDType): Tensor {
  const found = tensors.get(name)
  if (found === undefined) throw new Error(`primitives.safetensors has no ${name}`)
  const { buffer, byteOffset, byteLength } = found.data
  const array = found.dtype === 'I32' ? Int32Array : Float32Array
  const numbers = new array(buffer as ArrayBuffer, byteOffset, byteLength / 4)
  return ops.tensor(numbers, { shape: found.shape, dtype: found.dtype === 'I32' ? 'i32' : dtype })
}

const reports = new Map<FloatDType, { readonly name: string; readonly error: number }[]>([
  ['f64', []],
  ['f32', []],
])

afterAll(() => {
  for (const [dtype, list] of reports) {
    const worst = list.toSorted((a, b) => b.error - a.error).slice(0, 6)
    const shown = worst.map(({ name, error }) => `${error.toExponential(1)} ${name}`)
    console.log(`gradients in ${dtype}: ${list.length} tensors; worst ${shown.join(', ')}`)
  }
})

test('every primitive of the file has a case, those with two conventions the one that shares', () => {
  expect(new Set(cases.filter(({ op }) => op in laws).map(({ op }) => op))).toEqual(
    new Set(chosen.filter(({ op }) => op in laws).map(({ op }) => op)),
  )
  expect(
    chosen.filter(({ name }) => name.startsWith('reduceM') && name.includes('ties')).map(({ ties }) => ties),
  ).toContain('even')
})

// f64: the golden value is rounded to f32, at most 2^-24 of each element. f32: at most eight roundings of 2^-24 in the
// longest rule (moments; softmax and logSumExp with the equations of their own forward pass, sixteen).
describe.each<[FloatDType, number, number]>([
  ['f64', 2 ** -24, 2 ** -24],
  ['f32', 8 * 2 ** -24, 16 * 2 ** -24],
])('%s', (dtype, bound, composedBound) => {
  test.each(chosen)('$name', async ({ op, params, inputs, cotangents, gradients }) => {
    const f = (...xs: Tensor[]): Tensor[] => {
      const written = composed[op]
      if (written === undefined) return [...bind(op as PrimitiveName, xs, params as never)]
      return [written(xs[0]!, params as never)]
    }
    const [outputs, pullback] = vjp(f, ...inputs.map((name) => load(name, dtype)))
    const given = cotangents.map((name, i) => (name === null ? ops.zerosLike(outputs[i]!) : load(name, dtype)))
    const results = pullback(given)
    for (const [i, name] of gradients.entries()) {
      if (name === null) continue
      const error = await relativeError(results[i]!, load(name, 'f64'))
      reports.get(dtype)?.push({ name, error })
      expect(error, name).toBeLessThanOrEqual(op in composed ? composedBound : bound)
    }
  })
})
