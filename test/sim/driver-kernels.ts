// Printed CUDA kernels through the simulated NVRTC and driver, call by call: what SimKernels runs in one library, here as
// modules, launches and copies.
import type { Kernel as FusedKernel } from '../../src/compile/index.ts'
import { cudaDialect, printKernel } from '../../src/compile/print/index.ts'
import type { Kernel } from '../../src/cuda/ffi/driver.ts'
import { type DevicePointer, offset } from '../../src/cuda/ffi/values.ts'
import { type StorageArray, bytesOf, storageArray } from '../../src/tensor/dtype.ts'
import { at } from '../../src/tensor/shape.ts'
import type { SimResult } from './kernels.ts'
import type { Simulation } from './library.ts'
import type { PlainDevice } from './plain-device.ts'

/** Runs fused kernels on a plain device; each source is compiled and loaded once. */
export class DriverKernels {
  readonly #loaded = new Map<string, Kernel>()

  constructor(
    private readonly sim: Simulation,
    private readonly device: PlainDevice,
    kernels: readonly FusedKernel[],
  ) {
    for (const kernel of kernels)
      for (const { source } of printKernel(kernel, cudaDialect).launches)
        if (!this.#loaded.has(source.name)) this.#loaded.set(source.name, device.load(source.text, source.name))
  }

  /** The results of a kernel, in the orders of a seed. Every array is an allocation of its own, freed in the end. */
  run(kernel: FusedKernel, inputs: readonly StorageArray[], outputs: readonly SimResult[], seed = 0): StorageArray[] {
    this.sim.seed(seed)
    const { driver, stream } = this.device
    const { launches, scratchBytes, counterBytes = 0 } = printKernel(kernel, cudaDialect)
    const results = outputs.map(({ dtype, count }) => storageArray(dtype, count))
    const operands = [
      ...inputs.map((array) => this.#upload(array)),
      ...outputs.map(({ dtype, count }) => driver.allocate(Math.max(1, count * bytesOf(dtype)))),
    ]
    const scratch = driver.allocate(Math.max(1, scratchBytes))
    const counters = driver.allocate(Math.max(1, counterBytes))
    driver.fill8(counters, 0, Math.max(1, counterBytes), stream)
    for (const { source, parts, pointers, numbers } of launches) {
      const addresses = pointers.map((pointer): DevicePointer => {
        if (pointer.kind === 'operand') return at(operands, pointer.index)
        return offset(pointer.kind === 'scratch' ? scratch : counters, pointer.offset)
      })
      const loaded = this.#loaded.get(source.name)
      if (loaded === undefined) throw new Error(`${source.name} is not loaded`)
      this.device.launch(loaded, { blocks: parts }, addresses, numbers)
    }
    driver.synchronizeStream(stream)
    results.forEach((array, i) => {
      this.#download(array, at(operands, inputs.length + i))
    })
    for (const address of [...operands, scratch, counters]) driver.free(address)
    return results
  }

  #upload(array: StorageArray): DevicePointer {
    const { driver, stream, pinned } = this.device
    const address = driver.allocate(Math.max(1, array.byteLength))
    if (array.byteLength === 0) return address
    const host = pinned(array.byteLength)
    host.bytes.set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength))
    driver.copyToDevice(address, host.address, array.byteLength, stream)
    driver.synchronizeStream(stream)
    driver.freeHost(host.address)
    return address
  }

  #download(array: StorageArray, from: DevicePointer): void {
    if (array.byteLength === 0) return
    const { driver, stream, pinned } = this.device
    const host = pinned(array.byteLength)
    driver.copyToHost(host.address, from, array.byteLength, stream)
    driver.synchronizeStream(stream)
    new Uint8Array(array.buffer, array.byteOffset, array.byteLength).set(host.bytes)
    driver.freeHost(host.address)
  }
}
