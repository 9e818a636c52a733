// One C function called many times on several threads, for calls that take long and need no context, while the calling
// thread takes its share and waits for the rest. What is called is nvrtc.ts's part.
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import type { NativeType } from './loader.ts'

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
  const state = new Int32Array(new SharedArrayBuffer(4 * (2 + calls.length)))
  const koffi = createRequire(import.meta.url).resolve('koffi')
  const threads = Math.min(mostThreads, availableParallelism(), calls.length) - 1
  for (let thread = 0; thread < threads; thread++) start({ koffi, file, name, parameters, calls, state })
  serve(
    (...values) => {
      const status = call(...values)
      done(Math.min(Atomics.load(state, 1) + 1, calls.length))
      return status
    },
    calls,
    state,
  )
  for (let ended = Atomics.load(state, 1); ended < calls.length; ended = Atomics.load(state, 1)) {
    Atomics.wait(state, 1, ended)
    done(Atomics.load(state, 1))
  }
  return [...state.subarray(2)]
}

interface Shared {
  /** Where koffi is. */
  readonly koffi: string
  readonly file: string
  readonly name: string
  readonly parameters: readonly NativeType[]
  readonly calls: readonly (readonly unknown[])[]
  readonly state: Int32Array
}

/**
 * The thread's program is a text, because a file of ours is TypeScript in some places and JavaScript in others, and a thread
 * knows nothing of what translates it. A thread that fails to start leaves its calls to the others.
 */
function start(shared: Shared): void {
  const program = `
    const { workerData: shared } = require('node:worker_threads')
    const call = require(shared.koffi).load(shared.file).func(shared.name, 'int', shared.parameters)
    ;(${serve.toString()})(call, shared.calls, shared.state)`
  const worker = new Worker(program, { eval: true, execArgv: [], workerData: shared })
  worker.on('error', () => undefined)
  worker.unref()
}

/**
 * Makes calls until none is left. `state` holds which is next, how many have ended, and then what each gave. It refers to
 * nothing outside, for its text is what the threads run.
 */
function serve(call: (...values: readonly unknown[]) => unknown, calls: Shared['calls'], state: Int32Array): void {
  for (;;) {
    const index = Atomics.add(state, 0, 1)
    const values = calls[index]
    if (values === undefined) return
    Atomics.store(state, 2 + index, Number(call(...values)))
    Atomics.add(state, 1, 1)
    Atomics.notify(state, 1)
  }
}
