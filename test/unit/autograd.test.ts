// grad, vjp, jvp, checkpoint, customVjp and checkGrads by example: what they give, and what they say of mistakes.
import { beforeAll, describe, expect, expectTypeOf, test } from 'vitest'
import {
  checkGrads,
  checkpoint,
  customVjp,
  grad,
  jit,
  jvp,
  valueAndGrad,
  verifyPrograms,
  vjp,
} from '../../src/autograd/index.ts'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'
import * as ops from '../../src/tensor/ops/index.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { relativeError } from '../support/values.ts'

const { add, cast, div, exp, matmul, maximum, minimum, mul, pow, sin, sqrt, sub, sum, tanh, tensor, where } = ops

beforeAll(() => {
  setDefaultDevice(referenceDevice())
  verifyPrograms(true)
})

const numbers = async (x: Tensor): Promise<number[]> => [...(await x.data())]

/** The code of the error that `body` throws, and its message. */
function failure(body: () => unknown): string {
  try {
    body()
  } catch (error) {
    return `${(error as { code?: string }).code ?? 'none'}: ${(error as Error).message}`
  }
  return 'nothing was thrown'
}

describe('grad', () => {
  test('differentiates three times', async () => {
    const f = (x: Tensor): Tensor => mul(mul(x, x), mul(x, x))
    const at2 = tensor(2)
    expect(await Promise.all([grad(f), grad(grad(f)), grad(grad(grad(f)))].map((d) => d(at2).item()))).toEqual([
      32, 48, 48,
    ])
  })

  test('does not confuse perturbations of nested levels', async () => {
    const inner = (x: Tensor): Tensor => mul(x, grad((y: Tensor) => add(x, y))(tensor(1)))
    expect(await grad(inner)(tensor(5)).item()).toBe(1)
    // d/dx [ x d/dy (x y) ] = d/dx [ x x ] = 2 x: the inner derivative depends on the outer variable
    const product = (x: Tensor): Tensor => mul(x, grad((y: Tensor) => mul(x, y))(tensor(1)))
    expect(await grad(product)(tensor(5)).item()).toBe(10)
    // the inner level differentiates by a value of the outer level itself
    const square = (x: Tensor): Tensor => grad((y: Tensor) => mul(mul(y, y), y))(x)
    expect(await grad(square)(tensor(5)).item()).toBe(30)
  })

  test('gives gradients of the type of the argument, in its tree', async () => {
    const params = { layers: [{ w: tensor([[1, 2]]), b: tensor([3]) }], unused: tensor([7, 8]), nothing: undefined }
    const loss = (p: typeof params, x: Tensor): Tensor => sum(add(matmul(p.layers[0]?.w ?? x, x), p.layers[0]?.b ?? x))
    const gradients = grad(loss)(params, tensor([5, 6]))
    expectTypeOf(gradients).toEqualTypeOf<typeof params>()
    expect(await numbers(gradients.layers[0]?.w ?? tensor(0))).toEqual([5, 6])
    expect(await numbers(gradients.layers[0]?.b ?? tensor(0))).toEqual([1])
    expect(await numbers(gradients.unused)).toEqual([0, 0])
    expect(gradients.nothing).toBeUndefined()
  })

  test('takes several arguments, auxiliary results, and arguments that are no tensors', async () => {
    const f = (a: Tensor, scale: number, b: Tensor): readonly [Tensor, { half: Tensor; note: string }] => {
      const y = sum(mul(mul(a, b), scale))
      return [y, { half: mul(y, 0.5), note: 'aux' }]
    }
    const [[value, aux], [da, db]] = valueAndGrad(f, { argnums: [0, 2], hasAux: true })(
      tensor([1, 2]),
      3,
      tensor([4, 5]),
    )
    expectTypeOf(da).toEqualTypeOf<Tensor>()
    expect([await value.item(), await aux.half.item(), aux.note]).toEqual([42, 21, 'aux'])
    expect([await numbers(da), await numbers(db)]).toEqual([
      [12, 15],
      [3, 6],
    ])
    const [g, again] = grad(f, { hasAux: true, argnums: 2 })(tensor([1, 2]), 1, tensor([4, 5]))
    expect([await numbers(g), await again.half.item()]).toEqual([[1, 2], 7])
  })

  test('closes over tensors without differentiating them', async () => {
    const w = tensor([2, 3])
    expect(await numbers(grad((x: Tensor) => sum(mul(x, w)))(tensor([1, 1])))).toEqual([2, 3])
  })

  test('follows the conventions at kinks and poles', async () => {
    const at = async (f: (x: Tensor) => Tensor, x: number): Promise<number> => grad(f)(tensor(x)).item()
    expect(await at((x) => maximum(x, 0), 0)).toBe(0) // relu at 0
    expect(await at((x) => maximum(0, x), 0)).toBe(0)
    expect(await at((x) => minimum(x, 6), 6)).toBe(0)
    expect(await at((x) => maximum(x, tensor(0)), 0)).toBe(0.5) // two tensors share a tie
    expect(await at((x) => sqrt(x), 0)).toBe(Infinity)
    expect(await at((x) => pow(x, 0), 0)).toBe(0)
    expect(await at((x) => pow(x, 2), -3)).toBe(-6)
    expect(await at((x) => pow(x, tensor(2)), -3)).toBe(-6)
    expect(await at((x) => where(ops.greater(x, 0), x, div(1, 0)), 1)).toBe(1) // no NaN from the branch not taken
    expect(await numbers(grad((x: Tensor) => ops.max(x))(tensor([3, 1, 3])))).toEqual([0.5, 0, 0.5])
  })

  test('reads only the output of relu, so that its input need not be kept', () => {
    const relu = (x: Tensor): Tensor => sum(maximum(x, 0))
    const { equations } = jit(grad(relu)).program(tensor([1, -1]))
    const compare = equations.find((equation) => equation.primitive === 'compare')
    const maxima = equations.find((equation) => equation.primitive === 'max')
    expect(compare?.inputs[0]).toBe(maxima?.outputs[0])
  })

  test('casts back through casts', async () => {
    const f = (x: Tensor): Tensor => cast(sum(mul(cast(x, 'f16'), 3)), 'f32')
    const g = grad(f)(tensor([1, 2], { dtype: 'f64' }))
    expect([g.dtype, await numbers(g)]).toEqual(['f64', [3, 3]])
  })

  test('skips the gradient of the image nobody asked for', () => {
    const f = (w: Tensor, x: Tensor): Tensor => sum(ops.conv2d(x, w))
    const { equations } = jit(grad(f)).program(ops.ones([1, 2, 2, 1]), ops.ones([1, 4, 4, 1]))
    const names = equations.map((equation) => equation.primitive)
    expect(names).toContain('conv2dFilterGrad')
    expect(names).not.toContain('conv2dInputGrad')
  })

  test('says what is wrong', () => {
    const x = tensor([1, 2])
    expect(failure(() => grad(sin)(x))).toMatch(
      /^shape: \[grad\(anonymous function\)\] expected a scalar result, got f32\[2\]/,
    )
    expect(failure(() => grad((_y: Tensor) => 3 as never)(x))).toMatch(
      /^trace: .*expected the function to return a scalar tensor, got number/,
    )
    expect(failure(() => grad((y: Tensor) => ops.argMax(y))(x))).toMatch(
      /^dtype: .*expected a floating result, got i32\[\]/,
    )
    const f = (p: { a: Tensor; b: Tensor[] }): Tensor => sum(p.a)
    expect(failure(() => grad(f)({ a: x, b: [tensor([1], { dtype: 'i32' })] }))).toMatch(
      /^dtype: .*argument 0 at 'b.0', got i32\[1\]/,
    )
    expect(failure(() => grad(f)({ a: x, b: [3 as never] }))).toMatch(/^value: .*got a number at '0.b.0'/)
    expect(failure(() => grad(f, { argnums: 1 })({ a: x, b: [] }))).toMatch(/^value: .*expected argnums of 1 arguments/)
    expect(failure(() => grad(f as never, { hasAux: true })({ a: x, b: [] }))).toMatch(
      /^value: .*\[loss, aux\] because of hasAux/,
    )
  })

  test('refuses promises, reading, and tensors that leave their trace', async () => {
    const x = tensor([1, 2])
    expect(failure(() => grad((async (y: Tensor) => sum(y)) as never)(x))).toMatch(/^trace: .*got a Promise/)
    const reads = (y: Tensor): Tensor => mul(sum(y), Number(y))
    expect(failure(() => grad(reads)(x))).toMatch(/^trace: \[number\] a Tensor \(f32\[2\]\) is not a number/)
    let leaked: Tensor | undefined
    grad((y: Tensor) => {
      leaked = sin(y)
      return sum(leaked)
    })(x)
    expect(failure(() => add(leaked ?? x, 1))).toMatch(
      /^trace: .*was traced by grad\(anonymous function\), which has ended/,
    )
    await expect(leaked?.data()).rejects.toMatchObject({ code: 'trace' })
  })
})

