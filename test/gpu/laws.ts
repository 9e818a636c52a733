// The part `laws`: what holds for every program and every step, on random ones of a fixed seed: plans at each level are the
// reference's, derivatives are those of differences, casts round once, scaling is exact, and skipped steps change nothing.
import fc from 'fast-check'
import { checkGrads } from '../../src/autograd/check-grads.ts'
import { jit } from '../../src/autograd/jit.ts'
import type { CudaDevice } from '../../src/cuda/device.ts'
import type { OptimizeLevel } from '../../src/tensor/device.ts'
import { type DType, storageArray } from '../../src/tensor/dtype.ts'
import { decode, encode, roundTo } from '../../src/tensor/half.ts'
import { cast } from '../../src/tensor/ops/index.ts'
import { type Program, showProgram } from '../../src/tensor/program.ts'
import { traceFlat } from '../../src/autograd/trace.ts'
import { at, range, zip } from '../../src/tensor/shape.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { runJoined } from '../support/joined.ts'
import { type ProgramLaw, programLaws, samplePrograms, worstElement } from '../support/program-laws.ts'
import { arbitraryProgram, upload } from '../support/programs.ts'
import { brokenByScaling, scalings } from '../support/scaling-law.ts'
import { brokenBySkipping, spoils } from '../support/skip-law.ts'
import { type Gpu, type Part, type Tell, attempt, sized, withDevice } from './part.ts'

const levels: readonly OptimizeLevel[] = ['none', 'simplify', 'fuse']

async function plans(gpu: Gpu, device: CudaDevice, tell: Tell, law: ProgramLaw, optimize: OptimizeLevel) {
  const given = samplePrograms(law, sized(gpu, Math.round(law.count / 3), 1), gpu.seed)
  const found = await runJoined(device, given, { optimize, label: law.name })
  const errors = zip(given, found).map(([one, results]) => ({ program: one.program, ...worstElement(one, results) }))
  const worst = errors.reduce((a, b) => (b.error > a.error ? b : a))
  const failed = !(worst.error <= law.tolerance)
  const where = `output ${worst.output}, element ${worst.element}: ${worst.found} for ${worst.expected}`
  tell.compared({
    name: `${law.name} at '${optimize}', error of an element`,
    ...{ cases: given.length, worst: worst.error, tolerance: law.tolerance },
    ...(failed ? { where: `${where} of\n${showProgram(worst.program)}` } : {}),
  })
}

/** A law that is kept or broken, run by run; what is told of is the first that breaks it. */
async function holds<T>(
  tell: Tell,
  name: string,
  cases: readonly T[],
  broken: (one: T) => Promise<readonly string[]>,
): Promise<void> {
  const complaints: string[] = []
  for (const one of cases) {
    const said = await broken(one)
    if (said.length > 0) complaints.push(`${JSON.stringify(one)}: ${said.join('; ')}`)
  }
  tell.compared({
    ...{ name: `${name}, runs that break it`, cases: cases.length, worst: complaints.length, tolerance: 0 },
    ...(complaints[0] === undefined ? {} : { where: complaints[0] }),
  })
}

/** First and second derivatives of smooth programs in f64, which the device computes. */
function derivatives(gpu: Gpu, tell: Tell): Promise<void> {
  const programs = arbitraryProgram({ dtypes: ['f64'], kind: 'smooth', size: sized(gpu, 4, 2) })
  const sampled = fc.sample(programs, { numRuns: sized(gpu, 4, 1), seed: gpu.seed })
  return holds(tell, 'derivatives of smooth programs in f64 are those of differences', sampled, async (program) => {
    const compiled = jit((...xs: Tensor[]) => program.f(xs))
    const inputs = program.inputs.map((x) => upload(x, 'f64'))
    return checkGrads(compiled, inputs, { order: gpu.size === 'full' ? 2 : 1, tolerance: 1e-5 }).then(
      () => [],
      (error: unknown) => [error instanceof Error ? error.message : String(error)],
    )
  })
}

