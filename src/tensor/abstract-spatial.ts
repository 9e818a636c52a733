// The shapes of convolutions and pooling over NHWC, shared by abstract evaluation and everyone who plans them.
import { ShapeError, ValueError } from './errors.ts'
import type { ConvParams, Pair, PoolParams } from './primitives.ts'
import { type Shape, showShape } from './shape.ts'

/** The output shape [n, oh, ow, out] of a convolution; throws a ShapeError that names both shapes and the groups. */
export function abstractConvolution(op: string, input: Shape, filter: Shape, params: ConvParams): number[] {
  const [n, h, w, channels] = rank4(op, 'an input [n, h, w, c]', input)
  const [out, kh, kw, perGroup] = rank4(op, 'a filter [out, h, w, in / groups]', filter)
  checkWindow(op, [kh, kw], params.stride, params.padding, params.dilation)
  if (!Number.isInteger(params.groups) || params.groups < 1)
    throw new ValueError(`[${op}] expected groups >= 1, got ${params.groups}.`)
  if (channels !== perGroup * params.groups)
    throw new ShapeError(
      `[${op}] expected input channels ${perGroup * params.groups} (filter ${showShape(filter)}, groups ${params.groups}), got ${channels}. ` +
        'Filters are [out, h, w, in / groups] and inputs [n, h, w, c].',
    )
  if (out % params.groups !== 0)
    throw new ShapeError(
      `[${op}] expected output channels that ${params.groups} groups divide, got ${out} (filter ${showShape(filter)}).`,
    )
  return [n, ...outputExtents(op, [h, w], [kh, kw], params), out]
}

/** The output shape [n, oh, ow, c] of a pooling. */
export function abstractPooling(op: string, input: Shape, params: PoolParams): number[] {
  const [n, h, w, channels] = rank4(op, 'an input [n, h, w, c]', input)
  checkWindow(op, params.window, params.stride, params.padding, [1, 1])
  const [[top, bottom], [left, right]] = params.padding
  if (Math.max(top, bottom) >= params.window[0] || Math.max(left, right) >= params.window[1])
    throw new ValueError(
      `[${op}] expected padding smaller than the window ${params.window.join('x')}, got [${params.padding.join('], [')}].`,
    )
  return [n, ...outputExtents(op, [h, w], params.window, { ...params, dilation: [1, 1] }), channels]
}

function outputExtents(op: string, input: Pair, window: Pair, params: Omit<ConvParams, 'groups'>): Pair {
  const extent = (axis: 0 | 1): number => {
    const padded = input[axis] + params.padding[axis][0] + params.padding[axis][1]
    const reach = (window[axis] - 1) * params.dilation[axis] + 1
    if (padded < reach)
      throw new ShapeError(
        `[${op}] the window reaches over ${reach} elements, the padded input has ${padded} (axis ${axis === 0 ? 'height' : 'width'}). Pad more or use a larger image.`,
      )
    return Math.floor((padded - reach) / params.stride[axis]) + 1
  }
  return [extent(0), extent(1)]
}

function checkWindow(op: string, window: Pair, stride: Pair, padding: readonly [Pair, Pair], dilation: Pair): void {
  const positive = [...window, ...stride, ...dilation]
  if (!positive.every((n) => Number.isInteger(n) && n >= 1))
    throw new ValueError(
      `[${op}] expected window, stride and dilation of positive integers, got ${window.join('x')}, ${stride.join('x')}, ${dilation.join('x')}.`,
    )
  if (!padding.flat().every((n) => Number.isInteger(n) && n >= 0))
    throw new ValueError(`[${op}] expected non-negative padding, got [${padding.join('], [')}].`)
}

function rank4(op: string, what: string, shape: Shape): [number, number, number, number] {
  const [a, b, c, d] = shape
  if (shape.length !== 4 || a === undefined || b === undefined || c === undefined || d === undefined)
    throw new ShapeError(`[${op}] expected ${what}, got ${showShape(shape)}.`)
  return [a, b, c, d]
}