describe('vjp and jvp', () => {
  test('work on trees, and the pullback again and again', async () => {
    const f = (p: { a: Tensor; n: Tensor }): { s: Tensor; index: Tensor } => ({
      s: mul(p.a, cast(p.n, 'f32')),
      index: ops.argMax(p.a),
    })
    const primal = { a: tensor([1, 2]), n: tensor([3, 4], { dtype: 'i32' }) }
    const [y, pullback] = vjp(f, primal)
    expect([await numbers(y.s), await y.index.item()]).toEqual([[3, 8], 1])
    for (const scale of [1, 2]) {
      const [g] = pullback({ s: tensor([scale, 0]), index: tensor(0, { dtype: 'i32' }) })
      expect([await numbers(g.a), await numbers(g.n), g.n.dtype]).toEqual([[3 * scale, 0], [0, 0], 'i32'])
    }
    const [, tangent] = jvp(f, [primal], [{ a: tensor([1, 1]), n: primal.n }])
    expect([await numbers(tangent.s), await tangent.index.item()]).toEqual([[3, 4], 0])
  })

  test('refuse cotangents and tangents that do not fit', () => {
    const [, pullback] = vjp(sin, tensor([1, 2]))
    expect(failure(() => pullback(tensor([1])))).toMatch(
      /^shape: .*expected the cotangent to be f32\[2\], got f32\[1\]/,
    )
    expect(failure(() => pullback(tensor([1, 2], { dtype: 'f64' })))).toMatch(/^dtype: .*Use cast\(x, 'f32'\)/)
    expect(failure(() => jvp(sin, [tensor([1])], [tensor([1, 2])]))).toMatch(/^shape: .*the tangents at '0'/)
    expect(failure(() => vjp((x: Tensor, n: number) => mul(x, n), tensor(1), 3))).toMatch(
      /^value: .*got a number at '1'/,
    )
  })
})

