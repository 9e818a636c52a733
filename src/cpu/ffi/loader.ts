// The one place of the CPU device that loads koffi, and only when a device is made: importing the package loads nothing.
import { createRequire } from 'node:module'
import { PullbackError } from '../../tensor/errors.ts'

/** A C type of a prototype. */
export type NativeType = 'void *' | 'int64_t' | 'const char *'

/** A bound C function; `async` runs it on a thread of libuv's pool. */
export interface NativeFunction {
  (...values: readonly unknown[]): unknown
  async(...values: readonly unknown[]): void
}

/** A loaded shared library. */
export interface NativeLibrary {
  func(name: string, result: NativeType, parameters: readonly NativeType[]): NativeFunction
}

/** Loads a shared library by path; tests hand in another. */
export type LibraryLoader = (path: string) => NativeLibrary

/** Loads libraries with koffi. */
export function koffiLoader(): LibraryLoader {
  const require = createRequire(import.meta.url)
  const koffi = require('koffi') as { load(path: string): NativeLibrary }
  return (path) => {
    try {
      return koffi.load(path)
    } catch (error) {
      throw new PullbackError('device', `[cpu] cannot load ${path}. Remove it and start again.`, { cause: error })
    }
  }
}
