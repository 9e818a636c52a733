// checkpoint trades arithmetic for memory, and the plan must show it: the law of design.md, section 3.6.
import { describe, expect, it } from 'vitest'
import { checkpoint, grad } from '../../src/autograd/index.ts'
import { traceFlat } from '../../src/autograd/trace.ts'
import { type Plan, compileProgram } from '../../src/compile/index.ts'
import { conv2d, maximum, sum } from '../../src/tensor/ops/index.ts'
import type { TensorType } from '../../src/tensor/program.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'

const depth = 16
const channels = 4

/** The gradient of `depth` convolutions with ReLU by their filters, in segments of `segment` that may be checkpointed. */
function planOf(segment: number | undefined): Plan {
  const types: TensorType[] = [
    { shape: [1, 16, 16, channels], dtype: 'f32' },
    ...Array.from({ length: depth }, (): TensorType => ({ shape: [channels, 3, 3, channels], dtype: 'f32' })),
  ]
  const layers = (x: Tensor, filters: readonly Tensor[]): Tensor =>
    filters.reduce((value, filter) => maximum(conv2d(value, filter, { padding: 1 }), 0), x)
  const loss = (filters: readonly Tensor[], x: Tensor): Tensor => {
    if (segment === undefined) return sum(layers(x, filters))
    let value = x
    for (let first = 0; first < depth; first += segment)
      value = checkpoint(layers)(value, filters.slice(first, first + segment))
    return sum(value)
  }
  const step = ([x, ...filters]: readonly Tensor[]): readonly Tensor[] => grad(loss)(filters, x as Tensor)
  return compileProgram(traceFlat(step, types, 'checkpointed', { keepCalls: false }).program, {
    optimize: 'fuse',
    donate: [],
    verify: true,
  })
}

const convolutions = (plan: Plan): number =>
  plan.steps.filter((step) => step.kind === 'library' && step.equation.primitive === 'conv2d').length

describe('checkpoint', () => {
  const plain = planOf(undefined)
  const segments = planOf(4)

  it('lowers the planned peak', () => {
    expect(segments.arenaBytes).toBeLessThan(0.7 * plain.arenaBytes)
  })

  it('computes the forward pass of each segment again, and nothing more', () => {
    expect(convolutions(plain)).toBe(depth)
    expect(convolutions(segments)).toBeGreaterThan(depth)
    expect(convolutions(segments)).toBeLessThanOrEqual(2 * depth)
  })
})
