// What is measured in every library: the shapes, the directions and the floating-point operations of each.

/** One matrix product and the two convolutions that carry SE-ResNeXt, at the shapes of its third stage. */
export const cases = [
  { name: 'matmul1024', m: 1024, k: 1024, n: 1024 },
  { name: 'conv1x1', batch: 4, size: 28, channels: 256, out: 512, window: 1, groups: 1 },
  { name: 'conv3x3g32', batch: 4, size: 28, channels: 256, out: 256, window: 3, groups: 32 },
]

/** Each direction is one product of the same size: the value, and the gradient of either operand. */
export const directions = ['forward', 'inputGrad', 'filterGrad']

/** Floating-point operations of one direction of a case, a multiply-add counted as two. */
export function flops(item) {
  if ('m' in item) return 2 * item.m * item.k * item.n
  const taps = item.window ** 2 * (item.channels / item.groups)
  return 2 * item.batch * item.size ** 2 * item.out * taps
}

/** `length` numbers in [-1, 1), the same for every library: a linear congruential sequence. */
export function numbers(length, seed) {
  const values = new Float32Array(length)
  let state = seed
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    values[i] = state / 2 ** 31 - 1
  }
  return values
}
