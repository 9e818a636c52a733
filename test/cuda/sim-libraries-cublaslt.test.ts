// What the simulated cuBLASLt computes and refuses: products against plain loops in float64, its proposals, algorithms that
// come back, and what heuristics and products answer to descriptors that make no sense.
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Algorithm, MatmulProblem as Descriptors } from '../../src/cuda/ffi/cublaslt.ts'
import type { realTypes } from '../../src/cuda/ffi/cublaslt-constants.ts'
import { type DevicePointer, offset } from '../../src/cuda/ffi/values.ts'
import {
  type MatmulProblem,
  type MatmulSession,
  matmulCandidates,
  matmulFromRecipe,
} from '../../src/cuda/matmul/index.ts'
import type { Candidate } from '../../src/cuda/work.ts'
import { type FloatDType, bytesOf } from '../../src/tensor/dtype.ts'
import { roundTo } from '../../src/tensor/half.ts'
import { at, range } from '../../src/tensor/shape.ts'
import { runs } from '../runs.ts'
import { type LibraryGpu, libraryGpu } from '../sim/cudnn-gpu.ts'
import { statusOf } from './sequences/sequence.ts'
import { difference, eighths } from './sim-libraries-values.ts'

let gpu: LibraryGpu
let session: MatmulSession
let expected: readonly unknown[]
beforeEach(async () => {
  gpu = await libraryGpu()
  const { blas: cublasLt, blasHandle: blas, driver } = gpu
  session = { cublasLt, blas, driver, workspaceLimit: 2 ** 26, proposals: 16 }
  expected = []
}, 600_000)
afterEach(() => {
  expect(gpu.close().violations).toEqual(expected)
})

const usual: MatmulProblem = {
  batch: 1,
  m: 24,
  n: 40,
  k: 32,
  transposeA: false,
  transposeB: false,
  dtype: 'f16',
  resultDtype: 'f16',
  precision: 'ieee',
  epilogue: 'none',
}

interface Operands {
  readonly a: readonly number[]
  readonly b: readonly number[]
  readonly bias: readonly number[]
}

function operandsOf({ batch, m, n, k }: MatmulProblem, seed: number): Operands {
  return { a: eighths(seed, batch * m * k), b: eighths(seed + 1, batch * k * n), bias: eighths(seed + 2, n) }
}

/** The product by plain loops, rounded once. */
function reference(problem: MatmulProblem, { a, b, bias }: Operands): number[] {
  const { batch, m, n, k, transposeA, transposeB, epilogue, resultDtype } = problem
  return range(batch).flatMap((i) =>
    range(m).flatMap((row) =>
      range(n).map((column) => {
        let sum = epilogue === 'bias' || epilogue === 'bias-relu' ? at(bias, column) : 0
        for (let inner = 0; inner < k; inner++)
          sum +=
            at(a, i * m * k + (transposeA ? inner * m + row : row * k + inner)) *
            at(b, i * k * n + (transposeB ? column * k + inner : inner * n + column))
        return roundTo(resultDtype, epilogue === 'relu' || epilogue === 'bias-relu' ? Math.max(0, sum) : sum)
      }),
    ),
  )
}

function compute(problem: MatmulProblem, candidate: Candidate, { a, b, bias }: Operands): number[] {
  const { batch, m, n, dtype, resultDtype, epilogue } = problem
  const hasBias = epilogue === 'bias' || epilogue === 'bias-relu'
  const output = gpu.allocate(batch * m * n * bytesOf(resultDtype))
  const inputs = [gpu.upload(dtype, a), gpu.upload(dtype, b), ...(hasBias ? [gpu.upload(resultDtype, bias)] : [])]
  const scratch = candidate.scratchBytes > 0 ? gpu.allocate(candidate.scratchBytes) : undefined
  for (const work of candidate.works) if (work.kind === 'call') work.enqueue(gpu.stream, [...inputs, output], scratch)
  return gpu.download(resultDtype, output, batch * m * n)
}

