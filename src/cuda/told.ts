// What the CUDA device tells of a program it made ready, as far as PULLBACK_LOG asks for it.
import type { Device } from '../tensor/device.ts'
import { logLine } from '../tensor/log.ts'
import type { CudaExecutable } from './executable.ts'

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
