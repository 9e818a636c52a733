// The fusions around a convolution that cuDNN has on an H200. Their engines compile kernels, for which a driver must be at
// hand, if only a stand-in; nothing is executed.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Fusion } from '../../src/cuda/conv/graph.ts'
import {
  type ConvProblem,
  type CudnnSession,
  convCandidates,
  convFromRecipe,
  showProblem,
} from '../../src/cuda/conv/index.ts'
import { absent } from '../cuda/wheels.ts'
import { first, plain } from './conv-samples.ts'
import { findLibraries, h200Session, provideDriver } from './libraries.ts'

const libraries = findLibraries()
if (libraries.cudnn === undefined) absent('fusions are not planned by cuDNN, because there is none')

describe.skipIf(libraries.cudnn === undefined || !provideDriver())('cuDNN, for an H200', () => {
  let session: CudnnSession
  beforeAll(() => {
    session = h200Session(libraries)
  })
  afterAll(() => session.release())

  const fused: readonly (readonly [Extract<Fusion, string>, Partial<ConvProblem>])[] = [
    ['bias', {}],
    ['bias-relu', {}],
    ['bias-relu', { filter: [128, 3, 3, 4], padding: plain.padding, groups: 32 }],
    ['add', { direction: 'conv2dInputGrad' }],
    ['statistics', {}],
  ]
  test.each(fused)('plans a convolution fused with %s (%o)', (fusion, change) => {
    // Sums in bf16 are only had from kernels that cuDNN compiles for a graph, and those add up with atomics.
    for (const dtype of fusion === 'statistics' ? (['f16'] as const) : (['f16', 'bf16'] as const)) {
      const problem = {
        ...plain,
        filter: [128, 1, 1, 128],
        padding: [
          [0, 0],
          [0, 0],
        ],
        ...change,
        dtype,
      } as ConvProblem
      const [candidate] = first(session, problem, 1, fusion)
      const again = convFromRecipe(session, problem, candidate?.recipe ?? '', { fusion })
      expect(again?.id).toBe(candidate?.id)
      console.log(
        `  ${showProblem(problem)} + ${fusion}: ${candidate?.id}, ${((candidate?.scratchBytes ?? 0) / 1e6).toFixed(1)} MB`,
      )
      again?.release?.()
      candidate?.release?.()
    }
  })

  test('sums in bf16 only where any order will do', () => {
    const [filter, padding] = [
      [128, 1, 1, 128],
      [
        [0, 0],
        [0, 0],
      ],
    ] as const
    const problem: ConvProblem = { ...plain, filter, padding, dtype: 'bf16' }
    expect(() => first(session, problem, 1, 'statistics')).toThrow(/engines refused for RUNTIME_COMPILATION/)
    const [candidate] = convCandidates(session, problem, { fusion: 'statistics', deterministic: false })
    expect(candidate?.id).toMatch(/^cudnn:engine/)
    candidate?.release?.()
  })
})
