// Products that come back from a recipe, and products as questions to the tuner.
import { describe, expect, test } from 'vitest'
import {
  type MatmulProblem,
  matmulCandidates,
  matmulFromRecipe,
  matmulKey,
  matmulTask,
} from '../../src/cuda/matmul/index.ts'
import { at } from '../../src/tensor/shape.ts'
import { type FakeBlasOptions, blasFailure, fakeAlgorithm, plain, proposal, sessionOver } from './matmul-fake.ts'
import { fakeCandidate } from './tune-fake.ts'

describe('recipes', () => {
  const made = proposal({ ID: 66, SPLITK_NUM: 3, REDUCTION_SCHEME: 2 }, 4096, 7)
  const recipe = (): string => {
    const [candidate] = matmulCandidates(sessionOver({ proposals: () => [made] }).session, plain)
    return candidate?.recipe ?? ''
  }

  test('bring the same candidate back, without heuristics', () => {
    const original = at([...matmulCandidates(sessionOver({ proposals: () => [made] }).session, plain)], 0)
    const refuse = {
      proposals: () => {
        throw new Error('heuristics were asked')
      },
    }
    const { session, objects } = sessionOver(refuse)
    const again = matmulFromRecipe(session, plain, original.recipe)
    expect([again?.id, again?.recipe, again?.scratchBytes]).toEqual([original.id, original.recipe, 4096])
    again?.release?.()
    expect(objects.size).toBe(0)
  })

  test.each(['NOT_SUPPORTED', 'INVALID_VALUE', 'ARCH_MISMATCH'] as const)(
    'that are answered %s are rejected',
    (status) => {
      const { session, objects } = sessionOver({
        check: () => {
          throw blasFailure('cublasLtMatmulAlgoCheck', status)
        },
      })
      expect(matmulFromRecipe(session, plain, recipe())).toBeUndefined()
      expect(objects.size).toBe(0)
    },
  )

  test('that need more memory than they say, or than is allowed, or that are no recipes, are rejected', () => {
    const hungry = sessionOver({ check: () => ({ workspaceBytes: 4097, waves: 1 }) }).session
    expect(matmulFromRecipe(hungry, plain, recipe())).toBeUndefined()
    expect(matmulFromRecipe(sessionOver({}, { workspaceLimit: 4095 }).session, plain, recipe())).toBeUndefined()
    for (const text of [
      undefined,
      '',
      '4096:',
      '4096:AAAA',
      `x${recipe()}`,
      recipe().slice(0, -4),
      `-1${recipe().slice(4)}`,
    ])
      expect(matmulFromRecipe(sessionOver().session, plain, text)).toBeUndefined()
  })

  test('of an algorithm that may give other bits each time are rejected', () => {
    const other = Buffer.from(fakeAlgorithm({ ID: 1, SPLITK_NUM: 2, REDUCTION_SCHEME: 1 })).toString('base64')
    expect(matmulFromRecipe(sessionOver().session, plain, `0:${other}`)).toBeUndefined()
  })

  test('a failure that is no refusal goes on', () => {
    const { session } = sessionOver({
      check: () => {
        throw blasFailure('cublasLtMatmulAlgoCheck', 'NOT_INITIALIZED')
      },
    })
    expect(() => matmulFromRecipe(session, plain, recipe())).toThrow('cublasLtMatmulAlgoCheck')
  })
})

describe('the task for the tuner', () => {
  const own = () => fakeCandidate('own:plain')

  test('says what the operands are, in the order of the calls', () => {
    const { session } = sessionOver()
    const task = matmulTask(session, { ...plain, batch: 5, transposeA: true, transposeB: true, epilogue: 'bias' }, own)
    expect(task.inputs.map(({ shape }) => shape)).toEqual([[5, 4, 2], [5, 3, 4], [3]])
    expect(task.outputs).toEqual([{ dtype: 'f32', shape: [5, 2, 3] }])
    expect([task.depth, task.precision, task.key]).toEqual([4, 'ieee', 'dot f32 ieee 5x2x3x4 TT bias'])
  })

  test('a small product has our own kernel as a rival, one that cuBLASLt refuses has it alone, a large one has not', () => {
    const ids = (options: FakeBlasOptions, problem: MatmulProblem) =>
      [...matmulTask(sessionOver(options).session, problem, own).candidates()].map(({ id }) => id.split(' ')[0])
    const refuse = {
      proposals: () => {
        throw blasFailure('cublasLtMatmulAlgoGetHeuristic', 'NOT_SUPPORTED')
      },
    }
    expect(ids({}, plain)).toEqual(['cublaslt:algorithm', 'own:plain'])
    expect(ids({}, { ...plain, m: 1024, n: 1024, k: 1024 })).toEqual(['cublaslt:algorithm'])
    expect(ids(refuse, { ...plain, m: 1024, n: 1024, k: 1024 })).toEqual(['own:plain'])
    expect(ids({}, { ...plain, k: 0 })).toEqual(['cublaslt:zeros'])
    expect(ids({}, { ...plain, resultDtype: 'f64', n: 0 })).toEqual(['own:plain'])
  })

  test('restores by id: its own recipe, our kernel, and nothing under another name', () => {
    const { session, objects } = sessionOver()
    const task = matmulTask(session, plain, own)
    const [first] = task.candidates()
    expect(task.restore(first?.id ?? '', first?.recipe)?.id).toBe(first?.id)
    expect(task.restore('own:plain', undefined)?.id).toBe('own:plain')
    const before = objects.size
    expect(task.restore('cublaslt:other', first?.recipe)).toBeUndefined()
    expect(task.restore('own:other', undefined)).toBeUndefined()
    expect(objects.size).toBe(before)
  })

  test('keys tell problems apart', () => {
    const variants: Partial<MatmulProblem>[] = [
      {},
      { batch: 2 },
      { m: 9 },
      { n: 9 },
      { k: 9 },
      { transposeA: true },
      { transposeB: true },
      { precision: 'tf32' },
      { epilogue: 'bias' },
      { epilogue: 'relu' },
      { epilogue: 'bias-relu' },
      { dtype: 'f16' },
      { dtype: 'f16', resultDtype: 'f16' },
      { dtype: 'bf16' },
    ]
    const keys = variants.map((changes) => matmulKey({ ...plain, ...changes }))
    expect(new Set(keys).size).toBe(variants.length)
  })
})
