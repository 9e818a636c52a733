// Steps that are launched together: the order keeps every dependency, one launch does what many did, and the texts compile.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Kernel, Step } from '../../src/compile/index.ts'
import { blockThreads, cudaDialect, printKernel } from '../../src/compile/print/index.ts'
import type { BoundKernel } from '../../src/cuda/lower.ts'
import { cudaOptions, cudaPrelude } from '../../src/cuda/prelude.ts'
import { argumentBytes, mixedLaunches } from '../../src/cuda/mixed.ts'
import { arrangeSteps, launchTogether } from '../../src/cuda/together.ts'
import type { Lowered } from '../../src/cuda/work.ts'
import { at, range, zip } from '../../src/tensor/shape.ts'
import { SimSources } from '../sim/sources.ts'
import { nvrtcOrAbsent } from './print-nvrtc.ts'
import { reduceKernel } from './print-samples.ts'

interface Sketch {
  readonly text: number
  readonly after: readonly number[]
  readonly bytes: number
}

/** Programs as far as the arrangement sees them: which steps have the same text, and who waits for whom. */
const sketches = fc
  .array(
    fc.record({
      text: fc.integer({ min: -1, max: 2 }),
      waits: fc.array(fc.nat(), { maxLength: 3 }),
      large: fc.boolean(),
    }),
    { maxLength: 300 },
  )
  .map((list) =>
    list.map(({ text, waits, large }, index): Sketch => {
      const after = index === 0 ? [] : [...new Set(waits.map((wait) => Math.max(0, index - 1 - (wait % 40))))]
      return { text, after: after.sort((a, b) => a - b), bytes: large && text === 0 ? 1e9 : 100 }
    }),
  )

function stepsOf(list: readonly Sketch[]): { readonly steps: readonly Step[]; readonly lowered: readonly Lowered[] } {
  const steps = list.map(({ text, after, bytes }) => ({ kind: text < 0 ? 'library' : 'kernel', after, bytes }) as Step)
  const lowered = list.map(({ text }): Lowered => {
    const kernel = { source: { name: `k${text}`, text: '' }, blocks: 1, threads: 256, sharedBytes: 0 } as const
    return { works: [{ kind: 'kernel', ...kernel, pointers: [], numbers: range(6) }], scratchBytes: 0 }
  })
  return { steps, lowered }
}

const nvrtc = nvrtcOrAbsent('kernels that are launched together are not compiled')

describe('the arrangement', () => {
  it('has every step once, behind all that it waits for', () => {
    fc.assert(
      fc.property(sketches, (list) => {
        const { steps, lowered } = stepsOf(list)
        const order = arrangeSteps(steps, lowered)
        const position = new Map(order.flatMap((group, place) => group.map((step) => [step, place] as const)))
        expect(order.flat().sort((a, b) => a - b)).toEqual(range(list.length))
        list.forEach(({ after }, step) => {
          for (const before of after) expect(position.get(before) ?? NaN).toBeLessThan(position.get(step) ?? NaN)
        })
      }),
    )
  })

  it('launches together only kernels that do not wait for each other, few only of one text; no large ones, no calls', () => {
    fc.assert(
      fc.property(sketches, (list) => {
        const { steps, lowered } = stepsOf(list)
        for (const group of arrangeSteps(steps, lowered)) {
          if (group.length === 1) continue
          const members = group.map((step) => at(list, step))
          if (group.length < 32) expect(new Set(members.map(({ text }) => text)).size).toBe(1)
          expect(members.every(({ text, bytes }) => text >= 0 && bytes < 1e6)).toBe(true)
          expect(members.some(({ after }) => after.some((before) => group.includes(before)))).toBe(false)
        }
      }),
    )
  })

  it('puts a hundred independent kernels of one text into one launch', () => {
    const { steps, lowered } = stepsOf(range(100).map(() => ({ text: 1, after: [], bytes: 100 })))
    expect(arrangeSteps(steps, lowered).length).toBe(1)
  })

  it('puts kernels of several texts into one launch where they are many, whatever stands between them', () => {
    const list = range(99).map((index) => ({ text: (index % 4) - 1, after: [], bytes: 100 }))
    const { steps, lowered } = stepsOf(list)
    const order = arrangeSteps(steps, lowered)
    expect(order.filter((group) => group.length > 1).map((group) => group.length)).toEqual([74])
    const few = stepsOf(list.slice(0, 30))
    expect(arrangeSteps(few.steps, few.lowered).filter((group) => group.length > 1).length).toBe(3)
  })
})

/** Sums and sums of squares of three rows of so many elements, as bound kernels with three slots each. */
function sums(extents: readonly number[]): readonly BoundKernel[] {
  return extents.map((extent, index) => {
    const { launches } = printKernel(reduceKernel('f32', [3, extent], ['map', 'reduce']), cudaDialect)
    const { source, parts, pointers, numbers } = at(launches, 0)
    expect(launches.length).toBe(1)
    const places = pointers.map((pointer) => ({
      slot: 3 * index + (pointer.kind === 'operand' ? pointer.index : 0),
      offset: 0,
    }))
    const shape = { blocks: parts, threads: blockThreads, sharedBytes: 0 } as const
    return { kind: 'kernel', source, ...shape, places, numbers, step: index, label: `sum ${index}` }
  })
}

