// Kernels with an epilogue for tests: what is computed from finished results must be what the epilogue means, evaluated on
// the very results that the kernel gave.
import fc from 'fast-check'
import { expect } from 'vitest'
import type { Kernel, KernelNode } from '../../src/compile/index.ts'
import { epilogueAlone } from '../../src/compile/kernel.ts'
import { type DType, type StorageArray, dtypes } from '../../src/tensor/dtype.ts'
import { decode, encode } from '../../src/tensor/half.ts'
import { at, sizeOf, zip } from '../../src/tensor/shape.ts'
import { runKernel } from '../support/plan-evaluator.ts'
import { type Sample, addNode, arbitrarySample, denseAccess, specialValues } from './print-samples.ts'

/** Runs a kernel; `outputs` are those of its step. */
export type RunKernel = (
  kernel: Kernel,
  inputs: readonly StorageArray[],
  outputs: readonly { readonly dtype: DType; readonly count: number }[],
) => StorageArray[]

/** Random reductions with an epilogue that reads their result and one operand more; a sample may have none. */
export function arbitraryEpilogue(): fc.Arbitrary<Sample> {
  const codes = fc.array(fc.array(fc.nat(1 << 12), { minLength: 4, maxLength: 4 }), { minLength: 1, maxLength: 5 })
  return fc
    .tuple(arbitrarySample({ reduce: true }), codes, fc.constantFrom(...dtypes), fc.nat(1 << 16))
    .map(([sample, chosen, dtype, layout]) => withEpilogue(sample, chosen, dtype, layout))
}

function withEpilogue(
  { kernel, arrays }: Sample,
  codes: readonly (readonly number[])[],
  dtype: DType,
  layout: number,
): Sample {
  const [reduction] = kernel.reductions
  if (reduction === undefined || kernel.reductions.length > 1) return { kernel, arrays }
  const extents = kernel.axes.map(({ extent }) => extent)
  const kept = kernel.axes.map(({ role }) => role === 'map')
  const place = denseAccess(extents, kept, layout)
  const { strides, offset } = reduction
  const nodes: KernelNode[] = [
    { op: 'load', dtype: reduction.dtype, input: 0 },
    { op: 'load', dtype, input: 1 },
  ]
  for (const code of codes) addNode(nodes, code, place)
  const last = nodes.length - 1
  const epilogue = {
    inputs: [
      { dtype: reduction.dtype, strides, offset, reduction: 0 },
      { dtype, ...place },
    ],
    nodes,
    stores: [{ ...place, node: last, dtype: at(nodes, last).dtype, output: 1 }],
  }
  return { kernel: { ...kernel, epilogue }, arrays: [...arrays, specialValues(dtype, countOf(kernel), 3)] }
}

function countOf({ axes }: Kernel): number {
  return sizeOf(axes.filter(({ role }) => role === 'map').map(({ extent }) => extent))
}

/** Fails unless the results are those of the kernel `alone`, and the epilogue's what it means of them. */
export function expectEpilogue(run: RunKernel, { kernel, arrays }: Sample, alone: Kernel): void {
  const end = epilogueAlone(kernel)
  if (end === undefined) return
  const count = countOf(kernel)
  const dtypesRead = [...kernel.inputs, ...end.kernel.inputs.slice(1)].map(({ dtype }) => dtype)
  const inputs = zip(dtypesRead, arrays).map(([dtype, values]) => encode(dtype, values))
  const outputs = [at(kernel.reductions, 0), at(end.kernel.stores, 0)].map(({ dtype }) => ({ dtype, count }))
  const [result, made] = run(kernel, inputs, outputs)
  expect(result).toEqual(run(alone, inputs.slice(0, -1), outputs.slice(0, 1))[0])
  const expected = new Array<number>(count).fill(Number.NaN)
  const given = decode(at(outputs, 0).dtype, result ?? new Float32Array())
  if (count > 0) runKernel(end.kernel, [[...given], [...at(arrays, arrays.length - 1)]], [[], expected])
  const got = decode(at(outputs, 1).dtype, made ?? new Float32Array())
  for (let i = 0; i < count; i++)
    if (!Object.is(got[i], expected[i]))
      expect.fail(`element ${i}: expected ${expected[i]}, got ${got[i]}\n${JSON.stringify(kernel)}`)
}
