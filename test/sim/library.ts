// The simulated CUDA for tests: the library under all its names, a machine on which discovery finds it, and typed controls.
// Building it is build.ts's part; what it does is told in native/.
import koffi from 'koffi'
import { readdirSync } from 'node:fs'
import type { Machine } from '../../src/cuda/discovery.ts'
import { type Native, koffiNative } from '../../src/cuda/ffi/loader.ts'
import { buildSimulation } from './build.ts'

/** What the simulation tells of itself. */
export interface SimReport {
  /** Bugs a real GPU would suffer in silence, and faults with their place. */
  readonly violations: readonly string[]
  /** Calls refused because of a capture. */
  readonly refusals: readonly string[]
  /** Live allocations, device and pinned. */
  readonly memory: readonly string[]
  /** Live objects by kind: streams, events, graphs, modules, kernels, descriptors. */
  readonly live: Readonly<Record<string, number>>
  /** Work that nobody has waited for. */
  readonly pending: number
  /** How often the primary context is retained. */
  readonly retained: number
  /** The status every call answers after a fault; 0 without one. */
  readonly sticky: number
  /** Bytes of device memory in use, and the most that ever were. */
  readonly used: number
  readonly peak: number
  /** Calls in all, and by name. */
  readonly calls: number
  readonly counts: Readonly<Record<string, number>>
  /** The call that was made to fail. */
  readonly failed: string
}

/** What tests tell the simulation. */
export interface SimControls {
  /** Orders of streams, blocks, warps and threads: 0 is natural and as late as can be. */
  seed(value: number): void
  /**
   * The n-th counted call from now fails, once; 0 takes that back. `status` is what it answers, if it is one of the driver's;
   * what is typical otherwise. With `call` only calls of that name count, of whatever library.
   */
  failAt(n: number, status?: number, call?: string): void
  /** Bytes of device memory; 8 GiB at first. */
  memory(bytes: number): void
  /** Allocations end where a page that faults begins, aligned to so many bytes; 0: they begin behind such a page. */
  alignRight(bytes: number): void
  report(): SimReport
  /** Forgets all handles, memory, work, violations and counts; the seed stays. */
  reset(): void
}

/** A simulated machine, process-wide: everything that loads the library shares one GPU. */
export interface Simulation extends SimControls {
  readonly native: Native
  /** A machine with the simulated libraries and no others. */
  readonly machine: Machine
  /** For programs in processes of their own: where they find the simulated libraries, and how they compile. */
  readonly environment: Readonly<Record<string, string>>
}

/** How NVRTC compiles: 'wait' for the compiler and its errors, as the real one does, or 'defer' to the first launch. */
export type CompileMode = 'wait' | 'defer'

/** What a test's set-up allows for the first build, which takes a minute where nothing else runs. */
export const buildMilliseconds = 600_000

/** Builds the simulation if need be, and loads it. */
export async function simulation(compile: CompileMode = 'defer'): Promise<Simulation> {
  const { library, folder } = await buildSimulation()
  const environment = { PULLBACK_CUDA_PATH: folder, PULLBACK_SIM_COMPILE: compile }
  return {
    ...controls(library, compile),
    native: koffiNative(),
    machine: {
      environment,
      list: (path) => (path.startsWith(folder) ? names(path) : []),
      realPath: (path) => path,
      loaderFolders: () => [],
      sitePackages: () => [],
    },
    environment,
  }
}

function names(path: string): readonly string[] {
  try {
    return readdirSync(path)
  } catch {
    return []
  }
}

function controls(path: string, compile: CompileMode): SimControls {
  const library = koffi.load(path)
  const seed = library.func('void sim_seed(uint64_t value)')
  const fail = library.func('void sim_fail(int64_t n, int status, const char *call)')
  const memory = library.func('void sim_memory(uint64_t total)')
  const align = library.func('void sim_align(uint32_t alignment)')
  const report = library.func('const char *sim_report()')
  const reset = library.func('void sim_reset()')
  library.func('void sim_defer(int on)')(compile === 'defer' ? 1 : 0)
  return {
    seed: (value) => void seed(value),
    failAt: (n, status = 0, call = '') => void fail(n, status, call),
    memory: (bytes) => void memory(bytes),
    alignRight: (bytes) => void align(bytes),
    report: () => JSON.parse(String(report())) as SimReport,
    reset: () => void reset(),
  }
}
