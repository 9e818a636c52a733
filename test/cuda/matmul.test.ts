// Products by cuBLASLt over a stand-in that computes: layouts, epilogues, degenerate extents, which proposals are taken, what
// comes back from a recipe, and that nothing is left behind.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Stream } from '../../src/cuda/ffi/driver-queues.ts'
import {
  type MatmulProblem,
  matmulCandidates,
  matmulFromRecipe,
  matmulKey,
  matmulProblem,
  supportedByCublasLt,
} from '../../src/cuda/matmul/index.ts'
import type { Candidate, LibraryCall } from '../../src/cuda/work.ts'
import { bytesOf } from '../../src/tensor/dtype.ts'
import { literal, variable } from '../../src/tensor/program.ts'
import { interpret } from '../../src/tensor/reference/interpreter.ts'
import { type Shape, at, range, sizeOf } from '../../src/tensor/shape.ts'
import { runs } from '../runs.ts'
import { blasFailure, keep, load, plain, proposal, sessionOver } from './matmul-fake.ts'
import type { FakeMemory } from './tune-fake.ts'

const stream = 0x77n as Stream

function run(candidate: Candidate, memory: FakeMemory, operands: readonly never[]): void {
  const scratch = candidate.scratchBytes === 0 ? undefined : memory.allocate(candidate.scratchBytes)
  for (const work of candidate.works) (work as LibraryCall).enqueue(stream, operands, scratch)
}

/** Small integers, whose products and sums every dtype holds exactly. */
const integers = (count: number, seed: number): number[] =>
  range(count).map((index) => ((index * 7 + seed * 5) % 9) - 4)

/** A dot with canonical layouts: [batch.., free.., contracted..] or [batch.., contracted.., free..]. */
function dotOf(
  dtype: 'f16' | 'bf16' | 'f32' | 'f64',
  batch: Shape,
  free: readonly [Shape, Shape],
  inner: Shape,
  first: readonly [boolean, boolean],
) {
  const axes = (from: number, count: number): number[] => range(count).map((axis) => from + axis)
  const side = (index: 0 | 1) => {
    const mine = free[index]
    const shape = first[index] ? [...batch, ...inner, ...mine] : [...batch, ...mine, ...inner]
    return { shape, contract: axes(first[index] ? batch.length : batch.length + mine.length, inner.length) }
  }
  const [left, right] = [side(0), side(1)]
  const inputs = [variable({ dtype, shape: left.shape }), variable({ dtype, shape: right.shape })]
  const output = variable({ dtype, shape: [...batch, ...free[0], ...free[1]] })
  const both = axes(0, batch.length)
  const params = { batch: [both, both], contract: [left.contract, right.contract] } as const
  return { primitive: 'dot', inputs, params, outputs: [output] } as const
}