describe('products', () => {
  test('any extents, layouts, types, epilogues, batches: plain loops, to the bit, from every candidate', () => {
    const extent = fc.integer({ min: 1, max: 20 })
    const types = fc.constantFrom<readonly [FloatDType, FloatDType]>(
      ['f16', 'f16'],
      ['bf16', 'bf16'],
      ['f32', 'f32'],
      ['f64', 'f64'],
      ['f16', 'f32'],
      ['bf16', 'f32'],
    )
    const problems = fc
      .record({
        batch: fc.integer({ min: 1, max: 3 }),
        m: extent,
        n: extent,
        k: extent,
        transposeA: fc.boolean(),
        transposeB: fc.boolean(),
        types,
        epilogue: fc.constantFrom('none' as const, 'bias' as const, 'relu' as const, 'bias-relu' as const),
        precision: fc.constantFrom('ieee' as const, 'tf32' as const),
      })
      .map(({ types: [dtype, resultDtype], ...rest }) => ({ ...rest, dtype, resultDtype }))
    const property = fc.property(problems, fc.nat(2 ** 20), (problem, seed) => {
      const operands = operandsOf(problem, seed)
      const wanted = reference(problem, operands)
      const candidates = [...matmulCandidates(session, problem)]
      expect(candidates.length).toBeGreaterThan(0)
      for (const candidate of candidates) {
        expect(difference(compute(problem, candidate, operands), wanted), candidate.id).toBeUndefined()
        candidate.release?.()
      }
    })
    fc.assert(property, { numRuns: runs(40) })
  })

  test('several proposals of several workspaces, each back from its recipe, none that is not reproducible', () => {
    const candidates = [...matmulCandidates(session, usual)]
    expect(candidates.map(({ id }) => / split (\d+) scheme (\d+)/.exec(id)?.slice(1).map(Number))).toEqual([
      [1, 0],
      [4, 2],
      [1, 0],
      [16, 2],
      [1, 0],
      [8, 2],
      [1, 0],
    ])
    expect(new Set(candidates.map(({ scratchBytes }) => scratchBytes)).size).toBeGreaterThan(3)
    const operands = operandsOf(usual, 5)
    for (const candidate of candidates) {
      const again = matmulFromRecipe(session, usual, candidate.recipe)
      expect(again?.id).toBe(candidate.id)
      if (again !== undefined) expect(compute(usual, again, operands)).toEqual(compute(usual, candidate, operands))
      again?.release?.()
      candidate.release?.()
    }
  })

  test('a recipe for other types, other transpositions, or with one bit changed is refused', () => {
    const [candidate] = matmulCandidates(session, usual)
    const recipe = candidate?.recipe ?? ''
    expect(matmulFromRecipe(session, { ...usual, dtype: 'bf16', resultDtype: 'bf16' }, recipe)).toBeUndefined()
    expect(matmulFromRecipe(session, { ...usual, transposeA: true }, recipe)).toBeUndefined()
    const [bytes = '', text = ''] = recipe.split(':')
    const changed = Buffer.from(text, 'base64')
    changed[9] = (changed[9] ?? 0) ^ 1
    expect(matmulFromRecipe(session, usual, `${bytes}:${changed.toString('base64')}`)).toBeUndefined()
    candidate?.release?.()
  })

  test('TF32 rounds the operands only where a switch says so, and never those of IEEE', () => {
    const fine = 1 + 2 ** -12
    const problem: MatmulProblem = { ...usual, m: 4, n: 4, k: 4, dtype: 'f32', resultDtype: 'f32', precision: 'tf32' }
    const ones = { a: Array<number>(16).fill(1), b: Array<number>(16).fill(fine), bias: [] }
    const values = (precision: 'tf32' | 'ieee') => {
      const [first, ...others] = matmulCandidates(session, { ...problem, precision })
      if (first === undefined) throw new Error('no candidate')
      const [value] = compute(problem, first, ones)
      for (const { release } of [first, ...others]) release?.()
      return value
    }
    expect([values('tf32'), values('ieee')]).toEqual([4 * fine, 4 * fine])
    gpu.option('tf32', 1)
    expect([values('tf32'), values('ieee')]).toEqual([4, 4 * fine])
  })
})

