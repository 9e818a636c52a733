// Stand-ins for the machine and for the foreign function interface: folders are lists of names, and a native call is what
// the test says it is.
import type { Machine } from '../../src/cuda/discovery.ts'
import type { Native, NativeType } from '../../src/cuda/ffi/loader.ts'

export interface FakeFolders {
  readonly folders: Readonly<Record<string, readonly string[]>>
  readonly environment?: Readonly<Record<string, string>>
  readonly loader?: readonly string[]
  readonly site?: readonly string[]
  readonly links?: Readonly<Record<string, string>>
}

/** A machine with these folders and no others. */
export function fakeMachine({ folders, environment = {}, loader = [], site = [], links = {} }: FakeFolders): Machine {
  return {
    environment,
    list: (folder) => folders[folder] ?? [],
    realPath: (path) => links[path] ?? path,
    loaderFolders: () => loader,
    sitePackages: () => site,
  }
}

/** The names of a whole cuDNN 9. */
export const wholeCudnn = [
  'libcudnn.so.9',
  ...['graph', 'ops', 'cnn', 'heuristic', 'engines_precompiled', 'engines_runtime_compiled', 'adv'].map(
    (part) => `libcudnn_${part}.so.9`,
  ),
]

/** What a fake native function does with its arguments; the returned value is its status or result. */
export type FakeFunction = (...values: readonly unknown[]) => unknown

/** A prototype that was bound. */
export interface Bound {
  readonly path: string
  readonly name: string
  readonly result: NativeType
  readonly parameters: readonly NativeType[]
}

/** A foreign function interface whose functions answer 0 unless the test gives them something to do. */
export function fakeNative(functions: Readonly<Record<string, FakeFunction>> = {}) {
  const bound: Bound[] = []
  const loaded: string[] = []
  const calls: { readonly name: string; readonly values: readonly unknown[] }[] = []
  const native: Native = {
    load: (path) => {
      loaded.push(path)
      return {
        func: (name, result, parameters) => {
          bound.push({ path, name, result, parameters })
          return (...values) => {
            calls.push({ name, values })
            if (values.length !== parameters.length)
              throw new Error(`${name} takes ${parameters.length} arguments, got ${values.length}`)
            const answer = functions[name]
            return answer === undefined ? (result === 'const char *' ? `text of ${name}` : 0) : answer(...values)
          }
        },
      }
    },
    text: (address) => `text at ${address}`,
    allocate: () => 0x1000n,
    release: () => {},
    view: (_, bytes) => new ArrayBuffer(bytes),
  }
  return { native, bound, loaded, calls }
}

/** Writes a 64-bit value where an out-parameter points. */
export function write(target: unknown, value: bigint): number {
  ;(target as BigUint64Array)[0] = value
  return 0
}

/** Writes a 32-bit integer where an out-parameter points. */
export function writeInt(target: unknown, value: number): number {
  const array = target as NodeJS.TypedArray
  new Int32Array(array.buffer, array.byteOffset)[0] = value
  return 0
}