describe('checkpoint', () => {
  const block = (w: Tensor, x: Tensor): Tensor => tanh(matmul(x, tanh(w)))

  test('records the region once more in the backward pass, under a tag of its own', () => {
    const f = (w: Tensor): Tensor => sum(checkpoint(block)(w, checkpoint(block)(w, ops.ones([2, 2]))))
    const { equations } = jit(grad(f)).program(ops.ones([2, 2]))
    const dots = equations.filter(({ primitive }) => primitive === 'dot').map(({ region }) => region)
    expect(dots.filter((region) => region === undefined).length).toBe(2 + 3) // forward, and gradients by w, x and w
    expect(new Set(dots.filter((region) => region !== undefined)).size).toBe(2)
    expect(equations.some(({ primitive }) => primitive === 'call')).toBe(false)
  })

  test('gives fresh tags to every evaluation of nested checkpoints', async () => {
    const twice = (w: Tensor): Tensor =>
      sum(checkpoint((v: Tensor) => checkpoint(block)(v, checkpoint(block)(v, v)))(w))
    const plain = (w: Tensor): Tensor => sum(block(w, block(w, w)))
    const w = tensor([
      [0.1, 0.2],
      [0.3, -0.4],
    ])
    // the contributions to w are added in another order: equal but for roundings
    expect(await relativeError(jit(grad(twice))(w), grad(plain)(w))).toBeLessThan(2 ** -22)
    const { equations } = jit(grad(twice)).program(w)
    expect(new Set(equations.map(({ region }) => region)).size).toBe(1 + 1 + 2) // forward; outer; the two inner ones
  })

  test('differentiates what it closes over', async () => {
    const f = (x: Tensor): Tensor => sum(checkpoint((y: Tensor) => mul(sin(y), x))(mul(x, 2)))
    const plain = (x: Tensor): Tensor => sum(mul(sin(mul(x, 2)), x))
    expect(await grad(f)(tensor(0.7)).item()).toBe(await grad(plain)(tensor(0.7)).item())
    expect(await grad(grad(f))(tensor(0.7)).item()).toBeCloseTo(await grad(grad(plain))(tensor(0.7)).item(), 6)
  })
})

