// Abstract evaluation: from the types of the operands to the types of the results, or a sentence about what is wrong.
// One total table; the verifier and the tracer both use it, so a program is well-typed by construction and by check.
import { abstractConvolution, abstractPooling } from './abstract-spatial.ts'
import { type DType, accumulationType, isFloat } from './dtype.ts'
import { DTypeError, ShapeError, ValueError } from './errors.ts'
import type { PrimitiveName, PrimitiveParams } from './primitives.ts'
import { type TensorType, showType } from './program.ts'
import { at, checkShape, normalizeAxes, range, sameShape, showShape, sizeOf, zip } from './shape.ts'

type Rule<P extends PrimitiveName> = (
  inputs: readonly TensorType[],
  params: PrimitiveParams[P],
) => readonly TensorType[]

/** The types of the results of a primitive; throws a ShapeError or DTypeError that names it. */
export function abstractEvaluate<P extends PrimitiveName>(
  primitive: P,
  inputs: readonly TensorType[],
  params: PrimitiveParams[P],
): readonly TensorType[] {
  const rule: Rule<P> = rules[primitive]
  return rule(inputs, params)
}

const float = (op: PrimitiveName) => unary(op, isFloat, 'a floating dtype')
const numeric = (op: PrimitiveName) => unary(op, (dtype) => dtype !== 'bool', 'a numeric dtype')

