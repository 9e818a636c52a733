// All that runs on one GPU, made together and given back together: the session, the queue, memory, staging and kernels.
import { join } from 'node:path'
import { cacheFolder } from '../../compile/cache-folder.ts'
import { cacheLimit, trimCacheOnce } from '../../compile/cache-trim.ts'
import { InternalError } from '../../tensor/errors.ts'
import type { Probe } from '../discovery-probe.ts'
import type { Driver } from '../ffi/driver.ts'
import type { Native } from '../ffi/loader.ts'
import { Allocator } from './allocator.ts'
import { type Cleanup, allOf, allOrNothing, attempt } from './cleanup.ts'
import { Counters } from './counters.ts'
import { Cubins } from './cubins.ts'
import { Modules } from './modules.ts'
import { Queue } from './queue.ts'
import { type Session, openSession } from './session.ts'
import { Staging } from './staging.ts'

export { Allocator, Block, OutOfMemoryError } from './allocator.ts'
export { Cleanup, allOrNothing, attempt } from './cleanup.ts'
export type { BuildProgress } from './cubins.ts'
export type { Modules } from './modules.ts'
export type { Queue } from './queue.ts'
export type { Session } from './session.ts'
export type { ReadPlace, Staging } from './staging.ts'

/** The parts of a GPU in use. */
export interface Runtime {
  readonly session: Session
  readonly queue: Queue
  readonly memory: Allocator
  readonly counters: Counters
  readonly staging: Staging
  readonly modules: Modules
  readonly cubins: Cubins
  /** Frees everything; nothing may run any more. Throws the first failure, after all has been tried. */
  close(): void
}

/** How a runtime is opened. */
export interface RuntimeOptions {
  readonly ordinal: number
  /** PULLBACK_CACHE and PULLBACK_CACHE_LIMIT are read from it. */
  readonly environment: NodeJS.ProcessEnv
  /** Each block of memory an allocation of its own. */
  readonly separate: boolean
  /** Names the largest owners of memory for the error of running out. */
  readonly owners: () => string
}

/** Opens a GPU: all or nothing. */
export function openRuntime(found: Probe, native: Native, options: RuntimeOptions): Runtime {
  const { value, cleanup } = allOrNothing((noted) => assemble(found, native, options, noted))
  const { session, queue, memory } = value
  const close = (): void => {
    attempt(() => session.enter())
    if (queue.failed) attempt(() => session.driver.synchronizeContext()) // nobody waited for what else was under way
    allOf([() => queue.close(closed(session.gpu.ordinal)), () => memory.close(), () => cleanup.release()])
  }
  return { ...value, close }
}

function closed(ordinal: number): InternalError {
  return new InternalError(`use of a cuda:${ordinal} device that was closed`)
}

function assemble(
  found: Probe,
  native: Native,
  { ordinal, environment, separate, owners }: RuntimeOptions,
  noted: Cleanup,
): Omit<Runtime, 'close'> {
  const [cache, limit] = [cacheFolder(environment), cacheLimit(environment)]
  const { session, cleanup } = openSession(found, native, ordinal)
  noted.later(() => cleanup.release())
  const { driver, nvrtc, gpu, versions } = session
  const queue = new Queue(driver, noted)
  const target = { architecture: gpu.architecture, versions: [versions.nvrtc, versions.driver] }
  const memory = new Allocator(driver, queue, owners, { separate })
  const cubins = new Cubins(nvrtc, join(cache, 'cubin'), target, () => trimCacheOnce(cache, limit))
  const relieved = relieving(driver, memory)
  return {
    session: { ...session, driver: relieved },
    queue,
    memory,
    cubins,
    counters: new Counters(driver, queue, memory),
    staging: new Staging(driver, native, queue, noted),
    modules: new Modules(relieved, cubins, noted),
  }
}

/** The driver, whose calls that take memory by themselves are tried again with what could be given back to it. */
function relieving(driver: Driver, memory: Allocator): Driver {
  return {
    ...driver,
    loadModule: (image) => memory.relieved(() => driver.loadModule(image)),
    kernel: (module, name) => memory.relieved(() => driver.kernel(module, name)),
    instantiateGraph: (graph) => memory.relieved(() => driver.instantiateGraph(graph)),
    launchGraph: (graph, stream) => memory.relieved(() => driver.launchGraph(graph, stream)),
  }
}