/** Descriptors of a column-major product of f16, 24 x 32 times 32 x 40, and what is done to them before use. */
function described(edit: (descriptors: Descriptors) => void = () => undefined) {
  const { blas } = gpu
  const layout = (rows: number, columns: number, type: keyof typeof realTypes = '16F') =>
    blas.createLayout(type, rows, columns, rows)
  const operation = blas.createMatmul('32F', '32F')
  const descriptors = { operation, a: layout(24, 32), b: layout(32, 40), c: layout(24, 40), d: layout(24, 40) }
  edit(descriptors)
  const release = () => {
    blas.destroyMatmul(operation)
    for (const each of [descriptors.a, descriptors.b, descriptors.c, descriptors.d]) blas.destroyLayout(each)
  }
  return { descriptors, release }
}

function proposalsOf(
  descriptors: Descriptors,
  edit: (preference: ReturnType<LibraryGpu['blas']['createPreference']>) => void = () => undefined,
) {
  const preference = gpu.blas.createPreference()
  try {
    gpu.blas.setPreference(preference, 'MAX_WORKSPACE_BYTES', 2 ** 26)
    edit(preference)
    return gpu.blas.proposals(gpu.blasHandle, descriptors, preference, 16)
  } finally {
    gpu.blas.destroyPreference(preference)
  }
}