const rules: { readonly [P in PrimitiveName]: Rule<P> } = {
  neg: numeric('neg'),
  exp: float('exp'),
  log: float('log'),
  sqrt: float('sqrt'),
  rsqrt: float('rsqrt'),
  sin: float('sin'),
  cos: float('cos'),
  tanh: float('tanh'),
  sigmoid: float('sigmoid'),
  erf: float('erf'),
  abs: numeric('abs'),
  sign: numeric('sign'),
  floor: float('floor'),
  isFinite: (inputs) => float('isFinite')(inputs).map(({ shape }) => ({ shape, dtype: 'bool' as const })),
  not: unary('not', (dtype) => dtype === 'bool', 'bool'),
  cast: (inputs, { dtype }) => [{ shape: one('cast', inputs).shape, dtype }],
  stopGradient: (inputs) => [one('stopGradient', inputs)],
  add: arithmetic('add'),
  sub: arithmetic('sub'),
  mul: arithmetic('mul'),
  div: arithmetic('div'),
  pow: binary('pow', isFloat, 'a floating dtype'),
  max: arithmetic('max'),
  min: arithmetic('min'),
  and: binary('and', (dtype) => dtype === 'bool', 'bool'),
  or: binary('or', (dtype) => dtype === 'bool', 'bool'),
  compare: (inputs) =>
    binary('compare', () => true, '')(inputs).map(({ shape }) => ({ shape, dtype: 'bool' as const })),
  select: (inputs) => {
    const [condition, a, b] = exactly('select', inputs, 3)
    if (condition?.dtype !== 'bool')
      throw new DTypeError(
        `[select] expected a bool condition, got ${condition?.dtype ?? 'nothing'}. Compare it with 0 first.`,
      )
    const [result] = binary('select', () => true, '')([a, b] as TensorType[])
    if (result === undefined || !sameShape(condition.shape, result.shape))
      throw new ShapeError(
        `[select] expected a condition of shape ${showShape(result?.shape ?? [])}, got ${showShape(condition.shape)}.`,
      )
    return [result]
  },
  iota: (inputs, { shape, axis, dtype }) => {
    exactly('iota', inputs, 0)
    checkShape('iota', shape)
    checkAxes('iota', [axis], shape.length)
    if (dtype === 'bool') throw new DTypeError('[iota] expected a numeric dtype, got bool.')
    return [{ shape, dtype }]
  },
  randomBits: (inputs, { shape, bits }) => {
    const [key, offset] = exactly('randomBits', inputs, 2)
    if (key?.dtype !== 'i32' || !sameShape(key.shape, [2]))
      throw new ShapeError(
        `[random] expected a key (i32[2], made by random.key), got ${key ? showType(key) : 'nothing'}.`,
      )
    if (offset?.dtype !== 'i32' || offset.shape.length !== 0)
      throw new ShapeError(`[random] expected an i32 scalar offset, got ${offset ? showType(offset) : 'nothing'}.`)
    if (!Number.isInteger(bits) || bits < 1 || bits > 32)
      throw new ValueError(`[random] expected 1 to 32 bits, got ${bits}.`)
    checkShape('random', shape)
    return [{ shape, dtype: 'i32' }]
  },
  broadcast: (inputs, { shape, axes }) => {
    const x = one('broadcast', inputs)
    checkShape('broadcast', shape)
    const fits =
      axes.length === x.shape.length &&
      axes.every((axis, i) => axis > (axes[i - 1] ?? -1) && axis < shape.length && shape[axis] === x.shape[i])
    if (!fits)
      throw new ShapeError(
        `[broadcast] cannot place ${showShape(x.shape)} at axes [${axes.join(', ')}] of ${showShape(shape)}.`,
      )
    return [{ shape, dtype: x.dtype }]
  },
  reshape: (inputs, { shape }) => {
    const x = one('reshape', inputs)
    checkShape('reshape', shape)
    if (sizeOf(shape) !== sizeOf(x.shape))
      throw new ShapeError(
        `[reshape] expected ${sizeOf(x.shape)} elements (${showShape(x.shape)}), got ${showShape(shape)} with ${sizeOf(shape)}.`,
      )
    return [{ shape, dtype: x.dtype }]
  },
  transpose: (inputs, { permutation }) => {
    const x = one('transpose', inputs)
    if (
      !sameShape(
        [...permutation].sort((a, b) => a - b),
        range(x.shape.length),
      )
    )
      throw new ShapeError(
        `[transpose] expected a permutation of ${x.shape.length} axes, got [${permutation.join(', ')}].`,
      )
    return [{ shape: permutation.map((axis) => at(x.shape, axis)), dtype: x.dtype }]
  },
  slice: (inputs, { start, limit, stride }) => {
    const x = one('slice', inputs)
    const shape = x.shape.map((extent, axis) => {
      const [from, to, step] = [at(start, axis), at(limit, axis), at(stride, axis)]
      if (!(Number.isInteger(from) && Number.isInteger(to) && from >= 0 && from <= to && to <= extent && step >= 1))
        throw new ShapeError(
          `[slice] expected 0 <= start <= limit <= ${extent} on axis ${axis}, got ${from} to ${to} by ${step}.`,
        )
      return Math.ceil((to - from) / step)
    })
    return [{ shape, dtype: x.dtype }]
  },
  pad: (inputs, { low, high, interior }) => {
    const x = one('pad', inputs)
    const shape = x.shape.map((extent, axis) => {
      const [before, after, between] = [at(low, axis), at(high, axis), at(interior, axis)]
      if (![before, after, between].every((n) => Number.isInteger(n) && n >= 0))
        throw new ShapeError(`[pad] expected non-negative widths on axis ${axis}, got ${before}, ${after}, ${between}.`)
      return before + extent + Math.max(0, extent - 1) * between + after
    })
    return [{ shape, dtype: x.dtype }]
  },
  concatenate: (inputs, { axis }) => {
    const first = at(inputs, 0)
    for (const x of inputs) {
      sameDType('concatenate', first, x)
      if (x.shape.length !== first.shape.length || x.shape.some((extent, i) => i !== axis && extent !== first.shape[i]))
        throw new ShapeError(
          `[concatenate] expected shapes equal to ${showShape(first.shape)} but for axis ${axis}, got ${showShape(x.shape)}.`,
        )
    }
    const total = inputs.reduce((sum, x) => sum + at(x.shape, axis), 0)
    return [{ shape: first.shape.map((extent, i) => (i === axis ? total : extent)), dtype: first.dtype }]
  },
  reduceSum: (inputs, { axes }) => [reduced('sum', numericInput('sum', inputs), axes)],
  reduceMax: (inputs, { axes }) => [nonEmpty('max', one('max', inputs), axes)],
  reduceMin: (inputs, { axes }) => [nonEmpty('min', one('min', inputs), axes)],
  argMax: (inputs, { axis }) => [{ ...nonEmpty('argMax', one('argMax', inputs), [axis]), dtype: 'i32' }],
  moments: (inputs, { axes }) => {
    const [x] = float('moments')(inputs)
    if (x === undefined || !isFloat(x.dtype)) throw new DTypeError('[moments] expected a floating dtype.')
    const type = { shape: nonEmpty('moments', x, axes).shape, dtype: accumulationType(x.dtype) }
    return [type, type]
  },
  dot: (inputs, { batch, contract }) => {
    const [a, b] = exactly('dot', inputs, 2) as [TensorType, TensorType]
    sameDType('dot', a, b)
    if (!isFloat(a.dtype)) throw new DTypeError(`[dot] expected a floating dtype, got ${a.dtype}. Use cast(x, 'f32').`)
    for (const kind of [batch, contract])
      for (const [i, j] of zip(kind[0], kind[1]))
        if (at(a.shape, i) !== at(b.shape, j))
          throw new ShapeError(
            `[dot] expected equal extents to pair, got ${showShape(a.shape)} (axis ${i}) and ${showShape(b.shape)} (axis ${j}).`,
          )
    const free = (x: TensorType, side: 0 | 1) =>
      x.shape.filter((_, axis) => !batch[side].includes(axis) && !contract[side].includes(axis))
    return [{ shape: [...batch[0].map((axis) => at(a.shape, axis)), ...free(a, 0), ...free(b, 1)], dtype: a.dtype }]
  },
  conv2d: (inputs, params) => {
    const [x, filter] = spatial('conv2d', inputs, 2) as [TensorType, TensorType]
    return [{ shape: abstractConvolution('conv2d', x.shape, filter.shape, params), dtype: x.dtype }]
  },
  conv2dInputGrad: (inputs, params) => {
    const [cotangent, filter] = spatial('conv2dInputGrad', inputs, 2) as [TensorType, TensorType]
    const expected = abstractConvolution('conv2dInputGrad', params.inputShape, filter.shape, params)
    matches('conv2dInputGrad', expected, cotangent)
    return [{ shape: params.inputShape, dtype: cotangent.dtype }]
  },
  conv2dFilterGrad: (inputs, params) => {
    const [x, cotangent] = spatial('conv2dFilterGrad', inputs, 2) as [TensorType, TensorType]
    const expected = abstractConvolution('conv2dFilterGrad', x.shape, params.filterShape, params)
    matches('conv2dFilterGrad', expected, cotangent)
    return [{ shape: params.filterShape, dtype: x.dtype }]
  },
  maxPool2d: (inputs, params) => {
    const [x] = spatial('maxPool2d', inputs, 1) as [TensorType]
    return [{ shape: abstractPooling('maxPool2d', x.shape, params), dtype: x.dtype }]
  },
  maxPool2dGrad: (inputs, params) => {
    const [x, cotangent] = spatial('maxPool2dGrad', inputs, 2) as [TensorType, TensorType]
    matches('maxPool2dGrad', abstractPooling('maxPool2dGrad', x.shape, params), cotangent)
    return [x]
  },
  maxPool2dPick: (inputs, params) => {
    const [x, picked] = spatial('maxPool2dPick', inputs, 2) as [TensorType, TensorType]
    matches('maxPool2dPick', x.shape, picked)
    return [{ shape: abstractPooling('maxPool2dPick', x.shape, params), dtype: x.dtype }]
  },
  avgPool2d: (inputs, params) => {
    const [x] = spatial('avgPool2d', inputs, 1) as [TensorType]
    return [{ shape: abstractPooling('avgPool2d', x.shape, params), dtype: x.dtype }]
  },
  avgPool2dGrad: (inputs, params) => {
    const [cotangent] = spatial('avgPool2dGrad', inputs, 1) as [TensorType]
    matches('avgPool2dGrad', abstractPooling('avgPool2dGrad', params.inputShape, params), cotangent)
    return [{ shape: params.inputShape, dtype: cotangent.dtype }]
  },
  gather: (inputs, { axis }) => {
    const [x, indices] = exactly('gather', inputs, 2) as [TensorType, TensorType]
    integerIndices('gather', indices)
    checkAxes('gather', [axis], x.shape.length)
    if (x.shape[axis] === 0 && sizeOf(indices.shape) > 0)
      throw new ShapeError('[gather] cannot take from an axis of extent 0.')
    return [{ shape: [...x.shape.slice(0, axis), ...indices.shape, ...x.shape.slice(axis + 1)], dtype: x.dtype }]
  },
  scatterAdd: (inputs, { axis, shape }) => {
    const [updates, indices] = exactly('scatterAdd', inputs, 2) as [TensorType, TensorType]
    integerIndices('scatterAdd', indices)
    if (!isFloat(updates.dtype))
      throw new DTypeError(`[scatterAdd] expected floating updates, got ${updates.dtype}. Use cast(x, 'f32').`)
    matches('scatterAdd', [...shape.slice(0, axis), ...indices.shape, ...shape.slice(axis + 1)], updates)
    return [{ shape, dtype: updates.dtype }]
  },
  allReduce: (inputs) => float('allReduce')(inputs),
  call: (_inputs, { program }) => program.outputs.map((output) => output.type),
}

