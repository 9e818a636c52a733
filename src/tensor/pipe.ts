// Function application in reading order.

/**
 * Passes a value through functions from left to right: `pipe(x, relu, dense(w))` is `dense(w)(relu(x))`.
 *
 * @example pipe(x, (t) => matmul(t, w), relu, (t) => mean(t))
 */
export function pipe<A, B>(value: A, f: (a: A) => B): B
export function pipe<A, B, C>(value: A, f: (a: A) => B, g: (b: B) => C): C
export function pipe<A, B, C, D>(value: A, f: (a: A) => B, g: (b: B) => C, h: (c: C) => D): D
export function pipe(value: unknown, ...functions: readonly ((a: never) => unknown)[]): unknown {
  return functions.reduce<unknown>((current, f) => f(current as never), value)
}
