// Prototypes of the CUDA driver API for memory: device and pinned allocations, copies and fills. When memory is taken and
// given back is the allocator's part.
import type { NativeLibrary } from './loader.ts'
import type { Stream } from './driver-queues.ts'
import { type Check, statusBinder } from './status.ts'
import type { DevicePointer, HostPointer, Out } from './values.ts'
import { count, pointer, positive, unsigned } from './values.ts'

/** The driver API's calls about memory. Sizes are bytes. */
export interface MemoryCalls {
  /** Throws a CudaError with code 'out-of-memory' where there is not enough. */
  allocate(bytes: number): DevicePointer
  free(address: DevicePointer): void
  /** Bytes free on the current context's device, and all its bytes. */
  memoryInfo(): { readonly free: number; readonly total: number }
  /** Pinned host memory. */
  allocateHost(bytes: number, flags: number): HostPointer
  freeHost(address: HostPointer): void
  /** The host memory must stay untouched until the stream has passed the copy. */
  copyToDevice(to: DevicePointer, from: HostPointer, bytes: number, stream: Stream): void
  copyToHost(to: HostPointer, from: DevicePointer, bytes: number, stream: Stream): void
  copyOnDevice(to: DevicePointer, from: DevicePointer, bytes: number, stream: Stream): void
  fill8(to: DevicePointer, value: number, bytes: number, stream: Stream): void
  /** Fills `words` words of 4 bytes. */
  fill32(to: DevicePointer, value: number, words: number, stream: Stream): void
}

/** Binds libcuda's memory functions. */
export function bindMemory(library: NativeLibrary, check: Check, out: Out): MemoryCalls {
  const bind = statusBinder(library, check)
  const allocate = bind('cuMemAlloc_v2', 'void *', 'size_t')
  const free = bind('cuMemFree_v2', 'uint64_t')
  const info = bind('cuMemGetInfo_v2', 'void *', 'void *')
  const allocateHost = bind('cuMemHostAlloc', 'void *', 'size_t', 'unsigned int')
  const freeHost = bind('cuMemFreeHost', 'void *')
  const toDevice = bind('cuMemcpyHtoDAsync_v2', 'uint64_t', 'void *', 'size_t', 'void *')
  const toHost = bind('cuMemcpyDtoHAsync_v2', 'void *', 'uint64_t', 'size_t', 'void *')
  const onDevice = bind('cuMemcpyDtoDAsync_v2', 'uint64_t', 'uint64_t', 'size_t', 'void *')
  const fill8 = bind('cuMemsetD8Async', 'uint64_t', 'uint8_t', 'size_t', 'void *')
  const fill32 = bind('cuMemsetD32Async', 'uint64_t', 'unsigned int', 'size_t', 'void *')
  return {
    allocate: (bytes) => (allocate(out.clear(), positive(bytes)), out.handle(`cuMemAlloc_v2(${bytes})`)),
    free: (address) => free(pointer(address)),
    memoryInfo: () => {
      const total = new BigUint64Array(1)
      info(out.clear(), total)
      return { free: out.size(), total: Number(total[0]) }
    },
    allocateHost: (bytes, flags) => (
      allocateHost(out.clear(), positive(bytes), unsigned(flags)), out.handle(`cuMemHostAlloc(${bytes})`)
    ),
    freeHost: (address) => freeHost(pointer(address)),
    copyToDevice: (to, from, bytes, stream) => toDevice(pointer(to), pointer(from), count(bytes), pointer(stream)),
    copyToHost: (to, from, bytes, stream) => toHost(pointer(to), pointer(from), count(bytes), pointer(stream)),
    copyOnDevice: (to, from, bytes, stream) => onDevice(pointer(to), pointer(from), count(bytes), pointer(stream)),
    fill8: (to, value, bytes, stream) => fill8(pointer(to), unsigned(value) & 0xff, count(bytes), pointer(stream)),
    fill32: (to, value, words, stream) => fill32(pointer(to), unsigned(value), count(words), pointer(stream)),
  }
}