describe('one launch for many', () => {
  const extents = [5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25]

  it('does what they did, whatever the order of threads', () => {
    const [together] = launchTogether(sums(extents).map((kernel) => [kernel]))
    if (together?.kind !== 'kernel') throw new Error('expected a kernel')
    const kernels = new SimSources([together.source])
    try {
      const inputs = extents.map((extent, index) =>
        Float32Array.from(range(3 * extent), (i) => ((i * 7 + index) % 11) - 5),
      )
      const rowsOf = (input: Float32Array, extent: number) =>
        range(3).map((row) => input.subarray(row * extent, (row + 1) * extent))
      const expected = zip(inputs, extents).flatMap(([input, extent]) => [
        rowsOf(input, extent).map((row) => row.reduce((a, b) => a + b, 0)),
        rowsOf(input, extent).map((row) => row.reduce((a, b) => a + b * b, 0)),
      ])
      const operandOf = (slot: number): number => {
        const [kernel, operand] = [Math.floor(slot / 3), slot % 3]
        return operand === 0 ? kernel : extents.length + 2 * kernel + operand - 1
      }
      const pointers = together.places.map(({ slot }) => ({ kind: 'operand', index: operandOf(slot) }) as const)
      for (const seed of [0, 1, 2]) {
        const outputs = expected.map(() => ({ dtype: 'f32', count: 3 }) as const)
        const found = kernels.run([{ ...together, pointers }], 0, inputs, outputs, seed)
        expect(found.map((result) => [...result])).toEqual(expected)
      }
    } finally {
      kernels.close()
    }
  })

  it.skipIf(nvrtc === undefined)('compiles with NVRTC, without a copy of its arguments on the stack', () => {
    const [together] = launchTogether(sums(extents).map((kernel) => [kernel]))
    if (together?.kind !== 'kernel' || nvrtc === undefined) throw new Error('expected a kernel')
    const options = [...cudaOptions, '--gpu-architecture=sm_90', '--ptxas-options=-v']
    const { status, log } = nvrtc.compile(`${cudaPrelude}\n${together.source.text}`, options)
    expect(status, log.slice(0, 2000)).toBe(0)
    expect(log).toMatch(/\b0 bytes stack frame/)
  })
})

/** x s + y, in place of y, as a kernel of so many elements whose one s all kernels share: slots 0 for s, then x and y. */
function axpy(extent: number, index: number, first: number): BoundKernel {
  const dense = { strides: [1], offset: 0, dtype: 'f32' } as const
  const kernel: Kernel = {
    axes: [{ extent, role: 'map' }],
    inputs: [{ ...dense, strides: [0] }, dense, dense],
    nodes: [
      ...range(3).map((input) => ({ op: 'load', dtype: 'f32', input }) as const),
      { op: 'mul', dtype: 'f32', args: [0, 1] },
      { op: 'add', dtype: 'f32', args: [3, 2] },
    ],
    stores: [{ ...dense, node: 4, output: 0 }],
    reductions: [],
  }
  return boundTo(kernel, [0, first, first + 1, first + 1], index)
}

/** The one launch of a kernel, its operands in these slots and its partial results and counters in those behind them. */
function boundTo(kernel: Kernel, slots: readonly number[], step: number): BoundKernel {
  const { launches } = printKernel(kernel, cudaDialect)
  const { source, parts, pointers, numbers } = at(launches, 0)
  expect(launches.length).toBe(1)
  const places = pointers.map((pointer) =>
    pointer.kind === 'operand'
      ? { slot: at(slots, pointer.index), offset: 0 }
      : { slot: pointer.kind === 'scratch' ? -1 : -2, offset: pointer.offset + 65_536 * step },
  )
  const shape = { blocks: parts, threads: blockThreads, sharedBytes: 0 } as const
  return { kind: 'kernel', source, ...shape, places, numbers, step, label: `kernel ${step}` }
}

/** Kernels of four texts: updates with and without tails, sums by one block and by several; and how long their operands are. */
function assortment(count: number): { readonly kernels: readonly BoundKernel[]; readonly lengths: readonly number[] } {
  const lengths = [1]
  const kernels = range(count).map((step) => {
    const first = lengths.length
    if (step % 3 < 2) {
      const extent = step % 3 === 0 ? 8 * (1 + step) : 7 + 90 * step
      lengths.push(extent, extent)
      return axpy(extent, step, first)
    }
    const extent = step % 2 === 0 ? 40 : 12_000 + 8 * step
    lengths.push(3 * extent, 3, 3)
    return boundTo(reduceKernel('f32', [3, extent], ['map', 'reduce']), [first, first + 1, first + 2], step)
  })
  return { kernels, lengths }
}