describe('customVjp', () => {
  const clipped = customVjp(
    (p: { x: Tensor }, times: number) => ({ y: mul(p.x, times) }),
    (p, times) => [{ y: mul(p.x, times) }, { times }],
    ({ times }, g) => [{ x: ops.clip(mul(g.y, times), -1, 1) }, undefined],
  )

  test('uses the given derivative, at every level of nesting', async () => {
    const f = (x: Tensor): Tensor => sum(clipped({ x }, 5).y)
    expect(await numbers(clipped({ x: tensor([1, 2]) }, 5).y)).toEqual([5, 10])
    for (const gradient of [grad(f), jit(grad(f)), grad(checkpoint(f)), grad(jit(f))])
      expect(await numbers(gradient(tensor([1, 2])))).toEqual([1, 1])
  })

  test('is differentiated in turn through its forward and backward functions', async () => {
    const log1pExp = customVjp(
      (x: Tensor) => ops.log(add(exp(x), 1)),
      (x) => [ops.log(add(exp(x), 1)), x],
      (x, g) => [mul(g, sub(1, div(1, add(1, exp(x)))))],
    )
    const s = 1 / (1 + Math.exp(-0.3))
    expect(await grad(log1pExp)(tensor(0.3)).item()).toBeCloseTo(s, 6)
    expect(await grad(grad(log1pExp))(tensor(0.3)).item()).toBeCloseTo(s * (1 - s), 6)
    await checkGrads(log1pExp, [tensor(0.3)], { order: 2 })
  })

  test('says what is wrong with the functions', () => {
    const x = tensor([1, 2])
    const bad = (forward: unknown, backward: unknown) => () =>
      grad((y: Tensor) => sum(customVjp(sin, forward as never, backward as never)(y)))(x)
    expect(
      failure(
        bad(
          (y: Tensor) => sin(y),
          () => [x],
        ),
      ),
    ).toMatch(/^value: .*expected forward to return \[result, residuals\]/)
    expect(
      failure(
        bad(
          (y: Tensor) => [sum(y), 0],
          () => [x],
        ),
      ),
    ).toMatch(/^shape: .*a result like the function's, f32\[2\], got f32\[\]/)
    expect(
      failure(
        bad(
          (y: Tensor) => [sin(y), 0],
          () => x,
        ),
      ),
    ).toMatch(/^value: .*expected backward to return 1 entries, one for each argument/)
    expect(
      failure(
        bad(
          (y: Tensor) => [sin(y), 0],
          () => [tensor(1)],
        ),
      ),
    ).toMatch(/^shape: .*expected backward to return f32\[2\] at '0', got f32\[\]/)
    const closes = (y: Tensor): Tensor =>
      sum(
        customVjp(
          (z: Tensor) => mul(z, y),
          (z) => [mul(z, y), z],
          (_z, g) => [g],
        )(y),
      )
    expect(failure(() => grad(closes)(x))).toMatch(/^trace: .*closes over a value that is being traced/)
  })
})

describe('checkGrads', () => {
  test('finds a wrong derivative and names the worst argument', async () => {
    const wrong = customVjp(
      (a: Tensor, b: Tensor) => mul(a, sin(b)),
      (a, b) => [mul(a, sin(b)), [a, b] as const],
      ([a, b], g) => [mul(g, sin(b)), mul(g, mul(a, mul(ops.cos(b), 1.01)))],
    )
    const args: [Tensor, Tensor] = [tensor([0.5, 0.6]), tensor([0.7, 0.8])]
    await expect(checkGrads((a: Tensor, b: Tensor) => wrong(a, b), args)).rejects.toThrow(/at '1'/)
    await checkGrads((a: Tensor, b: Tensor) => wrong(a, b), args, { tolerance: 0.1 })
  })

  test('finds a derivative that is right itself but has a wrong derivative', async () => {
    const frozen = customVjp(
      (x: Tensor) => mul(x, mul(x, x)),
      (x) => [mul(x, mul(x, x)), x],
      (x, g) => [mul(g, ops.stopGradient(mul(3, mul(x, x))))],
    )
    await checkGrads(frozen, [tensor([0.5])])
    await expect(checkGrads(frozen, [tensor([0.5])], { order: 2 })).rejects.toThrow(/second order/)
  })
})
