// One C function called many times on several threads, for calls that take long and need no context, while the calling
// thread takes its share and waits for the rest. What is called is nvrtc.ts's part.
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { type NativeType, stackBytes } from './loader.ts'

/** A function of a shared library that gives an int; its parameters are addresses, numbers, texts and lists of texts. */
export interface ThreadedFunction {
  /** The library's path; it is loaded already, and stays so. */
  readonly file: string
  readonly name: string
  readonly parameters: readonly NativeType[]
  /** The same function, bound on the calling thread. */
  readonly call: (...values: readonly unknown[]) => unknown
}

/** More threads than this gain little: then the longest call is what is waited for. */
const mostThreads = 16

/**
 * What the function gave for each list of values, in their order; `done` hears how many calls have ended.
 *
 * The calling thread makes calls like the others, so that everything is done even where no thread can be started.
 */
export function callOnThreads(
  { file, name, parameters, call }: ThreadedFunction,
  calls: readonly (readonly unknown[])[],
  done: (count: number) => void,
): readonly number[] {
  const state = new Int32Array(new SharedArrayBuffer(4 * (firstResult + calls.length)))
  const koffi = createRequire(import.meta.url).resolve('koffi')
  const threads = Math.min(mostThreads, availableParallelism(), calls.length) - 1
  try {
    for (let thread = 0; thread < threads; thread++)
      if (!start({ koffi, file, name, parameters, calls, state, firstResult, closed })) break
    serve(
      (...values) => {
        const status = call(...values)
        done(Math.min(Atomics.load(state, 1) + 1, calls.length))
        return status
      },
      calls,
      state,
      firstResult,
    )
    for (let ended = Atomics.load(state, 1); ended < calls.length; ended = Atomics.load(state, 1)) {
      Atomics.wait(state, 1, ended)
      done(Atomics.load(state, 1))
    }
    return [...state.subarray(firstResult)]
  } finally {
    Atomics.store(state, 0, calls.length)
    const entered = Atomics.add(state, 2, closed)
    for (let left = Atomics.load(state, 3); left < entered; left = Atomics.load(state, 3)) Atomics.wait(state, 3, left)
  }
}

/** `state`: which call is next, how many ended, how many threads came in (closed: none may any more), how many left, results. */
const firstResult = 4
const closed = 2 ** 30

interface Shared {
  /** Where koffi is. */
  readonly koffi: string
  readonly file: string
  readonly name: string
  readonly parameters: readonly NativeType[]
  readonly calls: readonly (readonly unknown[])[]
  readonly state: Int32Array
  readonly firstResult: number
  readonly closed: number
}

/**
 * The thread's program is a text, because a file of ours is TypeScript in some places and JavaScript in others, and a thread
 * knows nothing of what translates it. A thread that fails to start leaves its calls to the others.
 */
function start(shared: Shared): boolean {
  const program = `
    const { workerData: shared } = require('node:worker_threads')
    if (Atomics.add(shared.state, 2, 1) < shared.closed)
      try {
        const koffi = require(shared.koffi)
        koffi.config({ sync_stack_size: ${stackBytes} })
        const call = koffi.load(shared.file).func(shared.name, 'int', shared.parameters)
        ;(${serve.toString()})(call, shared.calls, shared.state, shared.firstResult)
      } finally {
        Atomics.add(shared.state, 3, 1)
        Atomics.notify(shared.state, 3)
      }`
  try {
    const worker = new Worker(program, { eval: true, execArgv: [], workerData: shared })
    worker.on('error', () => undefined)
    worker.unref()
    return true
  } catch {
    return false
  }
}

/**
 * Makes calls until none is left. `state` holds which is next, how many have ended, and then what each gave. It refers to
 * nothing outside, for its text is what the threads run.
 */
function serve(
  call: (...values: readonly unknown[]) => unknown,
  calls: Shared['calls'],
  state: Int32Array,
  firstResult: number,
): void {
  for (;;) {
    const index = Atomics.add(state, 0, 1)
    const values = calls[index]
    if (values === undefined) return
    let status = -1
    try {
      status = Number(call(...values))
    } finally {
      Atomics.store(state, firstResult + index, status)
      Atomics.add(state, 1, 1)
      Atomics.notify(state, 1)
    }
  }
}
