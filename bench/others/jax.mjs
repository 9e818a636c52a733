// @jax-js/jax on its wasm device. Convolutions are NCHW there. In Node it runs on one thread: it wants a global Worker.
import { numbers } from './cases.mjs'

export const library = '@jax-js/jax'

/** Loads the library; returns a function from a case and a direction to an async function that runs it once. */
export async function open() {
  const jax = await import('@jax-js/jax')
  await jax.init('wasm')
  jax.defaultDevice('wasm')
  const array = (shape, seed) =>
    jax.numpy
      .array(
        numbers(
          shape.reduce((a, b) => a * b),
          seed,
        ),
      )
      .reshape(shape)
  return (item, direction) => {
    const { operands, forward, output } = 'm' in item ? product(jax, item) : convolution(jax, item)
    const [x, w] = operands.map((shape, i) => array(shape, i + 1))
    // Not through jit: it makes the grouped convolution eight times slower there, and the others no faster.
    if (direction === 'forward') return () => read(forward(x.ref, w.ref))
    const cotangent = array(output, 3)
    const [y, pullback] =
      direction === 'inputGrad'
        ? jax.vjp((a) => forward(a, w.ref), [x.ref])
        : jax.vjp((b) => forward(x.ref, b), [w.ref])
    y.dispose()
    return () => read(pullback(cotangent.ref)[0])
  }
}

function product(jax, { m, k, n }) {
  const operands = [
    [m, k],
    [k, n],
  ]
  return { operands, forward: (a, b) => jax.numpy.matmul(a, b), output: [m, n] }
}

function convolution(jax, { batch, size, channels, out, window, groups }) {
  const pad = (window - 1) / 2
  const pads = [
    [pad, pad],
    [pad, pad],
  ]
  return {
    operands: [
      [batch, channels, size, size],
      [out, channels / groups, window, window],
    ],
    forward: (x, w) => jax.lax.convGeneralDilated(x, w, [1, 1], pads, { featureGroupCount: groups }),
    output: [batch, out, size, size],
  }
}

/** Waits for the value and frees it. */
async function read(value) {
  await value.blockUntilReady()
  value.dispose()
}