describe('one launch for many of several texts', () => {
  const { kernels, lengths } = assortment(40)
  const scratchBytes = 65_536 * kernels.length

  /** What all arrays hold behind launches that write them in place. */
  function after(sources: SimSources, launches: readonly BoundKernel[], seed: number): readonly (readonly number[])[] {
    const contents = lengths.map((length, slot) => Float32Array.from(range(length), (i) => ((i * 7 + slot) % 11) - 5))
    // Results of the simulation begin as bytes of 0xa5: a copy of each array comes first.
    const copies = contents.map((_, slot) => copyOf(at(lengths, slot), slot))
    const operand = (slot: number) => ({ kind: 'operand', index: lengths.length + slot }) as const
    const started = launches.map((launch) => ({
      ...launch,
      pointers: launch.places.map(({ slot, offset }) =>
        slot >= 0 ? operand(slot) : ({ kind: slot === -1 ? 'scratch' : 'counters', offset } as const),
      ),
    }))
    const outputs = lengths.map((count) => ({ dtype: 'f32', count }) as const)
    return sources.run([...copies, ...started], scratchBytes, contents, outputs, seed, scratchBytes).map((x) => [...x])
  }

  /** A launch that copies array `slot` of the inputs to the results. */
  function copyOf(length: number, slot: number) {
    const dense = { strides: [1], offset: 0, dtype: 'f32' } as const
    const { source, blocks, numbers } = boundTo(
      {
        axes: [{ extent: length, role: 'map' }],
        inputs: [dense],
        nodes: [{ op: 'load', dtype: 'f32', input: 0 }],
        stores: [{ ...dense, node: 0, output: 0 }],
        reductions: [],
      },
      [0, 1],
      0,
    )
    const pointers = [slot, lengths.length + slot].map((index) => ({ kind: 'operand', index }) as const)
    return { source, blocks, numbers, pointers }
  }

  it('does what they did, whatever the order of blocks and threads', () => {
    const launches = mixedLaunches(kernels)
    expect(launches.length).toBe(1)
    const copies = lengths.map((length, slot) => copyOf(length, slot))
    const sources = new SimSources([...launches, ...kernels, ...copies].map(({ source }) => source))
    try {
      const expected = after(sources, kernels, 0)
      for (const seed of [0, 1, 2]) expect(after(sources, launches, seed)).toEqual(expected)
    } finally {
      sources.close()
    }
  })

  it('has each kernel once, in launches whose arguments fit, and shares what is the same for all', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1500 }), (count) => {
        const many = assortment(Math.min(count, 60)).kernels
        const all = range(count).map((step) => {
          const kernel = at(many, step % many.length)
          const places = kernel.places.map(({ slot, offset }) => ({
            slot: slot <= 0 ? slot : slot + 1000 * step,
            offset,
          }))
          return { ...kernel, step, places }
        })
        const launches = mixedLaunches(all)
        const steps = launches.flatMap(({ step, joined = [] }) => [step, ...joined])
        expect(steps.sort((a, b) => a - b)).toEqual(range(count))
        const blocks = (list: readonly BoundKernel[]): number => list.reduce((sum, kernel) => sum + kernel.blocks, 0)
        expect(blocks(launches)).toBe(blocks(all))
        for (const { places, numbers } of launches)
          expect(8 * (places.length + numbers.length)).toBeLessThanOrEqual(argumentBytes)
        if (count <= 400) expect(launches.length).toBe(1)
      }),
      { numRuns: 20 },
    )
  })

  it('takes fewer of a kernel with as many arguments as there may be', () => {
    const [kernel] = kernels
    if (kernel === undefined) throw new Error('expected a kernel')
    const [head, wide] = [`(${kernel.source.name}, 4, `, `(${kernel.source.name}, 400, `]
    const source = { ...kernel.source, text: kernel.source.text.replace(head, wide) }
    const all = range(50).map((step) => {
      return { ...kernel, source, step, places: range(400).map((slot) => ({ slot: slot + 400 * step, offset: 0 })) }
    })
    const launches = mixedLaunches(all)
    expect(launches.flatMap(({ step, joined = [] }) => [step, ...joined])).toEqual(range(50))
    for (const { places, numbers } of launches)
      expect(8 * (places.length + numbers.length)).toBeLessThanOrEqual(argumentBytes)
  })

  it.skipIf(nvrtc === undefined)('compiles with NVRTC, without a copy of its arguments on the stack', () => {
    const options = [...cudaOptions, '--gpu-architecture=sm_90', '--ptxas-options=-v']
    const texts = mixedLaunches(kernels).map(({ source }) => source.text)
    const compiled = nvrtc?.compile([cudaPrelude, ...texts].join('\n'), options)
    expect(compiled?.status, compiled?.log.slice(0, 2000)).toBe(0)
    expect(compiled?.log).toMatch(/\b0 bytes stack frame/)
  })
})
