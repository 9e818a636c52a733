// The text in front of every printed CUDA kernel, and how both compilers are to read it: without headers, and with every
// product and sum rounded by itself, as the program says.
import { blockPrelude } from './prelude-blocks.ts'
import { devicePrelude } from './prelude-device.ts'
import { memoryPrelude } from './prelude-memory.ts'
import { registerPrelude } from './prelude-registers.ts'

/** C++17 for NVRTC, and without `__CUDACC__` for a simulation on the host. */
export const cudaPrelude: string = [devicePrelude, registerPrelude, memoryPrelude, blockPrelude].join('')

/** Options of NVRTC for printed kernels, to which the architecture comes. */
export const cudaOptions: readonly string[] = [
  '--std=c++17',
  '--fmad=false',
  '--prec-div=true',
  '--prec-sqrt=true',
  '--ftz=false',
]
