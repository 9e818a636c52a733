// The batch's variance where the mean is many deviations away from zero: how many digits are left, that none is negative,
// and that a batch norm stays finite even where none is left.
import { beforeAll, describe, expect, it } from 'vitest'
import { jit } from '../../src/autograd/index.ts'
import { batchNorm } from '../../src/nn/index.ts'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'
import { cast, moments, tensor } from '../../src/tensor/ops/index.ts'
import { randomBits } from '../../src/tensor/philox.ts'
import { range, sizeOf } from '../../src/tensor/shape.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { testDevices } from '../support/devices.ts'

/** Rounding of f32. */
const unit = 2 ** -24
const shapes = [
  [2, 8, 8, 96],
  [1, 1, 32, 96],
  [4, 40, 40, 16],
] as const

/** Normal numbers of deviation 1 around `mean`: the same ones in every run. */
function normals(count: number, mean: number): Float32Array {
  const bits = randomBits([count, 1], 0, 0, 24, 2 * count)
  const uniform = (i: number): number => (Number(bits[i]) + 0.5) * 2 ** -24
  return Float32Array.from(
    range(count),
    (i) => mean + Math.sqrt(-2 * Math.log(uniform(2 * i))) * Math.cos(2 * Math.PI * uniform(2 * i + 1)),
  )
}

/** The variance of each channel of rows of channels, in two passes of f64. */
function exactVariances(data: ArrayLike<number>, channels: number): number[] {
  const rows = range(data.length / channels)
  return range(channels).map((c) => {
    const column = rows.map((row) => data[row * channels + c] ?? Number.NaN)
    const mean = column.reduce((a, b) => a + b, 0) / rows.length
    return column.reduce((sum, x) => sum + (x - mean) ** 2, 0) / rows.length
  })
}

describe.each(testDevices())('on %s', (name, device) => {
  beforeAll(() => void setDefaultDevice(device))
  const ratios = name === 'reference' ? [30] : [0, 1, 30, 1000, 10_000]
  const cases = shapes.flatMap((shape) => ratios.map((ratio) => ({ shape, ratio })))
  const statistics = jit((x: Tensor) => moments(x, { axes: [0, 1, 2] }))

  /**
   * The mean square and the squared mean are (1 + r^2) variances each. A sum of n terms in a row drifts by about sqrt(n) / 4
   * roundings: 1.4 for the 32 rows of a block, 2 for 64 blocks in a row. The mean's drift counts twice in its square, which
   * makes 5 of them together, and a channel in a hundred has three times that.
   */
  it.each(cases)(
    '$shape with the mean $ratio deviations away: within 16 (1 + r^2) roundings, never negative',
    async ({ shape, ratio }) => {
      const count = sizeOf(shape)
      for (const dtype of ['f32', 'f16'] as const) {
        const x = cast(tensor(normals(count, ratio), { shape }), dtype)
        const exact = exactVariances(await x.data(), shape[3])
        const variances = await statistics(x).variance.data()
        exact.forEach((variance, c) => {
          const got = variances[c] ?? Number.NaN
          expect(got, `${dtype}, channel ${c}`).toBeGreaterThanOrEqual(0)
          expect(Math.abs(got - variance)).toBeLessThan(16 * (1 + ratio ** 2) * unit)
        })
      }
    },
  )

  it('a batch norm is finite where the variance has no digit left, and where there is none', async () => {
    const shape = shapes[0]
    const count = sizeOf(shape)
    const layer = batchNorm()
    const { params, state } = layer.init(0, shape)
    const apply = jit((x: Tensor) => layer.apply(params, state, x, { training: true }))
    for (const data of [normals(count, 10_000), normals(count, -1e6), new Float32Array(count).fill(1000.1)]) {
      const [output, { running_var }] = apply(tensor(data, { shape }))
      for (const value of [...(await output.data()), ...(await running_var.data())])
        expect(value).toSatisfy(Number.isFinite)
      for (const value of await running_var.data()) expect(value).toBeGreaterThanOrEqual(0.9 - unit)
    }
  })
})
