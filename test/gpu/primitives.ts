// The part `primitives`: every primitive in every precision on the GPU against the reference, and every way in which the
// contractions of the model can be computed against a plain one.
import fc from 'fast-check'
import { traceFlat } from '../../src/autograd/trace.ts'
import type { CudaDevice } from '../../src/cuda/device.ts'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'
import type { FloatDType } from '../../src/tensor/dtype.ts'
import { roundTo } from '../../src/tensor/half.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import { interpret } from '../../src/tensor/reference/interpreter.ts'
import { at, zip } from '../../src/tensor/shape.ts'
import { type Case, lawList } from '../support/primitive-cases.ts'
import { retyped } from '../support/retyped.ts'
import { type Precision, contracts, roundingBounds } from '../support/rounding-bounds.ts'
import { compareCandidates } from './candidates.ts'
import { type Given, runJoined } from '../support/joined.ts'
import { type Gpu, type Part, type Tell, attempt, sized, withDevice } from './part.ts'

interface Mode {
  readonly name: string
  readonly dtype: FloatDType
  readonly precision: Precision
  /** Whether only products are compared: everything else is the same in another mode. */
  readonly productsOnly?: boolean
}

const modes: readonly Mode[] = [
  { name: 'f16', dtype: 'f16', precision: 'tf32' },
  { name: 'bf16', dtype: 'bf16', precision: 'tf32' },
  { name: 'f32 TF32', dtype: 'f32', precision: 'tf32', productsOnly: true },
  { name: 'f32 IEEE', dtype: 'f32', precision: 'ieee' },
]

interface Shown extends Given {
  readonly show: string
}

/** Cases of a primitive as programs in a dtype. The default device is the reference meanwhile. */
async function programs(cases: fc.Arbitrary<Case>, gpu: Gpu, dtype: FloatDType): Promise<readonly Shown[]> {
  const before = setDefaultDevice(referenceDevice())
  try {
    const sampled = fc.sample(cases, { numRuns: sized(gpu, 8, 1), seed: gpu.seed })
    return await Promise.all(
      sampled.map(async ({ f, operands, show }) => {
        const given = operands()
        const { program, constants } = traceFlat((xs) => f(...xs), given, show, { keepCalls: false })
        const typed = retyped(program, dtype)
        const values = await Promise.all([...given, ...constants].map((x) => x.data()))
        const rounded = zip(typed.inputs, values).map(([{ type }, data]) =>
          Float64Array.from(data, (value) => roundTo(type.dtype, value)),
        )
        return { program: typed, operands: rounded, show }
      }),
    )
  } finally {
    if (before !== undefined) setDefaultDevice(before)
  }
}

/** The worst of some errors, and where. */
interface Worst {
  cases: number
  error: number
  where?: string
}

/** Adds a program's results: shares of the bounds, or 1 for each element that differs where none may. */
function judge(
  worst: Worst,
  { program, operands, show }: Shown,
  found: readonly ArrayLike<number>[],
  exact: boolean,
  precision: Precision,
): void {
  const values = zip(program.inputs, operands).map(([{ type }, data]) => ({ type, data }))
  const expected = interpret(program, values).map(({ data }) => data)
  const bounds = exact ? undefined : roundingBounds(program, operands, expected, precision)
  expected.forEach((want, output) => {
    const got = at(found, output)
    want.forEach((value, i) => {
      const mine = got[i] ?? Number.NaN
      worst.cases += 1
      if (Object.is(mine, value)) return
      const error = bounds === undefined ? worst.error + 1 : Math.abs(mine - value) / at(bounds, output)(i)
      if (error <= worst.error) return
      worst.error = Number.isNaN(error) ? Infinity : error
      worst.where = `${show}, output ${output}, element ${i}: ${mine} for ${value}`
    })
  })
}

async function compare(gpu: Gpu, device: CudaDevice, tell: Tell, name: string, cases: fc.Arbitrary<Case>, mode: Mode) {
  const all = await programs(cases, gpu, mode.dtype)
  const chosen = all.filter(({ program }) => mode.productsOnly !== true || contracts(program))
  if (chosen.length === 0) return
  const found = await runJoined(device, chosen, { optimize: 'none', label: name })
  const exact = chosen.every(({ program, operands }) => isExact(program, operands, mode.precision))
  const worst: Worst = { cases: 0, error: 0 }
  for (const [one, results] of zip(chosen, found)) judge(worst, one, results, exact, mode.precision)
  tell.compared({
    name: `${name} in ${mode.name}, ${exact ? 'elements with other bits' : 'shares of the bound'}`,
    ...{ cases: worst.cases, worst: worst.error, tolerance: exact ? 0 : 1 },
    ...(worst.where === undefined ? {} : { where: worst.where }),
  })
}

function isExact(program: Given['program'], operands: readonly Float64Array[], precision: Precision): boolean {
  const unused = program.outputs.map(() => new Float64Array())
  return roundingBounds(program, operands, unused, precision) === undefined
}

/** Which primitives are tried where little is to be tried: one of each kind. */
const fewPrimitives: readonly string[] = ['exp', 'mul', 'conv2d', 'dot', 'reduceSum', 'moments', 'gather']

export const primitives: Part = {
  says: 'every primitive against the reference (bits, or shares of a bound derived from its roundings), every way to compute a contraction against a plain one',
  seconds: 150,
  run: async (gpu, tell) => {
    const few = gpu.size === 'small'
    for (const precision of ['tf32', 'ieee'] as const)
      await withDevice(gpu, { precision, environment: { PULLBACK_VERIFY: '' } }, async (device) => {
        for (const mode of modes.filter((one) => one.precision === precision && (!few || one.name !== 'bf16')))
          for (const [name, { cases }] of lawList.filter(([known]) => !few || fewPrimitives.includes(known)))
            await attempt(tell, `${name} in ${mode.name}`, () => compare(gpu, device, tell, name, cases, mode))
        await compareCandidates(gpu, device, tell, precision)
      })
  },
}
