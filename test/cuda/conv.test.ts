// Convolutions through cuDNN over a fake: which of its proposals become candidates, what is put on a stream, and that nothing
// is left behind whichever call fails.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type ConvProblem,
  NoPlanError,
  convCandidates,
  convFromRecipe,
  deviceSession,
  propertiesSession,
} from '../../src/cuda/conv/index.ts'
import type { DevicePointer } from '../../src/cuda/ffi/values.ts'
import { at, range } from '../../src/tensor/shape.ts'
import { type FakeEngines, fakeCudnn, fakeHandle } from './conv-fake.ts'
import { all, problem, run } from './conv-samples.ts'

const engines: FakeEngines = {
  A: [
    { engine: 47, numerical: ['TENSOR_CORE', 'REDUCED_PRECISION_REDUCTION'] },
    {
      engine: 62,
      knobs: [
        [13, 1],
        [2, 7],
      ],
      numerical: ['TENSOR_CORE'],
      workspace: 131,
    },
    { engine: 20, numerical: ['NONDETERMINISTIC'] },
    { engine: 19, behavior: ['RUNTIME_COMPILATION'], status: 3000 },
    { engine: 70, workspace: 2 ** 30 + 1 },
    {
      engine: 62,
      knobs: [
        [2, 7],
        [13, 1],
      ],
      numerical: ['TENSOR_CORE'],
      workspace: 131,
    },
  ],
  FALLBACK: [{ engine: 0, numerical: ['STRICT_NAN_PROP'] }],
}

