// Tensors as text for people: a summary of the values, then shape, dtype and device.
import { decode } from './half.ts'
import { type TensorType, showType } from './program.ts'
import { at, sizeOf } from './shape.ts'
import type { Payload } from './tensor.ts'

const edge = 3

/** `Tensor [[1, 2], [3, 4]] f32[2,2] on cpu` */
export function formatTensor(type: TensorType, payload: Payload): string {
  const head = showType(type)
  switch (payload.kind) {
    case 'stored': {
      const { device } = payload.storage
      const values = decode(type.dtype, device.readSync(payload.storage))
      return `Tensor ${formatValues(type, values)} ${head} on ${device.name}`
    }
    case 'literal':
      return `Tensor ${formatNumber(payload.value)} ${head}`
    case 'traced':
      return `Tensor ${head} traced by ${payload.scope.label}`
    case 'gone':
      return `Tensor ${head} (${payload.code})`
    default:
      return payload satisfies never
  }
}

function formatValues(type: TensorType, values: ArrayLike<number>): string {
  const show = (value: number): string => (type.dtype === 'bool' ? String(value !== 0) : formatNumber(value))
  const walk = (axis: number, offset: number): string => {
    if (axis === type.shape.length) return show(at(values, offset))
    const extent = at(type.shape, axis)
    const stride = sizeOf(type.shape.slice(axis + 1))
    const item = (index: number): string => walk(axis + 1, offset + index * stride)
    const indices = Array.from({ length: extent }, (_, index) => index)
    if (extent <= 2 * edge + 1) return `[${indices.map(item).join(', ')}]`
    return `[${indices.slice(0, edge).map(item).join(', ')}, ..., ${indices.slice(-edge).map(item).join(', ')}]`
  }
  return walk(0, 0)
}

function formatNumber(value: number): string {
  if (Number.isInteger(value) || !Number.isFinite(value)) return String(value)
  return String(Number(value.toPrecision(5)))
}
