// What the CUDA device tells of programs it made ready and of plans that failed, as far as PULLBACK_LOG asks for it.
import type { Device } from '../tensor/device.ts'
import { logLine } from '../tensor/log.ts'
import type { CudaExecutable } from './executable.ts'
import type { CudaError } from './ffi/status.ts'

/** One line at info, at debug for single operations; milliseconds from program to plan, and from plan to launches. */
export function tellCompilation(
  device: Pick<Device, 'name' | 'details'>,
  label: string,
  equations: number,
  { works, arenaBytes }: Pick<CudaExecutable, 'works' | 'arenaBytes'>,
  [planned, prepared]: readonly [number, number],
): void {
  logLine(equations > 1 ? 'info' : 'debug', () => {
    const { tuning = '', kernels = '' } = device.details()
    return `[${label}] compiled for ${device.name}: ${works} launches, arena ${(arenaBytes / 1e6).toFixed(1)} MB, planned in ${planned.toFixed(0)} ms, ready in ${prepared.toFixed(0)} ms; tuning ${tuning}; kernels ${kernels}`
  })
}

/** Notes what cuDNN fails to plan: one sentence for each engine and status, however many convolutions meet it. */
export function tellOnce(note: (sentence: string) => void): (id: string, error: CudaError) => void {
  const told = new Set<string>()
  return (id, error) => {
    const about = `${id} ${error.status}`
    const why = error.message.replace(/^\[cuda\] /, '')
    if (!told.has(about)) note(`cuDNN failed to plan ${id}, which is left out: ${why}`)
    told.add(about)
  }
}
