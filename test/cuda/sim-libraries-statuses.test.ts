// The simulated cuDNN and cuBLASLt answer to the tables of calls what the real ones answered. Where the simulation is
// stricter, it is so by name; nowhere does it let pass what the real one refuses.
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { traceFlat } from '../../src/autograd/trace.ts'
import { type Cudnn, bindCudnn } from '../../src/cuda/ffi/cudnn.ts'
import type { NativeLibrary } from '../../src/cuda/ffi/loader.ts'
import { seResNeXt101_32x4d } from '../../src/nn/index.ts'
import type { Program, TensorType } from '../../src/tensor/program.ts'
import { at } from '../../src/tensor/shape.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { flatten, unflatten } from '../../src/tensor/tree.ts'
import { type Simulation, simulation } from '../sim/library.ts'
import { blasAnswers, blasCalls } from './sequences/cublaslt.ts'
import { crashes } from './sequences/crashes.ts'
import { modelConvolutions } from './sequences/graphs.ts'
import { type Answers, answers, malformed, recorded, wellFormed } from './sequences/table.ts'

let simulated: Simulation
let library: NativeLibrary
let cudnn: Cudnn

beforeAll(async () => {
  simulated = await simulation()
  library = simulated.native.load(join(simulated.environment['PULLBACK_CUDA_PATH'] ?? '', 'libcudnn.so.9'))
  cudnn = bindCudnn(library)
  simulated.reset()
}, 600_000)

const golden = recorded<Answers>('cudnn-statuses.json')

describe('sequences of cuDNN descriptors', () => {
  test('the record is of this table, and the simulation is of its version', () => {
    const names = [...malformed, ...wellFormed].map(({ name }) => name)
    expect(new Set(names).size).toBe(names.length)
    expect(Object.keys(golden.answers).sort()).toEqual([...names].sort())
    expect(cudnn.version()).toBe(golden.version)
  })

  test('what is in order is in order: every graph of the model and every fusion has a plan', () => {
    // Two fusions have none in mode A, as cuDNN says; a status of -2 is a success with nothing to propose.
    expect(wellFormed.length).toBeGreaterThan(200)
    for (const sequence of wellFormed) {
      expect(answers(cudnn, sequence), sequence.name).toEqual(golden.answers[sequence.name])
      expect(Object.values(golden.answers[sequence.name] ?? {}).filter((status) => status !== -2)).toEqual([])
    }
  })

  test('malformed sequences fail at the same calls with the same statuses', () => {
    const agreeing = malformed.filter(({ stricter }) => stricter === undefined)
    expect(agreeing.length).toBeGreaterThan(60)
    for (const sequence of agreeing) {
      const found = answers(cudnn, sequence)
      expect(found, sequence.name).toEqual(golden.answers[sequence.name])
      expect(Object.keys(found), `${sequence.name} is not malformed`).not.toEqual([])
    }
  })

  test('the simulation is stricter only by name, and never lets pass what cuDNN refuses', () => {
    for (const sequence of malformed.filter(({ stricter }) => stricter !== undefined)) {
      const [found, real] = [answers(cudnn, sequence), golden.answers[sequence.name] ?? {}]
      expect(Object.keys(found), sequence.name).toEqual(expect.arrayContaining(Object.keys(real)))
      expect(Object.keys(found).length, sequence.name).toBeGreaterThan(Object.keys(real).length)
    }
  })

  test('what crashes the real cuDNN is refused', () => {
    for (const sequence of crashes) expect(Object.keys(answers(cudnn, sequence)), sequence.name).not.toEqual([])
  })

  test('nothing is left of the sequences, and none was a violation', () => {
    const { live, violations } = simulated.report()
    expect(live).toEqual({})
    expect(violations).toEqual([])
  })

  test('a child that was destroyed is a violation, not a crash', () => {
    const [tensor, operation] = [cudnn.createDescriptor('TENSOR'), cudnn.createDescriptor('OPERATIONGRAPH')]
    cudnn.destroyDescriptor(tensor)
    expect(() =>
      cudnn.setAttribute(operation, 'OPERATIONGRAPH_OPS', 'BACKEND_DESCRIPTOR', BigInt64Array.of(tensor)),
    ).toThrow(/status 2000/)
    expect(() => cudnn.destroyDescriptor(tensor)).toThrow(/status 2000/)
    cudnn.destroyDescriptor(operation)
    expect(simulated.report().violations).toEqual([
      expect.stringContaining('cudnnBackendSetAttribute got'),
      expect.stringContaining('cudnnBackendDestroyDescriptor got'),
    ])
    simulated.reset()
  })

  test('every convolution of the model is in the table', () => {
    const table = new Set(
      modelConvolutions.map(({ channels, outputs, kernel, groups, stride, size }) =>
        [channels, outputs, kernel, groups, stride, size].join(' '),
      ),
    )
    const found = modelProgram().equations.flatMap((equation) => {
      if (equation.primitive !== 'conv2d') return []
      const [x, filter] = equation.inputs.map(({ type }) => type.shape)
      if (x === undefined || filter === undefined) throw new Error('a convolution of nothing')
      const { groups, stride } = equation.params
      return [[at(x, 3), at(filter, 0), at(filter, 1), groups, at(stride, 0), at(x, 1)].join(' ')]
    })
    expect(found.length).toBeGreaterThan(100)
    expect(found.filter((conv) => !table.has(conv))).toEqual([])
  })
})

/** SE-ResNeXt101-32x4d on one image, traced. */
function modelProgram(): Program {
  const model = seResNeXt101_32x4d({ classes: 1000 })
  const input = [1, 224, 224, 3]
  const description = model.describe(input)
  const [params, state] = [flatten(description.params), flatten(description.state)]
  const types = [...params.leaves, ...state.leaves].map(({ shape }): TensorType => ({ shape, dtype: 'f32' }))
  const forward = (inputs: readonly Tensor[]): readonly Tensor[] => {
    const values = unflatten(params.structure, inputs.slice(0, params.leaves.length)) as never
    const statistics = unflatten(state.structure, inputs.slice(params.leaves.length, -1)) as never
    return [model.apply(values, statistics, at(inputs, inputs.length - 1), { training: false })[0]]
  }
  return traceFlat(forward, [...types, { shape: input, dtype: 'f32' }], 'model', { keepCalls: false }).program
}

test("calls on cuBLASLt's descriptors are answered as the real one answers", () => {
  const { answers: real } = recorded<number>('cublaslt-statuses.json')
  expect(blasCalls.length).toBe(Object.keys(real).length)
  expect(blasAnswers(library)).toEqual(real)
  expect(simulated.report().live).toEqual({})
})
