// What is written for the global batch: gradients, statistics and sums go through allReduce, the finite test after it; of
// one process no plan has a trace of it, and devices without other processes say so.
import { describe, expect, it } from 'vitest'
import { traceFlat } from '../../src/autograd/trace.ts'
import { compileProgram } from '../../src/compile/index.ts'
import type { OptimizeLevel } from '../../src/tensor/device.ts'
import { bindOne, setDefaultDevice } from '../../src/tensor/dispatch.ts'
import { add, tensor } from '../../src/tensor/ops/index.ts'
import { type Program, type Var, showProgram } from '../../src/tensor/program.ts'
import { at } from '../../src/tensor/shape.ts'
import { leavesOf } from '../../src/tensor/tree.ts'
import { dynamic, initTrainState, makeEvalStep, makeTrainStep, sgd } from '../../src/train/index.ts'
import { testDevices } from '../support/devices.ts'
import { toyBatch, toyModel, toyShape } from '../support/toy.ts'

const levels: readonly OptimizeLevel[] = ['none', 'simplify', 'fuse']

/** The equations of a program that a variable depends on. */
function behind(program: Program, output: Var): ReadonlySet<number> {
  const found = new Set<number>()
  const wanted = new Set<unknown>([output])
  for (let index = program.equations.length - 1; index >= 0; index--) {
    const equation = at(program.equations, index)
    if (!equation.outputs.some((variable) => wanted.has(variable))) continue
    found.add(index)
    for (const input of equation.inputs) wanted.add(input)
  }
  return found
}

describe.each(testDevices())('on %s', (_name, device) => {
  it('a training step reduces gradients, statistics and sums, then tests what it reduced', async () => {
    setDefaultDevice(device)
    const model = toyModel()
    const optimizer = sgd({ momentum: 0.9 })
    const state = await initTrainState(model.init(1, toyShape), { optimizer, seed: 1, lossScale: dynamic() })
    const step = makeTrainStep(model, { optimizer, precision: 'f16' })
    const program = step.program(state, toyBatch(0), tensor(0.1))
    const reduced = program.equations.flatMap(({ primitive }, index) => (primitive === 'allReduce' ? [index] : []))
    const [params, statistics] = [leavesOf(state.params).length, leavesOf(state.state).length]
    expect(reduced).toHaveLength(params + statistics + 4)
    // Of the results the flag `finite` alone is bool: all gradients, statistics and the loss are behind it, reduced.
    const finite = program.outputs.filter(
      (output): output is Var => output.kind === 'var' && output.type.dtype === 'bool',
    )
    expect(finite).toHaveLength(1)
    const tested = behind(program, at(finite, 0))
    expect(reduced.filter((index) => tested.has(index))).toHaveLength(params + statistics + 1)
    const stored = program.outputs.filter((output) => output.kind === 'var')
    const { steps } = compileProgram({ ...program, outputs: stored }, { optimize: 'fuse', donate: [] })
    expect(JSON.stringify(steps)).not.toContain('allReduce')
  })

  it('an evaluation step reduces its four sums', () => {
    setDefaultDevice(device)
    const model = toyModel()
    const { params, state } = model.init(1, toyShape)
    const program = makeEvalStep(model).program(params, state, { ...toyBatch(0), weights: tensor([1, 1, 1, 0]) })
    expect(showProgram(program).match(/allReduce/g)).toHaveLength(4)
  })

  it('more than one process is refused: there is none', async () => {
    setDefaultDevice(device)
    const x = tensor([1, 2])
    await expect(bindOne('allReduce', [x], { op: 'mean', group: 1 }).data()).resolves.toEqual(Float32Array.of(1, 2))
    await expect(async () => bindOne('allReduce', [x], { op: 'mean', group: 2 }).data()).rejects.toThrow(
      /^\[allReduce\] expected a group of one process, got 2\./,
    )
  })
})

describe('a plan', () => {
  it.each(levels)('has no step for a group of one, and one for a larger group (%s)', (optimize) => {
    const stepsOf = (group: number) => {
      const { program } = traceFlat(
        ([x]) => (x === undefined ? [] : [bindOne('allReduce', [add(x, 1)], { op: 'sum', group })]),
        [{ shape: [5], dtype: 'f32' }],
        'reduce',
        { keepCalls: false },
      )
      const { steps } = compileProgram(program, { optimize, donate: [], verify: true })
      return steps.flatMap((step) => (step.kind === 'library' ? [step.equation.primitive] : []))
    }
    expect(stepsOf(1)).toEqual([])
    expect(stepsOf(2)).toEqual(['allReduce'])
  })
})