function exactly(op: string, inputs: readonly TensorType[], count: number): readonly TensorType[] {
  if (inputs.length !== count) throw new ValueError(`[${op}] expected ${count} operands, got ${inputs.length}.`)
  return inputs
}

function one(op: string, inputs: readonly TensorType[]): TensorType {
  return at(exactly(op, inputs, 1), 0)
}

function unary(op: string, accepts: (dtype: DType) => boolean, expected: string) {
  return (inputs: readonly TensorType[]): readonly TensorType[] => {
    const x = one(op, inputs)
    if (!accepts(x.dtype)) throw new DTypeError(`[${op}] expected ${expected}, got ${x.dtype}. Use cast(x, ...) first.`)
    return [x]
  }
}

function binary(op: string, accepts: (dtype: DType) => boolean, expected: string) {
  return (inputs: readonly TensorType[]): readonly TensorType[] => {
    const [a, b] = exactly(op, inputs, 2) as [TensorType, TensorType]
    sameDType(op, a, b)
    if (!accepts(a.dtype)) throw new DTypeError(`[${op}] expected ${expected}, got ${a.dtype}. Use cast(x, ...) first.`)
    if (!sameShape(a.shape, b.shape))
      throw new ShapeError(`[${op}] expected equal shapes, got ${showShape(a.shape)} and ${showShape(b.shape)}.`)
    return [a]
  }
}