describe('products', () => {
  const shape = (length: number, max: number) => fc.array(fc.nat(max), { maxLength: length })
  const dtypes = fc.constantFrom('f16', 'bf16', 'f32', 'f64')

  test('of any canonical dot, empty and one-element extents included, are what the reference says', () => {
    fc.assert(
      fc.property(
        dtypes,
        shape(2, 3),
        fc.tuple(shape(2, 4), shape(2, 4)),
        shape(2, 4),
        fc.tuple(fc.boolean(), fc.boolean()),
        (dtype, batch, free, inner, first) => {
          const equation = dotOf(dtype, batch, free, inner, first)
          const problem = matmulProblem(equation, 'tf32')
          const { session, memory, objects } = sessionOver()
          const data = equation.inputs.map(({ type }, index) => integers(sizeOf(type.shape), index))
          const [expected] = interpret(
            { inputs: equation.inputs, equations: [equation], outputs: equation.outputs },
            equation.inputs.map(({ type }, index) => ({ type, data: Float64Array.from(at(data, index)) })),
          )
          const count = sizeOf(at(equation.outputs, 0).type.shape)
          const operands = [...data.map((values) => values.length), count].map((elements) =>
            memory.allocate(elements * bytesOf(dtype)),
          )
          data.forEach((values, index) => keep(memory, at(operands, index), dtype, values))
          if (count > 0) memory.bytes(at(operands, 2)).fill(0xff)
          const candidates = [...matmulCandidates(session, problem)]
          expect(candidates).toHaveLength(1)
          run(at(candidates, 0), memory, operands as never)
          expect([...load(memory, at(operands, 2), dtype, count)]).toEqual(
            [...(expected?.data ?? [])].map((value) => value + 0),
          )
          at(candidates, 0).release?.()
          expect(objects.size).toBe(0)
        },
      ),
      { numRuns: runs(300) },
    )
  })

  test.each(['none', 'bias', 'relu', 'bias-relu'] as const)(
    'with the epilogue %s, and f32 results of f16',
    (epilogue) => {
      const problem: MatmulProblem = {
        ...plain,
        dtype: 'f16',
        resultDtype: 'f32',
        batch: 2,
        transposeB: true,
        epilogue,
      }
      const { session, memory } = sessionOver()
      const [a, b, bias] = [integers(16, 1), integers(24, 2), [10, -20, 0.5]]
      const addresses = [32, 48, 12, 48].map((bytes) => memory.allocate(bytes))
      keep(memory, at(addresses, 0), 'f16', a)
      keep(memory, at(addresses, 1), 'f16', b)
      keep(memory, at(addresses, 2), 'f32', bias)
      const operands = epilogue.startsWith('bias') ? addresses : [at(addresses, 0), at(addresses, 1), at(addresses, 3)]
      run(at([...matmulCandidates(session, problem)], 0), memory, operands as never)
      const expected = range(12).map((index) => {
        const [batch, row, column] = [Math.floor(index / 6), Math.floor(index / 3) % 2, index % 3]
        const sum = range(4).reduce(
          (total, k) => total + at(a, batch * 8 + row * 4 + k) * at(b, batch * 12 + column * 4 + k),
          0,
        )
        const biased = epilogue.startsWith('bias') ? sum + at(bias, column) : sum
        return epilogue.endsWith('relu') ? Math.max(0, biased) : biased
      })
      expect([...load(memory, at(addresses, 3), 'f32', 12)]).toEqual(expected)
    },
  )

  test('are summed in the type that precision and dtype ask for', () => {
    const asked = (changes: Partial<MatmulProblem>) => {
      const { session, memory, computed } = sessionOver()
      const problem = { ...plain, ...changes }
      const operands = [8, 12, 6].map((count) => memory.allocate(8 * count))
      run(at([...matmulCandidates(session, problem)], 0), memory, operands as never)
      return [computed[0]?.compute, computed[0]?.scale]
    }
    expect(asked({})).toEqual(['32F_PEDANTIC', '32F'])
    expect(asked({ precision: 'tf32' })).toEqual(['32F_FAST_TF32', '32F'])
    expect(asked({ dtype: 'f16', resultDtype: 'f16' })).toEqual(['32F', '32F'])
    expect(asked({ dtype: 'bf16', resultDtype: 'f32' })).toEqual(['32F', '32F'])
    expect(asked({ dtype: 'f64', resultDtype: 'f64' })).toEqual(['64F', '64F'])
  })

  test('precision is part of a problem of f32 and of no other', () => {
    const of = (dtype: 'f32' | 'f16') =>
      matmulProblem(dotOf(dtype, [], [[2], [3]], [4], [false, true]), 'tf32').precision
    expect([of('f32'), of('f16')]).toEqual(['tf32', 'ieee'])
  })
})

describe('what is no product', () => {
  const nothing = (problem: MatmulProblem) => {
    const { session, objects } = sessionOver({
      before: () => {
        throw new Error('cuBLASLt was asked')
      },
    })
    const [candidate] = matmulCandidates(session, problem)
    expect(objects.size).toBe(0)
    return candidate
  }

  test('an empty result launches nothing, an empty sum fills with zeros, and neither needs a recipe', () => {
    expect(nothing({ ...plain, m: 0 })?.works).toEqual([])
    expect(nothing({ ...plain, batch: 0, k: 0 })?.works).toEqual([])
    expect(nothing({ ...plain, k: 0, epilogue: 'relu' })?.works.map((work) => 'label' in work && work.label)).toEqual([
      'zeros for dot f32 ieee 1x2x3x0 NN relu',
    ])
    const { session } = sessionOver()
    expect(matmulFromRecipe(session, { ...plain, k: 0 }, undefined)?.id).toBe('cublaslt:zeros')
  })

  test('what cuBLASLt has no words for is not asked', () => {
    const refused: Partial<MatmulProblem>[] = [
      { resultDtype: 'f16' },
      { dtype: 'f16', resultDtype: 'bf16' },
      { dtype: 'f64', resultDtype: 'f32' },
      { k: 0, epilogue: 'bias' },
      { m: 2 ** 31 },
    ]
    for (const changes of refused) {
      expect(supportedByCublasLt({ ...plain, ...changes })).toBe(false)
      expect([...matmulCandidates(sessionOver().session, { ...plain, ...changes })]).toEqual([])
    }
    expect(supportedByCublasLt({ ...plain, m: 2 ** 31 - 1 })).toBe(true)
  })
})

