// Where the real libraries and their headers are, for the tests that need them: PULLBACK_CUDA_WHEELS names a virtual
// environment with NVIDIA's wheels.
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

/** The site-packages/nvidia of the wheels, if they are installed. */
export function nvidiaFolder(): string | undefined {
  const root = process.env['PULLBACK_CUDA_WHEELS'] ?? '.cuda'
  const lib = join(root, 'lib')
  if (!existsSync(lib)) return undefined
  return readdirSync(lib)
    .map((python) => join(lib, python, 'site-packages', 'nvidia'))
    .find((folder) => existsSync(join(folder, 'cudnn', 'lib', 'libcudnn.so.9')))
}

/** The folders of headers for cuda.h, nvrtc.h, cublasLt.h and cudnn.h, if all are there. */
export function headerFolders(): readonly string[] | undefined {
  const nvidia = nvidiaFolder()
  const folders = nvidia === undefined ? [] : [join(nvidia, 'cu13', 'include'), join(nvidia, 'cudnn', 'include')]
  const wanted = ['cuda.h', 'nvrtc.h', 'cublasLt.h', 'cudnn.h']
  return wanted.every((name) => folders.some((folder) => existsSync(join(folder, name)))) ? folders : undefined
}

/** Says why a test is skipped; a skip nobody hears of is a hole. With PULLBACK_CUDA_REQUIRED=1 it is an error. */
export function absent(what: string): void {
  if (process.env['PULLBACK_CUDA_REQUIRED'] === '1') throw new Error(`${what}, and PULLBACK_CUDA_REQUIRED is set`)
  process.stderr.write(
    `skipped: ${what} (install nvidia-cudnn-cu13 nvidia-cublas nvidia-cuda-nvrtc nvidia-cuda-runtime and set PULLBACK_CUDA_WHEELS)\n`,
  )
}
