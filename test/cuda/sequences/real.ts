// The real libraries for the tables: cuDNN bound, cuBLASLt as it is, because its table sets what the bindings never would.
import { discover } from '../../../src/cuda/discovery.ts'
import { thisMachine } from '../../../src/cuda/discovery-machine.ts'
import type { Cudnn } from '../../../src/cuda/ffi/cudnn.ts'
import { type NativeLibrary, koffiNative } from '../../../src/cuda/ffi/loader.ts'
import { findLibraries, provideDriver } from '../../deviceless/libraries.ts'
import { nvidiaFolder } from '../wheels.ts'

/** The real libraries, where they are installed. Engines that compile need a driver to be found: one without a device does. */
export function realLibraries(): { readonly cudnn: Cudnn; readonly cublasLt: NativeLibrary } | undefined {
  if (!provideDriver()) return undefined
  const { cudnn } = findLibraries()
  const path = process.env['PULLBACK_CUDA_PATH'] ?? nvidiaFolder()
  const environment = path === undefined ? process.env : { ...process.env, PULLBACK_CUDA_PATH: path }
  const native = koffiNative()
  const cublasLt = discover(thisMachine(environment))
    .cublasLt?.files.map((file) => native.load(file))
    .at(-1)
  return cudnn === undefined || cublasLt === undefined ? undefined : { cudnn, cublasLt }
}
