// The law of the compiled CPU device: at every level it computes what the program means. Many random programs are joined
// into one, so that the C compiler is called once a level; a failure names the program it is in.
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { traceFlat } from '../../src/autograd/trace.ts'
import { vjp } from '../../src/autograd/vjp.ts'
import { cpuDevice } from '../../src/cpu/index.ts'
import type { OptimizeLevel } from '../../src/tensor/device.ts'
import { type DType, isFloat } from '../../src/tensor/dtype.ts'
import { decode, encode, roundTo } from '../../src/tensor/half.ts'
import { onesLike } from '../../src/tensor/ops/index.ts'
import { type Program, type Var, showProgram } from '../../src/tensor/program.ts'
import { interpret } from '../../src/tensor/reference/interpreter.ts'
import { at, zip } from '../../src/tensor/shape.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { runs, seed } from '../runs.ts'
import { type ProgramOptions, type RandomProgram, arbitraryProgram } from '../support/programs.ts'

const device = cpuDevice()
afterAll(() => device?.close())

const levels: readonly OptimizeLevel[] = ['none', 'simplify', 'fuse']

describe.runIf(device !== undefined)('native code computes what programs mean', () => {
  it.each(levels)('for random f32 programs (%s)', { timeout: 120_000 }, async (optimize) => {
    await agree(sample({ kind: 'continuous' }, 60), traced, optimize, 5e-5)
  })

  it.each(levels)('for random programs of every dtype (%s)', { timeout: 120_000 }, async (optimize) => {
    const dtypes: readonly DType[] = ['f32', 'f16', 'bf16', 'f64', 'i32']
    await agree(sample({ kind: 'continuous', dtypes }, 60), traced, optimize, 4e-2)
  })

  it.each(levels)('for values and gradients together (%s)', { timeout: 120_000 }, async (optimize) => {
    await agree(sample({ kind: 'smooth', size: 6 }, 40), tracedGradient, optimize, 2e-4)
  })
})

if (device === undefined) it.skip('no C compiler here: the compiled CPU device is not tested', () => undefined)

function sample(options: ProgramOptions, count: number): RandomProgram[] {
  return fc.sample(arbitraryProgram(options), { numRuns: runs(count), seed: seed() })
}

function traced(random: RandomProgram): Program {
  return traceFlat(random.f, random.inputs, 'random', { keepCalls: false }).program
}

function tracedGradient(random: RandomProgram): Program {
  const f = (inputs: readonly Tensor[]): readonly Tensor[] => {
    const [outputs, pullback] = vjp(
      (...tensors: Tensor[]) => random.f(tensors).filter((x) => isFloat(x.dtype)),
      ...inputs,
    )
    return [...outputs, ...pullback(outputs.map(onesLike))]
  }
  return traceFlat(f, random.inputs, 'random', { keepCalls: false }).program
}

async function agree(
  randoms: readonly RandomProgram[],
  trace: (random: RandomProgram) => Program,
  optimize: OptimizeLevel,
  tolerance: number,
): Promise<void> {
  if (device === undefined) throw new Error('no device')
  const programs = randoms.map(trace)
  const joined: Program = {
    inputs: programs.flatMap((program) => program.inputs),
    equations: programs.flatMap((program) => program.equations),
    outputs: programs.flatMap((program) => program.outputs),
  }
  const values = zip(randoms, programs).flatMap(([random, program]) =>
    zip(random.inputs, program.inputs).map(([input, { type }]) =>
      Float64Array.from(input.values, (value) => roundTo(type.dtype, value)),
    ),
  )
  const storages = zip(joined.inputs, values).map(([{ type }, data]) => device.upload(encode(type.dtype, data), type))
  const executable = device.compile(joined, { optimize, donate: [], label: 'random programs' })
  const actual = await Promise.all(
    executable.run(storages).map(async (storage) => decode(storage.type.dtype, await device.read(storage))),
  )
  const inputs = new Map<Var, Float64Array>(zip(joined.inputs, values))
  let next = 0
  for (const program of programs) {
    const expected = interpret(
      program,
      program.inputs.map((v) => ({ type: v.type, data: inputs.get(v) ?? new Float64Array() })),
    )
    for (const want of expected) near(at(actual, next++), want.data, tolerance, program)
  }
  expect(next).toBe(actual.length)
  executable.release()
}

function near(got: ArrayLike<number>, want: Float64Array, tolerance: number, program: Program): void {
  want.forEach((value, i) => {
    const element = got[i] ?? Number.NaN
    const same =
      Object.is(element, value) ||
      element === value ||
      Math.abs(element - value) <= tolerance * Math.max(1, Math.abs(value))
    if (!same) throw new Error(`element ${i}: expected ${value}, got ${element}, in\n${showProgram(program)}`)
  })
}
