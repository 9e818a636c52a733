// Numbers that are zero between the kernels of a stream: by them the blocks of one launch know which of them is the last.
// Each kernel leaves zeros behind, so that they are cleared once.
import type { Driver } from '../ffi/driver.ts'
import type { DevicePointer } from '../ffi/values.ts'
import type { Allocator, Block } from './allocator.ts'
import type { Queue } from './queue.ts'

/** Bytes that are taken at first: enough for most programs, so that the place seldom changes. */
const firstBytes = 1 << 16

/** The counters of a device; all its programs share them, since only one of them runs at a time. */
export class Counters {
  #block: Block | undefined

  constructor(
    private readonly driver: Driver,
    private readonly queue: Queue,
    private readonly memory: Allocator,
  ) {}

  /** Where at least so many bytes of zeros are, for what is enqueued from here on. */
  address(bytes: number): DevicePointer {
    if (this.#block !== undefined && this.#block.bytes >= bytes) return this.#block.address
    const block = this.memory.allocate(Math.max(firstBytes, bytes))
    try {
      this.queue.submit('counters', (stream) => this.driver.fill8(block.address, 0, block.bytes, stream))
    } catch (error) {
      block.release()
      throw error
    }
    this.#block?.release()
    this.#block = block
    return block.address
  }
}
