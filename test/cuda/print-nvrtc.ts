// NVRTC for tests: found where a toolkit or the wheels put it, called without a GPU.
import { existsSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import koffi, { type LibraryHandle } from 'koffi'
import { absent, nvidiaFolder } from './wheels.ts'

/** What compiling gave. */
export interface Compiled {
  readonly status: number
  readonly log: string
  readonly cubinBytes: number
}

/** Compiles a text for an architecture such as sm_90. */
export type Compile = (text: string, options: readonly string[]) => Compiled

/** What the assembler says of a kernel; NVRTC's log has it with --ptxas-options=-v. */
export interface AssemblerUsage {
  readonly name: string
  readonly registers: number
  /** Bytes. */
  readonly spilled: number
}

/** What NVRTC's log says of each kernel. */
export function assemblerUsage(log: string): readonly AssemblerUsage[] {
  return log
    .split('Compiling entry function')
    .slice(1)
    .map((part) => ({
      name: /'(\w+)'/.exec(part)?.[1] ?? '',
      registers: Number(/Used (\d+) registers/.exec(part)?.[1]),
      spilled: [...part.matchAll(/(\d+) bytes spill (?:stores|loads)/g)].reduce(
        (sum, [, bytes]) => sum + Number(bytes),
        0,
      ),
    }))
}

/** Libraries to which nothing else refers: koffi closes one that is collected as garbage, though NVRTC needs it still. */
const held: LibraryHandle[] = []

/** NVRTC and where it was found. */
interface Nvrtc {
  readonly path: string
  readonly compile: Compile
}

/** The same; where there is none, says what is not done for want of it. */
export function nvrtcOrAbsent(what: string): Nvrtc | undefined {
  const nvrtc = findNvrtc()
  if (nvrtc === undefined) absent(`${what}, because there is no NVRTC`)
  return nvrtc
}

/** NVRTC; undefined where there is none. */
export function findNvrtc(): Nvrtc | undefined {
  const files = foldersWithLibraries().flatMap((folder) =>
    existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : [],
  )
  const path = files.find((file) => /libnvrtc\.so(\.\d+)*$/.test(file))
  if (path === undefined) return undefined
  // NVRTC opens its builtins by name only: one that is loaded already is found wherever it lies.
  const builtins = files.find((file) => dirname(file) === dirname(path) && /libnvrtc-builtins\.so[.\d]*$/.test(file))
  if (builtins !== undefined) held.push(koffi.load(builtins))
  return { path, compile: compilerOf(koffi.load(path)) }
}

function foldersWithLibraries(): string[] {
  const named = ['PULLBACK_CUDA_PATH', 'CUDA_HOME', 'CUDA_PATH'].flatMap((name) => process.env[name] ?? [])
  const wheels = nvidiaFolder()
  const roots = [...named, ...(wheels === undefined ? [] : [wheels]), '/usr/local/cuda']
  const python = ['.cuda', ...(process.env['VIRTUAL_ENV'] === undefined ? [] : [process.env['VIRTUAL_ENV']])]
  return [
    ...roots.flatMap((root) => ['lib', 'lib64', 'cu13/lib', 'cuda_nvrtc/lib'].map((folder) => join(root, folder))),
    ...python.flatMap(sitePackages),
  ]
}

function sitePackages(environment: string): string[] {
  const libraries = join(environment, 'lib')
  if (!existsSync(libraries)) return []
  return readdirSync(libraries)
    .filter((name) => name.startsWith('python3'))
    .flatMap((name) => ['cu13', 'cuda_nvrtc'].map((part) => join(libraries, name, 'site-packages/nvidia', part, 'lib')))
}

function compilerOf(library: LibraryHandle): Compile {
  const create = library.func(
    'int nvrtcCreateProgram(void *program, const char *text, const char *name, int headers, void *contents, void *names)',
  )
  const compile = library.func('int nvrtcCompileProgram(uint64_t program, int count, const char **options)')
  const logSize = library.func('int nvrtcGetProgramLogSize(uint64_t program, void *size)')
  const log = library.func('int nvrtcGetProgramLog(uint64_t program, void *log)')
  const cubinSize = library.func('int nvrtcGetCUBINSize(uint64_t program, void *size)')
  const destroy = library.func('int nvrtcDestroyProgram(void *program)')
  return (text, options) => {
    const program = new BigUint64Array(1)
    if (Number(create(program, text, 'kernels.cu', 0, null, null)) !== 0) throw new Error('nvrtcCreateProgram failed')
    const handle = program[0] ?? 0n
    const status = Number(compile(handle, options.length, [...options]))
    const size = new BigUint64Array(1)
    logSize(handle, size)
    const bytes = new Uint8Array(Number(size[0] ?? 0n))
    log(handle, bytes)
    size[0] = 0n
    if (status === 0) cubinSize(handle, size)
    destroy(program)
    const text8 = Buffer.from(bytes).toString('utf8').replaceAll('\0', '').trim()
    return { status, log: text8, cubinBytes: Number(size[0]) }
  }
}