function arithmetic(op: string) {
  return binary(op, (dtype) => dtype !== 'bool', 'a numeric dtype')
}

function sameDType(op: string, a: TensorType, b: TensorType): void {
  if (a.dtype !== b.dtype)
    throw new DTypeError(
      `[${op}] expected one dtype, got ${a.dtype} and ${b.dtype}. Use cast(x, '${a.dtype}') or cast(x, '${b.dtype}').`,
    )
}

function numericInput(op: string, inputs: readonly TensorType[]): TensorType {
  const x = one(op, inputs)
  if (x.dtype === 'bool') throw new DTypeError(`[${op}] expected a numeric dtype, got bool. Use cast(x, 'i32').`)
  return x
}

function reduced(op: string, x: TensorType, axes: readonly number[]): TensorType {
  checkAxes(op, axes, x.shape.length)
  return { shape: x.shape.filter((_, axis) => !axes.includes(axis)), dtype: x.dtype }
}

/** Axes of a program are counted from 0; public operations resolve negative ones before. */
function checkAxes(op: string, axes: readonly number[], rank: number): void {
  normalizeAxes(op, axes, rank)
  if (axes.some((axis) => axis < 0))
    throw new ShapeError(`[${op}] expected axes counted from 0, got [${axes.join(', ')}].`)
}

function nonEmpty(op: string, x: TensorType, axes: readonly number[]): TensorType {
  if (axes.some((axis) => x.shape[axis] === 0))
    throw new ShapeError(
      `[${op}] expected at least one element to reduce, got ${showShape(x.shape)} over axes [${axes.join(', ')}].`,
    )
  return reduced(op, x, axes)
}

function spatial(op: string, inputs: readonly TensorType[], count: number): readonly TensorType[] {
  const [first, second] = exactly(op, inputs, count)
  if (first === undefined || !isFloat(first.dtype))
    throw new DTypeError(`[${op}] expected a floating dtype, got ${first?.dtype ?? 'nothing'}. Use cast(x, 'f32').`)
  if (second !== undefined) sameDType(op, first, second)
  return inputs
}

function matches(op: string, shape: readonly number[], x: TensorType): void {
  if (!sameShape(shape, x.shape))
    throw new ShapeError(`[${op}] expected an operand of shape ${showShape(shape)}, got ${showShape(x.shape)}.`)
}

function integerIndices(op: string, indices: TensorType): void {
  if (indices.dtype !== 'i32')
    throw new DTypeError(`[${op}] expected i32 indices, got ${indices.dtype}. Use cast(indices, 'i32').`)
}
