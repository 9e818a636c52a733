// Printed CUDA kernels, run on the host from the very text that NVRTC gets, against the same kernels run by plain loops, and
// under several orders of blocks and threads.
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Kernel, KernelNode } from '../../src/compile/index.ts'
import { withoutEpilogue } from '../../src/compile/kernel.ts'
import { cudaDialect, printKernel } from '../../src/compile/print/index.ts'
import { decode, encode, roundTo } from '../../src/tensor/half.ts'
import { at, range, sizeOf } from '../../src/tensor/shape.ts'
import { runs } from '../runs.ts'
import { SimKernels } from '../sim/kernels.ts'
import { runKernel } from '../support/plan-evaluator.ts'
import { arbitraryEpilogue, expectEpilogue } from './epilogues.ts'
import { arbitrarySample, denseAccess, expectAgreement, reduceKernel } from './print-samples.ts'

/** Kernels that one run of the compiler takes. */
const batch = 40

describe('a printed CUDA kernel computes what the kernel means, whatever the order of its threads', () => {
  it.each([
    ['maps of every dtype, to the bit', false],
    ['reductions', true],
  ])('random %s', { timeout: 120_000 }, (_name, reduce) => {
    const samples = fc.array(arbitrarySample({ reduce }), { minLength: batch, maxLength: batch })
    const property = fc.property(samples, (list) => {
      const sim = new SimKernels(list.map(({ kernel }) => kernel))
      try {
        for (const sample of list) expectAgreement(sim, sample)
      } finally {
        sim.close()
      }
    })
    fc.assert(property, { numRuns: runs(2), endOnFailure: true })
  })
})

describe('an epilogue', () => {
  it('makes of the results what it means', { timeout: 120_000 }, () => {
    const samples = fc.array(arbitraryEpilogue(), { minLength: batch, maxLength: batch })
    const property = fc.property(samples, (list) => {
      const pairs = list.map((sample) => ({ sample, alone: withoutEpilogue(sample.kernel) }))
      const sim = new SimKernels(pairs.flatMap(({ sample, alone }) => [sample.kernel, alone]))
      try {
        for (const { sample, alone } of pairs)
          for (const seed of [0, 5])
            expectEpilogue((kernel, inputs, outputs) => sim.run(kernel, inputs, outputs, seed), sample, alone)
      } finally {
        sim.close()
      }
    })
    fc.assert(property, { numRuns: runs(2), endOnFailure: true })
  })
})

describe('large kernels', () => {
  /** The last says whether blocks share sums. */
  const shapes: readonly (readonly [string, readonly number[], readonly ('map' | 'reduce')[], boolean])[] = [
    ['rows of 24 columns, shared by blocks', [20_000, 24], ['reduce', 'map'], true],
    ['rows of 1050 columns', [300, 1050], ['reduce', 'map'], false],
    ['rows of one column, shared by blocks', [70_001, 1], ['reduce', 'map'], true],
    ['along a few long rows, shared by blocks', [3, 70_001], ['map', 'reduce'], true],
    ['along many short rows', [5000, 7], ['map', 'reduce'], false],
    ['over the axes around one that stays', [6, 10, 50, 64], ['reduce', 'map', 'reduce', 'map'], false],
    ['all elements, shared by blocks', [120_000], ['reduce'], true],
  ]
  const kernels = shapes.flatMap(([, extents, roles]) =>
    (['f32', 'f16'] as const).map((dtype) => reduceKernel(dtype, extents, roles)),
  )
  let sim: SimKernels
  beforeAll(() => {
    sim = new SimKernels(kernels)
  })
  afterAll(() => {
    sim.close()
  })

  it.each(shapes)('sums %s', { timeout: 60_000 }, (name, extents, roles, shared) => {
    const index = shapes.findIndex(([known]) => known === name)
    for (const kernel of kernels.slice(2 * index, 2 * index + 2)) {
      const { dtype } = at(kernel.inputs, 0)
      const values = range(sizeOf(extents)).map((i) => roundTo(dtype, ((i * 7919) % 257) / 64 - 2.1))
      const count = sizeOf(extents.filter((_extent, axis) => roles[axis] === 'map'))
      const outputs = range(2).map(() => ({ dtype: 'f32', count }) as const)
      const results = [0, 5].map((seed) => sim.run(kernel, [encode(dtype, values)], outputs, seed))
      expect(results[1]).toEqual(results[0])
      const expected = range(2).map(() => new Array<number>(count).fill(0))
      const kept = denseAccess(
        extents,
        roles.map((role) => role === 'map'),
        0,
      ).strides
      values.forEach((value, i) => {
        const place = placeOf(i, extents, kept)
        at(expected, 0)[place] = at(at(expected, 0), place) + value
        at(expected, 1)[place] = at(at(expected, 1), place) + Math.fround(value * value)
      })
      const squares = at(expected, 1)
      at(results, 0).forEach((sums, i) => {
        decode('f32', sums).forEach((sum, place) => {
          // |x| <= x^2 + 1/4; chains of at most 64 additions in a run, 32 runs, and two trees.
          const magnitude = at(squares, place) + sizeOf(extents) / count / 4
          expect(Math.abs(sum - at(at(expected, i), place))).toBeLessThanOrEqual(magnitude * 2 ** -24 * 128)
        })
      })
      const { launches, counterBytes = 0 } = printKernel(kernel, cudaDialect)
      expect([launches.length, counterBytes > 0]).toEqual([1, shared])
    }
  })
})

