// Laws of the transformations over random programs: derivatives against differences, the pullback is linear, and
// checkpoint and jit change neither values nor gradients by a bit.
import fc from 'fast-check'
import { beforeAll, expect, test } from 'vitest'
import { autocast, checkGrads, checkpoint, grad, jit, jvp, verifyPrograms, vjp } from '../../src/autograd/index.ts'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'
import { isFloat } from '../../src/tensor/dtype.ts'
import { add, cast, mul, sub, sum } from '../../src/tensor/ops/index.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import { at, zip } from '../../src/tensor/shape.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { runs } from '../runs.ts'
import { type RandomProgram, arbitraryProgram, upload } from '../support/programs.ts'
import { bitsOf } from '../support/values.ts'

beforeAll(() => {
  setDefaultDevice(referenceDevice())
  verifyPrograms(true)
})

const half = ['f16', 'bf16', 'f32', 'i32', 'bool'] as const

/** The floating results of a program, weighed, as one number. */
function loss({ f }: RandomProgram): (inputs: readonly Tensor[]) => Tensor {
  return (inputs) =>
    f(inputs)
      .filter((y) => isFloat(y.dtype))
      .map((y, i) => mul(sum(cast(y, 'f64')), 1 + i / 4))
      .reduce(add, mul(sum(cast(at(inputs, 0), 'f64')), 0.5))
}

/** The Euclidean norm of all elements together. */
async function norm(tensors: readonly Tensor[]): Promise<number> {
  return Math.sqrt(
    await tensors
      .map((x) => sum(mul(x, x)))
      .reduce(add)
      .item(),
  )
}

const floats = (program: RandomProgram, dtype: 'f32' | 'f64'): Tensor[] => program.inputs.map((x) => upload(x, dtype))

test('derivatives of smooth programs agree with differences, first and second order', async () => {
  const programs = arbitraryProgram({ dtypes: ['f64'], kind: 'smooth', size: 6 })
  const property = fc.asyncProperty(programs, async (program) => {
    await checkGrads((...xs: Tensor[]) => program.f(xs), floats(program, 'f64'), { order: 2, tolerance: 1e-5 })
  })
  await fc.assert(property, { numRuns: runs(40) })
})

test('the pullback is linear: of 2 u - 0.5 v it gives 2 pullback(u) - 0.5 pullback(v)', async () => {
  const property = fc.asyncProperty(arbitraryProgram({ dtypes: ['f64'], kind: 'continuous' }), async (program) => {
    const [ys, pullback] = vjp((...xs: Tensor[]) => program.f(xs), ...floats(program, 'f64'))
    const [u, v] = [ys.map((y) => cast(mul(y, 3), y.dtype)), ys.map((y) => add(mul(y, y), 1))]
    const left = pullback(zip(u, v).map(([a, b]) => add(mul(a, 2), mul(b, -0.5))))
    const right = zip(pullback(u), pullback(v)).map(([a, b]) => add(mul(a, 2), mul(b, -0.5)))
    // Where contributions cancel, as in softmax of equal numbers, a gradient is rounding of them: they count as well.
    const contributions = await norm([...u, ...v])
    for (const [a, b] of zip(left, right))
      expect(await norm([sub(a, b)])).toBeLessThanOrEqual(1e-10 * (contributions + (await norm([b]))))
  })
  await fc.assert(property, { numRuns: runs(40) })
})

test('programs of any dtype have gradients of their inputs types, and tangents of their outputs types', () => {
  const property = fc.property(arbitraryProgram({ dtypes: [...half] }), (program) => {
    const inputs = program.inputs.map((x) => upload(x))
    const [ys, pullback] = vjp((...xs: Tensor[]) => program.f(xs), ...inputs)
    const type = (x: Tensor): string => `${x.dtype}[${x.shape.join()}]`
    expect(pullback(ys).map(type)).toEqual(inputs.map(type))
    const [, tangents] = jvp((...xs: Tensor[]) => program.f(xs), inputs, inputs)
    expect(tangents.map(type)).toEqual(ys.map(type))
  })
  fc.assert(property, { numRuns: runs(60) })
})

test('checkpoint changes no bit of values and gradients, of first and second order', async () => {
  const property = fc.asyncProperty(arbitraryProgram({ kind: 'continuous', size: 5 }), async (program) => {
    const inputs = floats(program, 'f32')
    const plain = loss(program)
    const kept = checkpoint(plain)
    const twice = (f: typeof plain) => (xs: readonly Tensor[]) =>
      grad(f)(xs)
        .map((g) => sum(mul(cast(g, 'f64'), 0.3)))
        .reduce(add)
    expect(await bitsOf([kept(inputs), ...grad(kept)(inputs)])).toEqual(
      await bitsOf([plain(inputs), ...grad(plain)(inputs)]),
    )
    expect(await bitsOf(jit(grad(kept))(inputs))).toEqual(await bitsOf(grad(plain)(inputs)))
    expect(await bitsOf(grad(twice(kept))(inputs))).toEqual(await bitsOf(grad(twice(plain))(inputs)))
  })
  await fc.assert(property, { numRuns: runs(25) })
})

test('jit gives the bits of eager execution, and grad of jit those of jit of grad', async () => {
  const property = fc.asyncProperty(arbitraryProgram({ dtypes: [...half] }), async (program) => {
    const inputs = program.inputs.map((x) => upload(x))
    expect(await bitsOf(jit(program.f)(inputs))).toEqual(await bitsOf(program.f(inputs)))
    const wide = floats(program, 'f32')
    const f = loss(program)
    const eager = await bitsOf(grad(f)(wide))
    expect(await bitsOf(jit(grad(f))(wide))).toEqual(eager)
    expect(await bitsOf(grad(jit(f))(wide))).toEqual(eager)
  })
  await fc.assert(property, { numRuns: runs(40) })
})

test('under autocast programs run, differentiate to the types of their inputs, and jit to the same bits', async () => {
  const programs = arbitraryProgram({ dtypes: ['f32', 'i32'], size: 6 })
  const property = fc.asyncProperty(programs, fc.constantFrom('f16', 'bf16'), async (program, compute) => {
    const inputs = floats(program, 'f32')
    const mixed = autocast(loss(program), { compute })
    const gradients = grad(mixed)(inputs)
    expect(gradients.map((g) => g.dtype)).toEqual(inputs.map(() => 'f32'))
    const bits = await bitsOf(gradients)
    expect(await bitsOf(jit(grad(mixed))(inputs))).toEqual(bits)
    expect(await bitsOf(autocast(grad(loss(program)), { compute })(inputs))).toEqual(bits)
  })
  await fc.assert(property, { numRuns: runs(40) })
})
