// What the tuner needs of a device: memory, a way to put a lowered step on a stream, and a clock. runtime-bench.ts makes
// it of a GPU in use; tests make it of nothing.
import type { DevicePointer } from '../ffi/values.ts'
import type { Lowered } from '../work.ts'

/** A batch of work that can be run again and again. */
export interface Recording {
  /** Runs the batch once, waits for it, and gives the microseconds it took on the device. */
  time(): number
  release(): void
}

/** Runs and times what is put on its stream. */
export interface Clock {
  /** Puts work on the stream and waits for it. Throws what the work, or a kernel of it, failed with. */
  run(work: () => void): void
  /** Records a batch as a step of a program is recorded. Throws where the work cannot be. */
  record(work: () => void): Recording
}

/** A lowered step with its operands. */
export interface Bound {
  /** Puts it on the clock's stream. */
  enqueue(): void
  release(): void
}

/** Where candidates are tried. Addresses are at multiples of 256 bytes; every call but `Bound.enqueue` waits for its work. */
export interface Bench {
  readonly clock: Clock
  /** Bytes that could be allocated now. */
  available(): number
  /** Throws a PullbackError 'out-of-memory' where there is not enough. */
  allocate(bytes: number): DevicePointer
  free(address: DevicePointer): void
  write(to: DevicePointer, data: Uint8Array): void
  read(from: DevicePointer, bytes: number): Uint8Array
  copy(to: DevicePointer, from: DevicePointer, bytes: number): void
  fill(to: DevicePointer, value: number, bytes: number): void
  bind(lowered: Lowered, operands: readonly DevicePointer[], scratch: DevicePointer | undefined): Bound
}
