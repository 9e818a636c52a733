// Prototypes of NVRTC, the run-time compiler of CUDA C. Which options to compile with, and where results are kept, is the
// kernel cache's part.
import type { NativeLibrary } from './loader.ts'
import { type Check, CudaError, checker, statusBinder } from './status.ts'
import { callOnThreads } from './threads.ts'
import type { Handle, Out } from './values.ts'
import { count, outParameter, pointer, text, untilNul } from './values.ts'

/** An nvrtcProgram. */
export type CompilerProgram = Handle<'nvrtc program'>

/** NVRTC's calls. Every one throws a CudaError that names the call and the status. */
export interface Nvrtc {
  version(): readonly [major: number, minor: number]
  /** The architectures it compiles for, as 10 * major + minor, ascending. */
  architectures(): readonly number[]
  /** `name` is what messages call the source. */
  createProgram(source: string, name: string): CompilerProgram
  destroyProgram(program: CompilerProgram): void
  /** Throws a CudaError with status `nvrtcErrors.COMPILATION` where the source is wrong: the log says why. */
  compileProgram(program: CompilerProgram, options: readonly string[]): void
  /**
   * Compiles many programs on all cores and waits for them; `done` hears how many have ended. For each program what
   * `compileProgram` would have thrown, undefined where it would not. Missing where the library is no file.
   */
  compileTogether?(
    programs: readonly CompilerProgram[],
    options: readonly string[],
    done: (count: number) => void,
  ): readonly (CudaError | undefined)[]
  programLog(program: CompilerProgram): string
  /** The machine code; empty unless a real architecture (sm_XX) was asked for. */
  cubin(program: CompilerProgram): Uint8Array
  ptx(program: CompilerProgram): string
}

/** NVRTC_ERROR_*. */
export const nvrtcErrors = {
  OUT_OF_MEMORY: 1,
  INVALID_OPTION: 5,
  COMPILATION: 6,
  BUILTIN_OPERATION_FAILURE: 7,
} as const

/** Binds libnvrtc. Nothing is called yet. */
export function bindNvrtc(library: NativeLibrary): Nvrtc {
  const describe = library.func('nvrtcGetErrorString', 'const char *', ['int'])
  const check = checker('NVRTC', (status) => ({ name: String(describe(status)), text: '' }))
  const out = outParameter()
  return { ...bindVersions(library, check), ...bindPrograms(library, check, out), ...bindResults(library, check, out) }
}

function bindVersions(library: NativeLibrary, check: Check): Pick<Nvrtc, 'version' | 'architectures'> {
  const bind = statusBinder(library, check)
  const version = bind('nvrtcVersion', 'void *', 'void *')
  const number = bind('nvrtcGetNumSupportedArchs', 'void *')
  const architectures = bind('nvrtcGetSupportedArchs', 'void *')
  return {
    version: () => {
      const [major, minor] = [new Int32Array(1), new Int32Array(1)]
      version(major, minor)
      return [major[0] ?? 0, minor[0] ?? 0]
    },
    architectures: () => {
      const length = new Int32Array(1)
      number(length)
      const list = new Int32Array(count(length[0] ?? 0))
      if (list.length > 0) architectures(list)
      return [...list].sort((a, b) => a - b)
    },
  }
}

type Programs = 'createProgram' | 'destroyProgram' | 'compileProgram' | 'compileTogether'

function bindPrograms(library: NativeLibrary, check: Check, out: Out): Pick<Nvrtc, Programs> {
  const bind = statusBinder(library, check)
  const string = 'const char *'
  const create = bind('nvrtcCreateProgram', 'void *', string, string, 'int', 'void *', 'void *')
  const destroy = bind('nvrtcDestroyProgram', 'void *')
  const compile = bind('nvrtcCompileProgram', 'void *', 'int', 'const char **')
  return {
    ...bindTogether(library, check),
    createProgram: (source, name) => (
      create(out.clear(), text(source), text(name), 0, null, null), out.handle('nvrtcCreateProgram')
    ),
    destroyProgram: (program) => destroy(BigUint64Array.of(pointer(program))),
    compileProgram: (program, options) => compile(pointer(program), options.length, options.map(text)),
  }
}

function bindTogether(library: NativeLibrary, check: Check): Pick<Nvrtc, 'compileTogether'> {
  const { file } = library
  if (file === undefined) return {}
  const name = 'nvrtcCompileProgram'
  const parameters = ['void *', 'int', 'const char **'] as const
  const compile = { file, name, parameters, call: library.func(name, 'int', parameters) }
  return {
    compileTogether: (programs, options, done) => {
      const texts = options.map(text)
      const calls = programs.map((program) => [pointer(program), texts.length, texts])
      return callOnThreads(compile, calls, done).map((status) => thrownBy(() => check(status, name)))
    },
  }
}

function thrownBy(action: () => void): CudaError | undefined {
  try {
    action()
    return undefined
  } catch (error) {
    if (error instanceof CudaError) return error
    throw error
  }
}

function bindResults(library: NativeLibrary, check: Check, out: Out): Pick<Nvrtc, 'programLog' | 'cubin' | 'ptx'> {
  const bind = statusBinder(library, check)
  const fetcher = (what: string): ((program: CompilerProgram) => Uint8Array) => {
    const size = bind(`nvrtcGet${what}Size`, 'void *', 'void *')
    const fetch = bind(`nvrtcGet${what}`, 'void *', 'void *')
    return (program) => {
      size(pointer(program), out.clear())
      const bytes = new Uint8Array(count(out.size()))
      if (bytes.length > 0) fetch(pointer(program), bytes)
      return bytes
    }
  }
  const log = fetcher('ProgramLog')
  const ptx = fetcher('PTX')
  return {
    programLog: (program) => untilNul(log(program)),
    cubin: fetcher('CUBIN'),
    ptx: (program) => untilNul(ptx(program)),
  }
}