/** All 65,536 patterns of a 16-bit format, and for the way back every value, every midpoint and its neighbours in f32. */
function castOperands(dtype: 'f16' | 'bf16'): { readonly patterns: Uint16Array; readonly points: Float32Array } {
  const patterns = Uint16Array.from(range(65536))
  const values = decode(dtype, patterns)
  const points = new Float32Array(4 * patterns.length)
  const bits = new Int32Array(points.buffer)
  patterns.forEach((pattern, i) => {
    const next = at(values, (pattern + 1) & 0xffff)
    points[4 * i] = at(values, i)
    points[4 * i + 1] = (at(values, i) + next) / 2
    bits[4 * i + 2] = at(bits, 4 * i + 1) + 1
    bits[4 * i + 3] = at(bits, 4 * i + 1) - 1
  })
  return { patterns, points }
}

async function casts(
  device: CudaDevice,
  tell: Tell,
  from: DType,
  to: DType,
  operand: ArrayLike<number>,
): Promise<void> {
  const shape = [operand.length]
  const { program }: { program: Program } = traceFlat(
    ([x]) => (x === undefined ? [] : [cast(x, to)]),
    [{ shape, dtype: from }],
    'cast',
    {
      keepCalls: false,
    },
  )
  const stored = isStored(from, operand) ? operand : encode(from, operand)
  const values = decode(from, stored)
  const input = device.upload(stored, { shape, dtype: from })
  const executable = device.compile(program, { optimize: 'fuse', donate: [], label: `cast ${from} to ${to}` })
  const [output] = executable.run([input])
  if (output === undefined) throw new Error('a cast gave nothing')
  const found = decode(to, await device.read(output))
  const wrong = range(operand.length).filter((i) => !Object.is(found[i], roundTo(to, at(values, i))))
  for (const storage of [input, output]) device.release(storage)
  executable.release()
  const first = wrong[0]
  tell.compared({
    ...{ name: `casts from ${from} to ${to}, elements with other bits (NaN is NaN)`, cases: operand.length },
    ...{ worst: wrong.length, tolerance: 0 },
    ...(first === undefined ? {} : { where: `${at(values, first)} becomes ${found[first] ?? 'nothing'}` }),
  })
}

function isStored(dtype: DType, operand: ArrayLike<number>): operand is Uint16Array {
  return operand instanceof Uint16Array && storageArray(dtype, 0) instanceof Uint16Array
}

export const laws: Part = {
  says: 'random programs at every level against the reference, derivatives against differences, casts, loss scaling, skipped steps',
  seconds: 90,
  run: async (gpu, tell) => {
    tell.note(`random cases of seed ${gpu.seed}`)
    const sample = <T>(arbitrary: fc.Arbitrary<T>, full: number): readonly T[] =>
      fc.sample(arbitrary, { numRuns: sized(gpu, full, 1), seed: gpu.seed })
    await withDevice(gpu, { precision: 'ieee', environment: { PULLBACK_VERIFY: '' } }, async (device) => {
      for (const dtype of ['f16', 'bf16'] as const) {
        const { patterns, points } = castOperands(dtype)
        await attempt(tell, `casts from ${dtype}`, () => casts(device, tell, dtype, 'f32', patterns))
        await attempt(tell, `casts to ${dtype}`, () => casts(device, tell, 'f32', dtype, points))
        await attempt(tell, `casts from ${dtype} to i32`, () => casts(device, tell, dtype, 'i32', patterns))
      }
      for (const law of programLaws)
        for (const optimize of gpu.size === 'small' ? (['fuse'] as const) : levels)
          await attempt(tell, law.name, () => plans(gpu, device, tell, law, optimize))
      await attempt(tell, 'loss scaling', () =>
        holds(tell, 'loss scaling by powers of two is exact', sample(scalings, 4), (one) => brokenByScaling(...one)),
      )
      await attempt(tell, 'skipped steps', () =>
        holds(tell, 'a step with anything not finite changes nothing', sample(spoils, 12), (one) =>
          brokenBySkipping(gpu.seed % 100, one),
        ),
      )
      await attempt(tell, 'derivatives', () => derivatives(gpu, tell))
    })
  },
}
