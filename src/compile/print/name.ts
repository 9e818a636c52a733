// Names of printed functions: a hash of their text, so that equal kernels are one function wherever they come from.
import { createHash } from 'node:crypto'
import type { PrintedSource } from './launch.ts'

/** The function that `print` gives for its own name, which is `prefix` and 16 hexadecimal digits. */
export function nameOf(prefix: string, print: (symbol: string) => string): PrintedSource {
  const hash = createHash('sha256').update(print('kernel')).digest('hex').slice(0, 16)
  const name = `${prefix}_${hash}`
  return { name, text: print(name) }
}
