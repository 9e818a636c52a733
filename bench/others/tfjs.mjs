// @tensorflow/tfjs on its wasm backend (SIMD, one thread in Node). Grouped convolutions do not exist there.
import { createRequire } from 'node:module'
import { numbers } from './cases.mjs'

export const library = '@tensorflow/tfjs (wasm)'

/** Loads the library; returns a function from a case and a direction to an async function that runs it once. */
export async function open() {
  const require = createRequire(import.meta.url)
  process.env.TF_CPP_MIN_LOG_LEVEL ??= '2'
  const tf = require('@tensorflow/tfjs')
  require('@tensorflow/tfjs-backend-wasm')
  await tf.setBackend('wasm')
  await tf.ready()
  const tensor = (shape, seed) =>
    tf.tensor(
      numbers(
        shape.reduce((a, b) => a * b),
        seed,
      ),
      shape,
    )
  return (item, direction) => {
    if (item.groups > 1) throw new Error('no grouped convolution but the depthwise one')
    const { shapes, ...run } = 'm' in item ? product(tf, item) : convolution(tf, item)
    const [x, w, cotangent] = shapes.map((shape, i) => tensor(shape, i + 1))
    return () => read(() => run[direction](x, w, cotangent))
  }

  /** Waits for the value and frees it and every temporary. */
  async function read(compute) {
    const value = tf.tidy(compute)
    await value.data()
    value.dispose()
  }
}

// tf.grad would compute the value again each time, so these call the operations that its gradients are made of.
function product(tf, { m, k, n }) {
  return {
    shapes: [
      [m, k],
      [k, n],
      [m, n],
    ],
    forward: (a, b) => tf.matMul(a, b),
    inputGrad: (_, b, cotangent) => tf.matMul(cotangent, b, false, true),
    filterGrad: (a, _, cotangent) => tf.matMul(a, cotangent, true, false),
  }
}

function convolution(tf, { batch, size, channels, out, window }) {
  const input = [batch, size, size, channels]
  const filter = [window, window, channels, out]
  return {
    shapes: [input, filter, [batch, size, size, out]],
    forward: (x, w) => tf.conv2d(x, w, 1, 'same'),
    inputGrad: (_, w, cotangent) => tf.conv2dTranspose(cotangent, w, input, 1, 'same'),
    filterGrad: (x, _, cotangent) => tf.grad((w) => tf.conv2d(x, w, 1, 'same'))(tf.zeros(filter), cotangent),
  }
}