describe('candidates', () => {
  test('that compile their kernel are as many as allowed, those that compile none as many as there are', () => {
    const compiling = [1, 2, 3].map((engine) => ({ engine, behavior: ['RUNTIME_COMPILATION'] as const }))
    const { cudnn } = fakeCudnn({ A: [...compiling, { engine: 4 }], FALLBACK: [{ engine: 5 }] })
    const found = (compiledEngines?: number) =>
      all(propertiesSession(cudnn, '{}'), problem, compiledEngines === undefined ? {} : { compiledEngines }).map(
        ({ id }) => id.replace('cudnn:engine ', ''),
      )
    expect(found()).toEqual(['1', '2', '3', '4', '5'])
    expect(found(1)).toEqual(['1', '4', '5'])
    expect(found(0)).toEqual(['4', '5'])
  })

  test('are what is left of both heuristics, in order, each once; the rest is named with its reason', () => {
    const { cudnn } = fakeCudnn(engines)
    const dropped: string[] = []
    const found = all(propertiesSession(cudnn, '{}'), problem, { dropped: (id, why) => dropped.push(`${id}: ${why}`) })
    expect(found.map(({ id, scratchBytes }) => [id, scratchBytes])).toEqual([
      ['cudnn:engine 62 knobs 2=7 13=1', 131],
      ['cudnn:engine 0', 0],
    ])
    expect(dropped).toEqual([
      'cudnn:engine 47: REDUCED_PRECISION_REDUCTION',
      'cudnn:engine 20: NONDETERMINISTIC',
      'cudnn:engine 19: CUDNN_STATUS_3000 at finalization',
      'cudnn:engine 70: 1074 MB of workspace',
    ])
  })

  test('follow the options and the precision', () => {
    const ids = (one: ConvProblem, options: Parameters<typeof convCandidates>[2]): string[] =>
      all(propertiesSession(fakeCudnn(engines).cudnn, '{}'), one, options).map(({ id }) => id.slice(6))
    expect(ids(problem, { deterministic: false })).toEqual(['engine 62 knobs 2=7 13=1', 'engine 20', 'engine 0'])
    expect(ids(problem, { workspaceBytes: 2 ** 31 })).toContain('engine 70')
    expect(ids(problem, { workspaceBytes: 130 })).toEqual(['engine 0'])
    expect(ids({ ...problem, dtype: 'f32', precision: 'ieee' }, {})).toEqual(['engine 0'])
  })

  test('are planned one by one, as they are asked for', () => {
    const fake = fakeCudnn(engines)
    const session = propertiesSession(fake.cudnn, '{}')
    const plans = (): number => fake.made.filter(({ type }) => type === 'EXECUTION_PLAN').length
    const search = convCandidates(session, problem)
    expect(plans()).toBe(0)
    const first = search.next()
    expect(plans()).toBe(1)
    search.return()
    first.value?.release?.()
    session.release()
    expect(fake.alive()).toBe(0)
  })

  test('that are missing are one error with the problem and what was tried', () => {
    const { cudnn } = fakeCudnn(engines)
    const session = propertiesSession(cudnn, '{}')
    const search = (): unknown => all(session, { ...problem, dtype: 'f32', precision: 'ieee' }, { workspaceBytes: -1 })
    expect(search).toThrow(NoPlanError)
    expect(search).toThrow(
      '[cuda] expected a cuDNN plan for conv2d f32 ieee 8x14x14x16 * 32x3x3x8 -> 8x14x14x32 groups 2 padding 1 with at most 0 MB of workspace, got none from cuDNN 9.24.0 (engines refused for REDUCED_PRECISION_REDUCTION: 47; TENSOR_CORE: 62; NONDETERMINISTIC: 20; CUDNN_STATUS_3000 at finalization: 19; 1074 MB of workspace: 70; 0 MB of workspace: 0).',
    )
    expect(() => all(propertiesSession(fakeCudnn({}).cudnn, '{}'), problem)).toThrow('(it proposes no engine)')
  })

  test('keep the graph until the last of them is released, in whatever order', () => {
    fc.assert(
      fc.property(fc.shuffledSubarray([0, 1, 2], { minLength: 3 }), (order) => {
        const fake = fakeCudnn({ A: range(3).map((engine) => ({ engine })) })
        const session = deviceSession(fake.cudnn, fakeHandle)
        const found = all(session, problem)
        for (const index of order) {
          run(at(found, index), [0x100n, 0x200n, 0x300n] as DevicePointer[], undefined)
          at(found, index).release?.()
        }
        expect(fake.executions.map(({ engine }) => engine)).toEqual(order)
        session.release()
        expect(fake.alive()).toBe(0)
      }),
    )
  })

  test('leave nothing behind whichever call fails', () => {
    const use = (fake: ReturnType<typeof fakeCudnn>): void => {
      const opened = deviceSession(fake.cudnn, fakeHandle)
      try {
        for (const candidate of convCandidates(opened, problem, { fusion: 'bias-relu' }))
          try {
            const scratch = candidate.scratchBytes === 0 ? undefined : (0x500n as DevicePointer)
            run(candidate, [0x100n, 0x200n, 0x300n, 0x400n] as DevicePointer[], scratch)
            convFromRecipe(opened, problem, candidate.recipe ?? '', { fusion: 'bias-relu' })?.release?.()
          } finally {
            candidate.release?.()
          }
      } finally {
        opened.release()
      }
    }
    const whole = fakeCudnn(engines)
    use(whole)
    expect(whole.alive()).toBe(0)
    // Of calls that are repeated, the first and the last.
    const places = range(whole.calls.length).filter(
      (place) => whole.calls[place] !== whole.calls[place - 1] || whole.calls[place] !== whole.calls[place + 1],
    )
    for (const [index, failing] of places.entries()) {
      const failure = at([3000, 4000, 4003], index % 3)
      const fake = fakeCudnn(engines, { failing, failure })
      try {
        use(fake)
      } catch (error) {
        expect(String(error)).toContain(String(failure))
      }
      expect(fake.alive(), `${whole.calls[failing]}, call ${failing}, failing with ${failure}`).toBe(0)
    }
  })
})