describe('a map whose threads have several rows', () => {
  it('computes them all, in batches of which the last is not full', { timeout: 60_000 }, () => {
    // Three columns are a vector of one element each; 2^18 threads have three rows each, and some of them two.
    const [rows, columns, count] = [262_201, 3, 6]
    const load = (input: number): KernelNode => ({ op: 'load', dtype: 'f64', input })
    const kernel: Kernel = {
      axes: [rows, columns].map((extent) => ({ extent, role: 'map' })),
      inputs: [
        ...range(count).map((offset) => ({ dtype: 'f64', strides: [2, 1], offset }) as const),
        { dtype: 'f64', strides: [0, 1], offset: 0 },
      ],
      nodes: [
        ...range(count + 1).map(load),
        ...range(count).map((i): KernelNode => {
          const args = [i === 0 ? count : count + i, i]
          return { op: i % 2 === 0 ? 'sub' : 'add', dtype: 'f64', args }
        }),
      ],
      stores: [{ node: 2 * count, dtype: 'f64', output: 0, strides: [columns, 1], offset: 0 }],
      reductions: [],
    }
    const sources = printKernel(kernel, cudaDialect).launches.map(({ source }) => source.text)
    expect(sources).toEqual([expect.stringContaining('for (int j = 0; j < 2; ++j)')])
    const x = Float64Array.from({ length: 2 * rows + columns + count }, (_, i) => (i * 7919) % 257)
    const held = Float64Array.of(1000, 2000, 3000)
    const expected = Float64Array.from({ length: rows * columns }, (_, i) => {
      const [row, column] = [Math.floor(i / columns), i % columns]
      const sum = range(count).reduce((sum, k) => sum + (k % 2 === 0 ? -1 : 1) * at(x, 2 * row + column + k), 0)
      return at(held, column) + sum
    })
    const sim = new SimKernels([kernel])
    try {
      for (const seed of [0, 5]) {
        const [found] = sim.run(
          kernel,
          [...range(count).map(() => x), held],
          [{ dtype: 'f64', count: rows * columns }],
          seed,
        )
        expect(found instanceof Float64Array && found.every((value, i) => value === expected[i]), `seed ${seed}`).toBe(
          true,
        )
      }
    } finally {
      sim.close()
    }
  })
})

function placeOf(i: number, extents: readonly number[], strides: readonly number[]): number {
  let [rest, place] = [i, 0]
  for (const axis of range(extents.length).reverse()) {
    place += (rest % at(extents, axis)) * at(strides, axis)
    rest = Math.floor(rest / at(extents, axis))
  }
  return place
}