describe('candidates', () => {
  test('are named by every attribute and told apart by their bytes; proposed twice, they are one', () => {
    const list = [
      proposal({ ID: 66, TILE_ID: 20, STAGES_ID: 35 }, 64),
      proposal({ ID: 66, TILE_ID: 20, STAGES_ID: 35 }, 64, 1),
      proposal({ ID: 66, TILE_ID: 20, STAGES_ID: 35 }, 64),
    ]
    const { session, objects } = sessionOver({ proposals: () => list })
    const candidates = [...matmulCandidates(session, plain)]
    const attributes = 'cublaslt:algorithm 66 tile 20 stages 35 split 0 scheme 0 swizzle 0 custom 0 inner 0 cluster 0'
    expect(candidates.map(({ id }) => id.replace(/ [0-9a-f]{8}$/, ''))).toEqual([attributes, attributes])
    expect(new Set(candidates.map(({ id }) => id)).size).toBe(2)
    for (const candidate of candidates) {
      candidate.release?.()
      candidate.release?.()
    }
    expect(objects.size).toBe(0)
  })

  test('sums split in other ways than in full precision and a fixed order are left out, and what wants too much memory', () => {
    const list = [
      proposal({ ID: 1, SPLITK_NUM: 4, REDUCTION_SCHEME: 1 }),
      proposal({ ID: 2, SPLITK_NUM: 4, REDUCTION_SCHEME: 4 }),
      proposal({ ID: 3, SPLITK_NUM: 4, REDUCTION_SCHEME: 2 }, 2048),
      proposal({ ID: 4 }, 2049),
    ]
    const { session, preferences } = sessionOver({ proposals: () => list }, { workspaceLimit: 2048 })
    const candidates = [...matmulCandidates(session, plain)]
    expect(candidates.map(({ id, scratchBytes }) => [id.slice(0, 20), scratchBytes])).toEqual([
      ['cublaslt:algorithm 3', 2048],
    ])
    expect(preferences[0]?.get('REDUCTION_SCHEME_MASK')).toBe(2)
    expect(preferences[0]?.get('MAX_WORKSPACE_BYTES')).toBe(2048)
  })

  test('vector accesses fit the alignment of every matrix of a batch', () => {
    const alignments = (changes: Partial<MatmulProblem>) => {
      const { session, preferences } = sessionOver()
      for (const one of matmulCandidates(session, { ...plain, dtype: 'f16', resultDtype: 'f16', ...changes }))
        one.release?.()
      return ['A', 'B', 'C', 'D'].map((name) => preferences[0]?.get(`MIN_ALIGNMENT_${name}_BYTES`))
    }
    expect(alignments({ m: 3, n: 5, k: 7 })).toEqual([256, 256, 256, 256])
    // B is 7x5, A 4x7, C 4x5 halves: 70, 56 and 40 bytes.
    expect(alignments({ batch: 2, m: 4, n: 5, k: 7 })).toEqual([2, 8, 8, 8])
    expect(alignments({ batch: 3, m: 64, n: 64, k: 32 })).toEqual([256, 256, 256, 256])
  })

  test('no algorithm is no candidate; another failure is a failure', () => {
    const failing = (status: Parameters<typeof blasFailure>[1]) =>
      sessionOver({
        proposals: () => {
          throw blasFailure('cublasLtMatmulAlgoGetHeuristic', status)
        },
      })
    expect([...matmulCandidates(failing('NOT_SUPPORTED').session, plain)]).toEqual([])
    const { session, objects } = failing('INVALID_VALUE')
    expect(() => [...matmulCandidates(session, plain)]).toThrow('cublasLtMatmulAlgoGetHeuristic')
    expect(objects.size).toBe(0)
  })

  test('whichever call fails, no descriptor is left', () => {
    fc.assert(
      fc.property(fc.nat(60), (nth) => {
        let calls = 0
        const before = (): void => {
          if (calls++ === nth) throw new Error('the n-th call failed')
        }
        const list = [proposal({ ID: 1 }), proposal({ ID: 2 })]
        const { session, objects } = sessionOver({ before, proposals: () => list })
        try {
          for (const candidate of matmulCandidates(session, { ...plain, batch: 2 })) candidate.release?.()
        } catch (error) {
          expect(String(error)).toContain('the n-th call failed')
        }
        expect(objects.size).toBe(0)
      }),
      { numRuns: runs(120) },
    )
  })

  test('one that was released is not run', () => {
    const { session, memory } = sessionOver()
    const candidate = at([...matmulCandidates(session, plain)], 0)
    candidate.release?.()
    const operands = [32, 48, 24].map((bytes) => memory.allocate(bytes)) as never
    expect(() => run(candidate, memory, operands)).toThrow('was used after it was released')
  })
})

test('a dot over literals is described like any other', () => {
  const equation = { ...dotOf('f32', [], [[], []], [], [false, false]), inputs: [literal(1, 'f32'), literal(2, 'f32')] }
  expect(matmulKey(matmulProblem(equation, 'ieee'))).toBe('dot f32 ieee 1x1x1x1 NN')
})
