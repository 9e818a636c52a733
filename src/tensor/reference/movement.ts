// What the primitives mean that make elements from nothing or move them: no arithmetic, only places.
import { PullbackError } from '../errors.ts'
import { randomBits } from '../philox.ts'
import { at, range, sizeOf, stridesOf, zip } from '../shape.ts'
import { type Rules, get, offsets, pickAt, placeAt } from './value.ts'

/** The rules of the makers and movers. */
export const movementRules: Rules<
  'iota' | 'randomBits' | 'broadcast' | 'reshape' | 'transpose' | 'slice' | 'pad' | 'concatenate' | 'allReduce'
> = {
  iota: (_inputs, { shape, axis }) => [
    Float64Array.from(
      offsets(
        shape,
        range(shape.length).map((i) => (i === axis ? 1 : 0)),
      ),
    ),
  ],
  randomBits: (inputs, { shape, bits, stream }) => {
    const [key, offset] = [at(inputs, 0).data, at(inputs, 1).data]
    return [Float64Array.from(randomBits([get(key, 0), get(key, 1)], get(offset, 0), stream, bits, sizeOf(shape)))]
  },
  broadcast: (inputs, { shape, axes }) => {
    const { data, type } = at(inputs, 0)
    const strides = shape.map(() => 0)
    for (const [axis, stride] of zip(axes, stridesOf(type.shape))) strides[axis] = stride
    return [pickAt(data, offsets(shape, strides))]
  },
  reshape: (inputs) => [at(inputs, 0).data],
  transpose: (inputs, { permutation }) => {
    const { data, type } = at(inputs, 0)
    const strides = stridesOf(type.shape)
    const shape = permutation.map((axis) => at(type.shape, axis))
    return [
      pickAt(
        data,
        offsets(
          shape,
          permutation.map((axis) => at(strides, axis)),
        ),
      ),
    ]
  },
  slice: (inputs, { start, stride }, outputs) => {
    const { data, type } = at(inputs, 0)
    const strides = stridesOf(type.shape)
    const steps = zip(strides, stride).map(([a, b]) => a * b)
    return [pickAt(data, offsets(at(outputs, 0).shape, steps, inner(start, strides)))]
  },
  pad: (inputs, { low, interior }, outputs) => {
    const { data, type } = at(inputs, 0)
    const { shape } = at(outputs, 0)
    const strides = stridesOf(shape)
    const steps = zip(strides, interior).map(([stride, between]) => stride * (between + 1))
    const out = new Float64Array(sizeOf(shape))
    placeAt(out, offsets(type.shape, steps, inner(low, strides)), data)
    return [out]
  },
  concatenate: (inputs, { axis }, outputs) => {
    const { shape } = at(outputs, 0)
    const strides = stridesOf(shape)
    const out = new Float64Array(sizeOf(shape))
    let position = 0
    for (const { data, type } of inputs) {
      placeAt(out, offsets(type.shape, strides, position * at(strides, axis)), data)
      position += at(type.shape, axis)
    }
    return [out]
  },
  allReduce: (inputs, { group }) => {
    if (group > 1)
      throw new PullbackError(
        'device',
        `[allReduce] expected a group of one process, got ${group}. The reference interpreter knows no other processes.`,
      )
    return [at(inputs, 0).data]
  },
}

function inner(a: readonly number[], b: readonly number[]): number {
  return zip(a, b).reduce((sum, [x, y]) => sum + x * y, 0)
}