describe('nodes that random kernels do not have', () => {
  const functions = ['exp', 'log', 'sqrt', 'rsqrt', 'sin', 'cos', 'tanh', 'erf', 'sigmoid', 'floor'] as const
  const extents = [33, 8]
  const access = denseAccess(extents, [true, true], 0)
  const base = {
    axes: extents.map((extent) => ({ extent, role: 'map' }) as const),
    reductions: [],
  }
  const kernelOf = (op: (typeof functions)[number]): Kernel => ({
    ...base,
    inputs: [{ dtype: 'f32', ...access }],
    nodes: [
      { op: 'load', dtype: 'f32', input: 0 },
      { op, dtype: 'f32', args: [0] },
    ],
    stores: [{ node: 1, dtype: 'f32', output: 0, ...access }],
  })
  const philox = (strides: readonly number[], bits: number): Kernel => ({
    ...base,
    inputs: range(3).map((offset) => ({ dtype: 'i32', strides: [0, 0], offset })),
    nodes: [
      ...range(3).map((input): KernelNode => ({ op: 'load', dtype: 'i32', input })),
      { op: 'philox', dtype: 'i32', args: [0, 1, 2], access: { strides, offset: 3 }, bits, stream: 5 },
    ],
    stores: [{ node: 3, dtype: 'i32', output: 0, ...access }],
  })
  const halves: Kernel = {
    axes: [{ extent: 65_536, role: 'map' }],
    inputs: [{ dtype: 'f16', strides: [1], offset: 0 }],
    nodes: [
      { op: 'load', dtype: 'f16', input: 0 },
      { op: 'cast', dtype: 'f32', args: [0] },
    ],
    stores: [
      { node: 0, dtype: 'f16', output: 0, strides: [1], offset: 0 },
      { node: 1, dtype: 'f32', output: 1, strides: [1], offset: 0 },
    ],
    reductions: [],
  }
  const kernels = functions.map(kernelOf)
  const random = [philox([8, 1], 32), philox([1, 33], 32), philox([8, 1], 8)]
  let sim: SimKernels
  beforeAll(() => {
    sim = new SimKernels([...kernels, ...random, halves])
  })
  afterAll(() => {
    sim.close()
  })

  it.each(functions)('%s is within 2 ulp', (op) => {
    const values = range(264).map((i) => Math.fround((i - 100) / 13))
    const kernel = at(kernels, functions.indexOf(op))
    const expected = new Array<number>(264).fill(0)
    runKernel(kernel, [values], [expected])
    const [got] = sim.run(kernel, [Float32Array.from(values)], [{ dtype: 'f32', count: 264 }])
    expected.forEach((value, i) => {
      const actual = Number(got?.[i])
      if (Number.isFinite(value))
        expect(Math.abs(actual - value)).toBeLessThanOrEqual(2 ** -22 * Math.max(2 ** -126, Math.abs(value)))
      else expect(actual).toBe(value)
    })
  })

  it.each([0, 1, 2])('Philox gives the reference bits (%i)', (which) => {
    const keys = [123456789, -987654321, 42]
    const kernel = at(random, which)
    const expected = new Array<number>(264).fill(0)
    runKernel(kernel, [keys, keys, keys], [expected])
    const array = Int32Array.from(keys)
    const [got] = sim.run(kernel, [array, array, array], [{ dtype: 'i32', count: 264 }])
    expect([...(got ?? [])]).toEqual(expected)
  })

  it('f16 survives the registers, all 65,536 patterns', () => {
    const patterns = Uint16Array.from({ length: 65_536 }, (_, i) => i)
    const outputs = [{ dtype: 'f16', count: 65_536 } as const, { dtype: 'f32', count: 65_536 } as const]
    const [same, wide] = sim.run(halves, [patterns], outputs)
    const expected = decode('f16', patterns)
    const back = decode('f16', Uint16Array.from(same ?? []))
    expect([...back]).toEqual([...expected])
    expect([...(wide ?? [])]).toEqual([...expected])
  })
})

