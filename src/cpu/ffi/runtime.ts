// Prototypes of the CPU runtime (runtime.ts holds its C). Arguments are checked here, because a foreign call takes NaN,
// undefined or a string as a pointer without a word.
import { InternalError, PullbackError } from '../../tensor/errors.ts'
import type { NativeFunction, NativeLibrary, NativeType } from './loader.ts'

declare const brand: unique symbol

/** An address of native memory or of a native object, never 0. */
export type Pointer = bigint & { readonly [brand]: 'pointer' }

/** Memory of JavaScript's that a call may read or write while it lasts. */
export type Bytes = Exclude<NodeJS.TypedArray, Buffer>

/** What the runtime's library offers, as checked calls. */
export interface RuntimeCalls {
  create(threads: number, profiling: boolean): Pointer
  close(runtime: Pointer): void
  program(words: BigInt64Array): Pointer
  submit(runtime: Pointer, program: Pointer, arena: Pointer | 0n, io: BigInt64Array): number
  dispose(runtime: Pointer, program: Pointer): void
  completed(runtime: Pointer): number
  /** Blocks; false if the runtime was abandoned before the ticket was done. */
  wait(runtime: Pointer, ticket: number): boolean
  /** The same without blocking this thread. */
  waitAsync(runtime: Pointer, ticket: number): Promise<boolean>
  abandon(runtime: Pointer): void
  /** Fills `nanoseconds` (one number for each launch) and returns how many runs they cover. */
  profile(program: Pointer, nanoseconds: Float64Array): number
  /** 64-byte aligned memory; undefined if there is not enough. */
  alloc(bytes: number): Pointer | undefined
  free(block: Pointer): void
  copyIn(to: Pointer, from: Bytes, bytes: number): void
  copyOut(to: Bytes, from: Pointer, bytes: number): void
  open(path: string): Pointer
  symbol(library: Pointer, name: string): Pointer
}

/** Binds the runtime's functions. */
export function bindRuntime(library: NativeLibrary): RuntimeCalls {
  const bind = (name: string, result: NativeType, ...parameters: NativeType[]): NativeFunction =>
    library.func(`pb_${name}`, result, parameters)
  const create = bind('create', 'void *', 'int64_t', 'int64_t')
  const close = bind('close', 'int64_t', 'void *')
  const program = bind('program', 'void *', 'void *', 'int64_t')
  const submit = bind('submit', 'int64_t', 'void *', 'void *', 'void *', 'void *')
  const dispose = bind('dispose', 'int64_t', 'void *', 'void *')
  const completed = bind('completed', 'int64_t', 'void *')
  const wait = bind('wait', 'int64_t', 'void *', 'int64_t')
  const abandon = bind('abandon', 'int64_t', 'void *')
  const profile = bind('profile', 'int64_t', 'void *', 'void *')
  const alloc = bind('alloc', 'void *', 'int64_t')
  const free = bind('free', 'int64_t', 'void *')
  const copy = bind('copy', 'int64_t', 'void *', 'void *', 'int64_t')
  const open = bind('open', 'void *', 'const char *')
  const symbol = bind('symbol', 'void *', 'void *', 'const char *')
  return {
    create: (threads, profiling) => made('create', create(positive(threads), Number(profiling))),
    close: (runtime) => check('close', close(pointer(runtime))),
    program: (words) => made('program', program(typed(words, words.byteLength), words.length)),
    submit: (runtime, executable, arena, io) =>
      ticket(
        'submit',
        submit(pointer(runtime), pointer(executable), arena === 0n ? null : pointer(arena), typed(io, 0)),
      ),
    dispose: (runtime, executable) => void ticket('dispose', dispose(pointer(runtime), pointer(executable))),
    completed: (runtime) => ticket('completed', completed(pointer(runtime))),
    wait: (runtime, until) => wait(pointer(runtime), count(until)) === 0,
    waitAsync: (runtime, until) =>
      new Promise((resolve, reject) => {
        wait.async(pointer(runtime), count(until), (error: unknown, status: unknown) => {
          if (error === null || error === undefined) resolve(status === 0)
          else reject(new PullbackError('device', '[cpu] waiting for the device failed.', { cause: error }))
        })
      }),
    abandon: (runtime) => check('abandon', abandon(pointer(runtime))),
    profile: (executable, nanoseconds) => ticket('profile', profile(pointer(executable), typed(nanoseconds, 0))),
    alloc: (bytes) => {
      const block = alloc(positive(bytes))
      return block === null ? undefined : made('alloc', block)
    },
    free: (block) => check('free', free(pointer(block))),
    copyIn: (to, from, bytes) => check('copy', copy(pointer(to), typed(from, bytes), count(bytes))),
    copyOut: (to, from, bytes) => check('copy', copy(typed(to, bytes), pointer(from), count(bytes))),
    open: (path) => made(`open ${path}`, open(text(path))),
    symbol: (handle, name) => made(`symbol ${name}`, symbol(pointer(handle), text(name))),
  }
}

/** Fails unless a call gave back 0. */
function check(call: string, status: unknown): void {
  if (status !== 0) throw new PullbackError('device', `[cpu] ${call} gave status ${String(status)}.`)
}

function ticket(call: string, value: unknown): number {
  if (typeof value !== 'number' || value < 0)
    throw new PullbackError('out-of-memory', `[cpu] ${call}: no memory for the queue.`)
  return value
}

function made(call: string, value: unknown): Pointer {
  if (typeof value === 'bigint' && value !== 0n) return value as Pointer
  throw new PullbackError('device', `[cpu] ${call} failed in the native runtime.`)
}

function pointer(value: Pointer): Pointer {
  if (typeof value !== 'bigint' || value === 0n)
    throw new InternalError(`a native call got ${String(value)} as a pointer`)
  return value
}

function count(value: number): number {
  if (!Number.isSafeInteger(value) || value < 0) throw new InternalError(`a native call got ${value} as a count`)
  return value
}

function positive(value: number): number {
  if (count(value) === 0) throw new InternalError('a native call got 0 as a size')
  return value
}

function text(value: string): string {
  if (typeof value !== 'string' || value.includes('\0')) throw new InternalError('a native call got a bad string')
  return value
}

function typed<T extends Bytes>(array: T, bytes: number): T {
  if (!ArrayBuffer.isView(array) || array.byteLength < bytes)
    throw new InternalError(`a native call got an array of ${array.byteLength} bytes for ${bytes}`)
  return array
}
