// Which failures end a device: those after which the driver refuses every further call in the process, and those found when
// work that was enqueued turns out to have failed.
import { PullbackError } from '../../tensor/errors.ts'
import { driverErrors } from '../ffi/driver-constants.ts'
import { CudaError } from '../ffi/status.ts'

const sticky = new Set<number>([
  driverErrors.DEINITIALIZED,
  driverErrors.ECC_UNCORRECTABLE,
  driverErrors.NVLINK_UNCORRECTABLE,
  driverErrors.CONTAINED,
  driverErrors.ILLEGAL_ADDRESS,
  driverErrors.LAUNCH_TIMEOUT,
  driverErrors.CONTEXT_IS_DESTROYED,
  driverErrors.ASSERT,
  driverErrors.HARDWARE_STACK_ERROR,
  driverErrors.ILLEGAL_INSTRUCTION,
  driverErrors.MISALIGNED_ADDRESS,
  driverErrors.INVALID_ADDRESS_SPACE,
  driverErrors.INVALID_PC,
  driverErrors.LAUNCH_FAILED,
  driverErrors.UNKNOWN,
])

/** Whether the error, or what caused it, leaves the context unusable. */
export function isSticky(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  return (error instanceof CudaError && error.library === 'driver' && sticky.has(error.status)) || isSticky(error.cause)
}

/** Whether something failed for want of memory. */
export function isOutOfMemory(error: unknown): boolean {
  return error instanceof PullbackError && error.code === 'out-of-memory'
}

/** The one error that everybody gets once a device has failed; `label` is what ran at the time, if that is known. */
export function deviceFailure(error: unknown, label: string | undefined): PullbackError {
  const said = error instanceof Error ? error.message.replace(/^\[cuda\] /, '') : String(error)
  const during = label === undefined ? '' : ` during '${label}'`
  return new PullbackError('device', `[cuda] the GPU failed${during} and cannot be used any more: ${said}`, {
    cause: error,
  })
}
