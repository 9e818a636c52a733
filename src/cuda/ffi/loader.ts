// The one place of the CUDA device that loads koffi, and only when it is asked for: importing the package loads nothing.
// Which files to load is discovery's part.
import { createRequire } from 'node:module'
import { PullbackError } from '../../tensor/errors.ts'

/** A C type of a prototype. */
export type NativeType =
  | 'void'
  | 'void *'
  | 'const char *'
  | 'const char **'
  | 'int'
  | 'unsigned int'
  | 'uint8_t'
  | 'int64_t'
  | 'uint64_t'
  | 'size_t'

/** A bound C function. */
export type NativeFunction = (...values: readonly unknown[]) => unknown

/** A loaded shared library. */
export interface NativeLibrary {
  /** The file it was loaded from, where other threads can load it too. */
  readonly file?: string
  func(name: string, result: NativeType, parameters: readonly NativeType[]): NativeFunction
}

/** What the bindings need of the foreign function interface; tests hand in another. */
export interface Native {
  /** Loads a shared library by its path. Throws PullbackError 'device' with the path and the loader's own words. */
  load(path: string): NativeLibrary
  /** The text at an address that holds a C string. */
  text(address: bigint): string
  /** Memory outside the JavaScript heap that stays where it is until `release`. */
  allocate(bytes: number): bigint
  release(address: bigint): void
  /** A window on native memory; it must not be touched after that memory is freed. */
  view(address: bigint, bytes: number): ArrayBuffer
}

interface Koffi {
  config(settings: { readonly sync_stack_size: number }): void
  load(path: string): NativeLibrary
  decode: { string(address: bigint): string }
  alloc(type: 'uint8_t', length: number): bigint
  free(address: bigint): void
  view(address: bigint, bytes: number): ArrayBuffer
}

/**
 * Every library that was loaded. koffi closes one that is collected as garbage, also where another library goes on using
 * it: cuDNN's parts are loaded only so that libcudnn finds them, and nothing of ours refers to them afterwards.
 */
const held = new Set<NativeLibrary>()

/**
 * Bytes of the stack that koffi gives to calls: what the libraries compile and load is written for the stack of a main thread,
 * of 8 MiB and more, and koffi's own 2 MiB end in a segmentation fault where they do not suffice.
 */
export const stackBytes = 16 * 2 ** 20

/** The foreign function interface of koffi. */
export function koffiNative(): Native {
  const koffi = createRequire(import.meta.url)('koffi') as Koffi
  try {
    koffi.config({ sync_stack_size: stackBytes })
  } catch {
    // somebody has loaded a library before, and koffi keeps the stack that it has since then
  }
  return {
    load: (path) => named(path, load(koffi, path)),
    text: (address) => koffi.decode.string(address),
    allocate: (bytes) => koffi.alloc('uint8_t', bytes),
    release: (address) => koffi.free(address),
    view: (address, bytes) => koffi.view(address, bytes),
  }
}

function load(koffi: Koffi, path: string): NativeLibrary {
  try {
    const library = koffi.load(path)
    held.add(library)
    return library
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw new PullbackError('device', `[cuda] cannot load ${path}: ${why}. Install the package it comes from again.`, {
      cause: error,
    })
  }
}

/** A library whose missing functions are errors that name the function and the file. */
function named(path: string, library: NativeLibrary): NativeLibrary {
  return {
    file: path,
    func: (name, result, parameters) => {
      try {
        return library.func(name, result, parameters)
      } catch (error) {
        throw new PullbackError('device', `[cuda] ${path} has no function ${name}. Install a newer version of it.`, {
          cause: error,
        })
      }
    },
  }
}
