// Steps that are launched together: the order keeps every dependency, one launch does what many did, and the texts compile.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Step } from '../../src/compile/index.ts'
import { blockThreads, cudaDialect, printKernel } from '../../src/compile/print/index.ts'
import type { BoundKernel } from '../../src/cuda/lower.ts'
import { cudaOptions, cudaPrelude } from '../../src/cuda/prelude.ts'
import { arrangeSteps, launchTogether } from '../../src/cuda/together.ts'
import type { Lowered } from '../../src/cuda/work.ts'
import { at, range, zip } from '../../src/tensor/shape.ts'
import { SimSources } from '../sim/sources.ts'
import { findNvrtc } from './print-nvrtc.ts'
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

  it('launches together only kernels of one text, no large ones and no library calls', () => {
    fc.assert(
      fc.property(sketches, (list) => {
        const { steps, lowered } = stepsOf(list)
        for (const group of arrangeSteps(steps, lowered)) {
          if (group.length === 1) continue
          const members = group.map((step) => at(list, step))
          expect(new Set(members.map(({ text }) => text)).size).toBe(1)
          expect(members.every(({ text, bytes }) => text >= 0 && bytes < 1e6)).toBe(true)
        }
      }),
    )
  })

  it('puts a hundred independent kernels of one text into one launch', () => {
    const { steps, lowered } = stepsOf(range(100).map(() => ({ text: 1, after: [], bytes: 100 })))
    expect(arrangeSteps(steps, lowered).length).toBe(1)
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

  const nvrtc = findNvrtc()
  if (nvrtc === undefined) console.log('NVRTC skipped: none was found')

  it.skipIf(nvrtc === undefined)('compiles with NVRTC, without a copy of its arguments on the stack', () => {
    const [together] = launchTogether(sums(extents).map((kernel) => [kernel]))
    if (together?.kind !== 'kernel' || nvrtc === undefined) throw new Error('expected a kernel')
    const options = [...cudaOptions, '--gpu-architecture=sm_90', '--ptxas-options=-v']
    const { status, log } = nvrtc.compile(`${cudaPrelude}\n${together.source.text}`, options)
    expect(status, log.slice(0, 2000)).toBe(0)
    expect(log).toMatch(/\b0 bytes stack frame/)
  })
})