describe('a candidate', () => {
  const pointers = [0x100n, 0x200n, 0x300n] as DevicePointer[]
  const scratch = 0x400n as DevicePointer

  test('puts its plan on the stream with operands, workspace and identifiers', () => {
    const fake = fakeCudnn(engines)
    const [first, second] = all(deviceSession(fake.cudnn, fakeHandle), problem)
    run(first, pointers, scratch, 0x9n)
    run(second, pointers, undefined, 0xan)
    expect(fake.executions).toEqual([
      { stream: 0x9n, engine: 62, uids: [1n, 2n, 3n], pointers, workspace: scratch },
      { stream: 0xan, engine: 0, uids: [1n, 2n, 3n], pointers, workspace: 0n },
    ])
    expect(first?.works.map((work) => work.kind === 'call' && work.label)).toEqual(['cudnn conv2d engine 62'])
  })

  test('makes a variant pack for new addresses only', () => {
    const fake = fakeCudnn(engines)
    const [first] = all(deviceSession(fake.cudnn, fakeHandle), problem)
    const packs = (): number => fake.made.filter(({ type }) => type === 'VARIANT_PACK').length
    run(first, pointers, scratch)
    run(first, pointers, scratch)
    expect(packs()).toBe(1)
    run(first, [0x100n, 0x200n, 0x310n] as DevicePointer[], scratch)
    run(first, [0x100n, 0x200n, 0x310n] as DevicePointer[], 0x500n as DevicePointer)
    expect(packs()).toBe(3)
    expect(fake.executions.map(({ pointers: [, , y], workspace }) => [y, workspace])).toEqual([
      [0x300n, 0x400n],
      [0x300n, 0x400n],
      [0x310n, 0x400n],
      [0x310n, 0x500n],
    ])
  })

  test('is not run with other operands, without its workspace, or without a device', () => {
    const [first, second] = all(deviceSession(fakeCudnn(engines).cudnn, fakeHandle), problem)
    expect(() => run(first, pointers.slice(1), scratch)).toThrow(/internal: a cuDNN plan of 3 operands and 131 bytes/)
    expect(() => run(first, pointers, undefined)).toThrow(/internal/)
    expect(() => run(second, pointers, scratch)).toThrow(/internal/)
    const [planned] = all(propertiesSession(fakeCudnn(engines).cudnn, '{}'), problem)
    expect(() => run(planned, pointers, scratch)).toThrow(/internal: a cuDNN plan was made for a GPU that is not there/)
  })

  test('is made again from its recipe, and not from another’s', () => {
    const fake = fakeCudnn(engines)
    const session = deviceSession(fake.cudnn, fakeHandle)
    const [first] = all(session, problem)
    const recipe = first?.recipe ?? ''
    const again = convFromRecipe(session, problem, recipe)
    expect([again?.id, again?.scratchBytes, again?.recipe]).toEqual([first?.id, first?.scratchBytes, recipe])
    run(again, pointers, scratch)
    expect(fake.executions.at(-1)?.engine).toBe(62)
    for (const damaged of ['', 'null', '{}', '[]', recipe.slice(1), recipe.replace('conv2d', 'conv3d')])
      expect(convFromRecipe(session, problem, damaged)).toBeUndefined()
    expect(convFromRecipe(session, { ...problem, groups: 1 }, recipe)).toBeUndefined()
    expect(convFromRecipe(session, problem, recipe, { fusion: 'bias' })).toBeUndefined()
    expect(convFromRecipe(session, problem, recipe, { workspaceBytes: 130 })).toBeUndefined()
    const other = deviceSession(fakeCudnn(engines, { version: 91_000 }).cudnn, fakeHandle)
    expect(convFromRecipe(other, problem, recipe)).toBeUndefined()
  })

  test('tuned without the demand for equal bits is not made again under it', () => {
    const session = deviceSession(fakeCudnn({ A: [{ engine: 20, numerical: ['NONDETERMINISTIC'] }] }).cudnn, fakeHandle)
    const [first] = all(session, problem, { deterministic: false })
    expect(convFromRecipe(session, problem, first?.recipe ?? '', { deterministic: false })?.id).toBe('cudnn:engine 20')
    expect(convFromRecipe(session, problem, first?.recipe ?? '')).toBeUndefined()
  })
})