describe('heuristics', () => {
  const mistakes: readonly (readonly [string, number, (descriptors: Descriptors) => void])[] = [
    ['a leading dimension below the rows', 7, ({ a }) => gpu.blas.setLayout(a, 'LD', 23)],
    ['a negative leading dimension', 7, ({ b }) => gpu.blas.setLayout(b, 'LD', -1)],
    ['an order there is not', 7, ({ a }) => gpu.blas.setLayout(a, 'ORDER', 9)],
    ['rows that differ', 7, ({ a }) => gpu.blas.setLayout(a, 'ROWS', 23)],
    ['an inner extent that differs', 7, ({ b }) => gpu.blas.setLayout(b, 'ROWS', 31)],
    ['no batches', 7, ({ d }) => gpu.blas.setLayout(d, 'BATCH_COUNT', 0)],
    ['batches of one operand', 7, ({ a }) => gpu.blas.setLayout(a, 'BATCH_COUNT', 3)],
    ['a transposition there is not', 7, ({ operation }) => gpu.blas.setMatmul(operation, 'TRANSA', 7)],
    ['a transposition the layout does not have', 7, ({ operation }) => gpu.blas.setMatmul(operation, 'TRANSB', 1)],
    ['operands of two types', 15, ({ b }) => gpu.blas.setLayout(b, 'TYPE', 14)],
    ['integers', 15, ({ a, b, c, d }) => [a, b, c, d].forEach((each) => gpu.blas.setLayout(each, 'TYPE', 10))],
    ['f64 of f16', 15, ({ c, d }) => [c, d].forEach((each) => gpu.blas.setLayout(each, 'TYPE', 1))],
    ['TF32 of f16', 15, ({ operation }) => gpu.blas.setMatmul(operation, 'COMPUTE_TYPE', 77)],
    ['a compute type there is not', 15, ({ operation }) => gpu.blas.setMatmul(operation, 'COMPUTE_TYPE', 9999)],
    ['factors of another type', 15, ({ operation }) => gpu.blas.setMatmul(operation, 'SCALE_TYPE', 1)],
    ['factors on the device', 15, ({ operation }) => gpu.blas.setMatmul(operation, 'POINTER_MODE', 1)],
    ['an epilogue there is not', 15, ({ operation }) => gpu.blas.setMatmul(operation, 'EPILOGUE', 9999)],
    ['a gradient of the bias', 15, ({ operation }) => gpu.blas.setMatmul(operation, 'EPILOGUE', 256)],
    [
      'a bias of another type',
      15,
      ({ operation }) => {
        gpu.blas.setMatmul(operation, 'EPILOGUE', 4)
        gpu.blas.setMatmul(operation, 'BIAS_DATA_TYPE', 0)
      },
    ],
    [
      'an epilogue over rows',
      15,
      ({ operation, d }) => {
        gpu.blas.setMatmul(operation, 'EPILOGUE', 2)
        gpu.blas.setLayout(d, 'ORDER', 1)
        gpu.blas.setLayout(d, 'LD', 40)
      },
    ],
  ]
  test.each(mistakes)('%s: status %i', (_, status, edit) => {
    const { descriptors, release } = described(edit)
    expect(statusOf(() => void proposalsOf(descriptors))).toBe(status)
    release()
  })

  test('no more than were asked for, and none over the workspace, the schemes or the alignment', () => {
    const { descriptors, release } = described()
    const { blas } = gpu
    const schemes = (found: readonly { readonly algorithm: Algorithm }[]) =>
      found.map(({ algorithm }) => blas.algorithmAttribute(algorithm, 'REDUCTION_SCHEME'))
    expect(new Set(schemes(proposalsOf(descriptors)))).toEqual(new Set([0, 1, 2, 4]))
    expect(
      new Set(schemes(proposalsOf(descriptors, (p) => blas.setPreference(p, 'REDUCTION_SCHEME_MASK', 2)))),
    ).toEqual(new Set([0, 2]))
    const small = proposalsOf(descriptors, (p) => blas.setPreference(p, 'MAX_WORKSPACE_BYTES', 0))
    expect(small.map(({ workspaceBytes }) => workspaceBytes)).toEqual(small.map(() => 0))
    const unaligned = proposalsOf(descriptors, (p) => blas.setPreference(p, 'MIN_ALIGNMENT_A_BYTES', 2))
    expect(unaligned.map(({ algorithm }) => blas.algorithmAttribute(algorithm, 'ID'))).toEqual([13, 13, 0])
    const preference = blas.createPreference()
    expect(blas.proposals(gpu.blasHandle, descriptors, preference, 2)).toHaveLength(2)
    blas.destroyPreference(preference)
    release()
  })
})