describe('reductions that random kernels seldom have, of numbers whose sums are exact', () => {
  const extents = [3, 4, 5, 16]
  const load = (dtype: 'f32' | 'f64', input: number) => ({ op: 'load', dtype, input }) as const
  const sum = (node: number, dtype: 'f32' | 'f64', output: number) =>
    ({ op: 'sum', node, dtype, output, strides: [0, 16, 0, 1], offset: 0 }) as const
  const axes = extents.map((extent, axis) => ({ extent, role: axis % 2 === 0 ? 'reduce' : 'map' }) as const)
  const full = denseAccess(extents, [true, true, true, true], 0)
  const kernels: Kernel[] = [
    {
      axes,
      inputs: [
        { dtype: 'f32', ...full },
        // The same for every row of the inner reduced axis, but not of the outer one.
        { dtype: 'f32', strides: [16, 0, 0, 1], offset: 0 },
        { dtype: 'f32', strides: [1, 0, 0, 0], offset: 0 },
      ],
      nodes: [
        load('f32', 0),
        load('f32', 1),
        load('f32', 2),
        { op: 'mul', dtype: 'f32', args: [0, 1] },
        { op: 'add', dtype: 'f32', args: [3, 2] },
      ],
      stores: [],
      reductions: [sum(4, 'f32', 0)],
    },
    {
      // Accumulators of 8, 4 and 8 bytes take turns in the block's shared memory.
      axes,
      inputs: [
        { dtype: 'f64', ...full },
        { dtype: 'f32', ...full },
      ],
      nodes: [load('f64', 0), load('f32', 1)],
      stores: [],
      reductions: [sum(0, 'f64', 0), sum(1, 'f32', 1), { ...sum(0, 'f64', 2), op: 'max' }],
    },
  ]
  let sim: SimKernels
  beforeAll(() => {
    sim = new SimKernels(kernels)
  })
  afterAll(() => {
    sim.close()
  })

  it.each([0, 1, 2, 3, 4, 5])('in order %i', (seed) => {
    for (const kernel of kernels) {
      const arrays = kernel.inputs.map((_input, i) => range(960).map((j) => ((j * 7 + i * 3) % 61) - 30))
      const expected = kernel.reductions.map(() => new Array<number>(64).fill(0))
      runKernel(kernel, arrays, expected)
      const inputs = kernel.inputs.map(({ dtype }, i) => encode(dtype, at(arrays, i)))
      const outputs = kernel.reductions.map(({ dtype }) => ({ dtype, count: 64 }))
      const got = sim.run(kernel, inputs, outputs, seed)
      expect(got.map((array, i) => [...decode(at(outputs, i).dtype, array)])).toEqual(expected)
    }
  })
})

it('the text is one for all extents, strides and constants of a structure and width', () => {
  const textOf = (rows: number, columns: number, factor: number): string => {
    const scaled: Kernel = {
      axes: [
        { extent: rows, role: 'map' },
        { extent: columns, role: 'map' },
      ],
      inputs: [
        { dtype: 'f16', strides: [columns, 1], offset: 0 },
        { dtype: 'f32', strides: [0, 1], offset: 8 },
      ],
      nodes: [
        { op: 'load', dtype: 'f16', input: 0 },
        { op: 'cast', dtype: 'f32', args: [0] },
        { op: 'load', dtype: 'f32', input: 1 },
        { op: 'constant', dtype: 'f32', value: factor },
        { op: 'mul', dtype: 'f32', args: [2, 3] },
        { op: 'add', dtype: 'f32', args: [1, 4] },
      ],
      stores: [{ node: 5, dtype: 'f16', output: 0, strides: [columns, 1], offset: 0 }],
      reductions: [],
    }
    return printKernel(scaled, cudaDialect)
      .launches.map(({ source }) => source.text)
      .join('')
  }
  expect(textOf(10, 24, 3)).toBe(textOf(500_000, 1024, -0.1))
  expect(textOf(10, 25, 3)).not.toBe(textOf(10, 24, 3))
})
