// The shapes that bench/others measures in jax-js and tfjs: a matrix product, a 1x1 and a grouped 3x3 convolution, each
// forward and its two gradients, compiled by themselves.
import { type Tensor, conv2d, defaultDevice, jit, matmul, tensor, vjp } from '../../src/index.ts'
import { cases, directions, flops, numbers } from '../others/cases.mjs'
import { measure, print } from './measure.ts'

const repeats = 10

for (const item of cases as readonly Case[])
  for (const direction of directions as readonly ('forward' | 'inputGrad' | 'filterGrad')[]) {
    const [left, right, output] = shapes(item)
    const [a, b, cotangent] = [random(left, 1), random(right, 2), random(output, 3)]
    const forward = (x: Tensor, y: Tensor): Tensor =>
      item.m === undefined ? conv2d(x, y, { padding: (item.window ?? 1) >> 1, groups: item.groups ?? 1 }) : matmul(x, y)
    const run = jit((x: Tensor, y: Tensor, g: Tensor): Tensor => {
      if (direction === 'forward') return forward(x, y)
      if (direction === 'inputGrad') return vjp((t: Tensor) => forward(t, y), x)[1](g)[0]
      return vjp((t: Tensor) => forward(x, t), y)[1](g)[0]
    })
    const seconds = await measure(async () => {
      for (let i = 1; i < repeats; i++) run(a, b, cotangent).dispose()
      const last = run(a, b, cotangent)
      await defaultDevice().synchronize()
      last.dispose()
    }, 5)
    const ms = (seconds / repeats) * 1000
    print({ library: 'pullback', op: `${item.name}/${direction}`, ms, gflops: flops(item) / ms / 1e6 })
  }
await defaultDevice().close()

interface Case {
  readonly name: string
  readonly m?: number
  readonly k?: number
  readonly n?: number
  readonly batch?: number
  readonly size?: number
  readonly channels?: number
  readonly out?: number
  readonly window?: number
  readonly groups?: number
}

function shapes({
  m = 0,
  k = 0,
  n = 0,
  batch = 0,
  size = 0,
  channels = 0,
  out = 0,
  window = 1,
  groups = 1,
}: Case): [number[], number[], number[]] {
  if (m > 0)
    return [
      [m, k],
      [k, n],
      [m, n],
    ]
  return [
    [batch, size, size, channels],
    [out, window, window, channels / groups],
    [batch, size, size, out],
  ]
}

function random(shape: number[], seed: number): Tensor {
  return tensor(
    numbers(
      shape.reduce((product, extent) => product * extent, 1),
      seed,
    ),
    { shape },
  )
}