describe('a product', () => {
  const call = (
    descriptors: Descriptors,
    algorithm: Algorithm,
    changes: Partial<Parameters<LibraryGpu['blas']['matmul']>[1]> = {},
  ) => {
    const memory = () => gpu.allocate(24 * 40 * 2)
    const data = { aData: memory(), bData: gpu.allocate(32 * 40 * 2), cData: memory(), dData: memory() }
    const common = { alpha: 1, beta: 0, workspace: undefined, workspaceBytes: 0, stream: gpu.stream }
    return statusOf(() =>
      gpu.blas.matmul(gpu.blasHandle, { ...descriptors, ...data, ...common, algorithm, ...changes }),
    )
  }

  test('without its workspace, without memory, misaligned, with a broken algorithm or a missing bias is refused', () => {
    const { descriptors, release } = described()
    const proposals = proposalsOf(descriptors)
    const plain = proposals.find(
      ({ workspaceBytes, algorithm }) =>
        workspaceBytes === 0 && gpu.blas.algorithmAttribute(algorithm, 'REDUCTION_SCHEME') === 0,
    )
    const split = proposals.find(({ workspaceBytes }) => workspaceBytes > 0)
    if (plain === undefined || split === undefined) throw new Error('no proposals')
    expect(call(descriptors, plain.algorithm)).toBe(0)
    expect(call(descriptors, split.algorithm)).toBe(7)
    const workspace = gpu.allocate(split.workspaceBytes + 16)
    const enough = { workspace, workspaceBytes: split.workspaceBytes }
    expect(call(descriptors, split.algorithm, enough)).toBe(0)
    expect(call(descriptors, split.algorithm, { workspace, workspaceBytes: split.workspaceBytes - 1 })).toBe(7)
    expect(call(descriptors, split.algorithm, { ...enough, workspace: offset(workspace, 8) })).toBe(7)
    expect(call(descriptors, plain.algorithm, { aData: offset(gpu.allocate(4096), 2) })).toBe(15)
    expect(call(descriptors, new Uint8Array(64))).toBe(7)
    expect(
      call(
        descriptors,
        plain.algorithm.map((byte, i) => (i === 20 ? byte + 1 : byte)),
      ),
    ).toBe(7)
    gpu.blas.setMatmul(descriptors.operation, 'EPILOGUE', 4)
    expect(call(descriptors, plain.algorithm)).toBe(7)
    gpu.driver.synchronizeStream(gpu.stream)
    release()
  })

  test('beta adds C, alpha scales, D may be C', () => {
    const { descriptors, release } = described()
    const algorithm = proposalsOf(descriptors).at(-1)?.algorithm ?? new Uint8Array(64)
    const [a, b, c] = [eighths(1, 24 * 32), eighths(2, 32 * 40), eighths(3, 24 * 40)]
    const [aData, bData, dData] = [gpu.upload('f16', a), gpu.upload('f16', b), gpu.upload('f16', c)]
    expect(call(descriptors, algorithm, { aData, bData, cData: dData, dData, alpha: 0.5, beta: 2 })).toBe(0)
    const wanted = range(40).flatMap((column) =>
      range(24).map((row) => {
        let sum = 0
        for (let inner = 0; inner < 32; inner++) sum += at(a, inner * 24 + row) * at(b, column * 32 + inner)
        return roundTo('f16', 0.5 * sum + 2 * at(c, column * 24 + row))
      }),
    )
    expect(difference(gpu.download('f16', dData, 24 * 40), wanted)).toBeUndefined()
    release()
  })

  test('an algorithm of partial sums in place gives other bits in each run, one that rounds them is further off', () => {
    const { descriptors, release } = described()
    const proposals = proposalsOf(descriptors)
    const byScheme = (scheme: number) =>
      proposals.find(({ algorithm }) => gpu.blas.algorithmAttribute(algorithm, 'REDUCTION_SCHEME') === scheme)
    const [aData, bData] = [gpu.upload('f16', eighths(1, 24 * 32)), gpu.upload('f16', eighths(2, 32 * 40))]
    const run = (scheme: number) => {
      const found = byScheme(scheme)
      if (found === undefined) throw new Error(`no scheme ${scheme}`)
      const dData: DevicePointer = gpu.allocate(24 * 40 * 2)
      const { workspaceBytes, algorithm } = found
      const workspace = workspaceBytes > 0 ? gpu.allocate(workspaceBytes) : undefined
      expect(call(descriptors, algorithm, { aData, bData, dData, workspace, workspaceBytes })).toBe(0)
      return gpu.download('f16', dData, 24 * 40)
    }
    const right = run(0)
    expect(difference(run(2), right)).toBeUndefined()
    expect(difference(run(1), run(1))).toBeDefined()
    expect(difference(run(4), right)).toBeDefined()
    release()
  })

  test('memory that is not there, or shared with the result, is a violation', () => {
    const { descriptors, release } = described()
    const algorithm = proposalsOf(descriptors).at(-1)?.algorithm ?? new Uint8Array(64)
    const freed = gpu.driver.allocate(4096)
    const shared = gpu.allocate(4096)
    gpu.driver.free(freed)
    expect(call(descriptors, algorithm, { aData: freed })).toBe(13)
    expect(call(descriptors, algorithm, { aData: shared, dData: shared })).toBe(13)
    expected = [
      expect.stringMatching(/cublasLtMatmul: A at .* is not inside live device memory when it is called/),
      expect.stringMatching(/D at .* shares memory with an operand/),
    ]
    release()
  })
})
