// Comparing tensors in tests, to the bit or by relative norm.
import type { Tensor } from '../../src/tensor/tensor.ts'

/** The stored bits of tensors as text: equal if and only if types and bits are, with all NaNs alike. */
export async function bitsOf(tensors: readonly Tensor[]): Promise<string[]> {
  const all = await Promise.all(tensors.map((x) => x.bits()))
  return tensors.map(
    (x, i) =>
      `${x.dtype}[${x.shape.join()}] ${[...(all[i] ?? [])].map((v) => (Object.is(v, -0) ? '-0' : String(v))).join(' ')}`,
  )
}

/** norm(a - b) / norm(b) over the elements, or norm(a) where b is zero; Infinity where either is not finite. */
export async function relativeError(a: Tensor, b: Tensor): Promise<number> {
  const [left, right] = await Promise.all([a.data(), b.data()])
  let [difference, reference] = [0, 0]
  right.forEach((value: number, i: number) => {
    difference += ((left[i] ?? Number.NaN) - value) ** 2
    reference += value ** 2
  })
  const error = Math.sqrt(difference / (reference === 0 ? 1 : reference))
  return Number.isFinite(error) ? error : Infinity
}
