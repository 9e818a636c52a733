// The reference device: storage in typed arrays, programs verified and interpreted at once, on the calling thread. It
// refuses every use of storage that was given back, and so finds the faults of those who hand it out.
import type { CompileOptions, Device, DeviceMemory, Executable, Storage } from '../device.ts'
import { type StorageArray, bytesOf, storageArray } from '../dtype.ts'
import { InternalError } from '../errors.ts'
import { decode, encode } from '../half.ts'
import { type Program, type TensorType, sameType, showProgram, showType } from '../program.ts'
import { sizeOf, zip } from '../shape.ts'
import { verifyProgram } from '../verify.ts'
import { interpret } from './interpreter.ts'
import type { ReferenceValue } from './value.ts'

/** A new reference device: always there, exact as can be, and slow. */
export function referenceDevice(): Device {
  return new ReferenceDevice()
}

/** What became of a storage: still its elements, or why they are gone. */
type Content = StorageArray | 'released' | 'donated'

class ReferenceStorage implements Storage {
  content: Content

  constructor(
    readonly device: ReferenceDevice,
    readonly type: TensorType,
    data: StorageArray,
  ) {
    this.content = data
  }

  get bytes(): number {
    return sizeOf(this.type.shape) * bytesOf(this.type.dtype)
  }
}

class ReferenceDevice implements Device {
  readonly name = 'reference'
  readonly description = 'reference interpreter: float64 in plain TypeScript, one thread'
  #inUse = 0
  #peak = 0
  #open = true

  details(): Readonly<Record<string, string>> {
    return {}
  }

  choices(): Readonly<Record<string, string>> {
    return {}
  }

  prefer(): void {
    // there is one way to interpret
  }

  watch(): void {
    // nothing is made ready
  }

  upload(data: StorageArray, type: TensorType): Storage {
    if (data.length !== sizeOf(type.shape) || data.constructor !== storageArray(type.dtype, 0).constructor)
      throw new InternalError(`upload of a ${data.constructor.name} with ${data.length} elements as ${showType(type)}`)
    return this.hold(data.slice(), type)
  }

  read(storage: Storage): Promise<StorageArray> {
    return new Promise((resolve) => resolve(this.readSync(storage)))
  }

  readSync(storage: Storage): StorageArray {
    return this.elements(storage, 'read').slice()
  }

  release(storage: Storage): void {
    if (this.#open) this.retire(storage, 'released')
  }

  compile(program: Program, options: CompileOptions): Executable {
    verifyProgram(program, `tracing ${options.label}`)
    return new ReferenceExecutable(this, program, options)
  }

  synchronize(): Promise<void> {
    return Promise.resolve()
  }

  memory(): DeviceMemory {
    return { inUse: this.#inUse, peak: this.#peak, cached: 0 }
  }

  close(): Promise<void> {
    this.#open = false
    return Promise.resolve()
  }

  /** Takes the array as a storage's elements, uncopied. */
  hold(data: StorageArray, type: TensorType): ReferenceStorage {
    this.assertOpen('upload')
    const storage = new ReferenceStorage(this, type, data)
    this.#inUse += storage.bytes
    this.#peak = Math.max(this.#peak, this.#inUse)
    return storage
  }

  /** The elements of a live storage of this device, uncopied. */
  elements(storage: Storage, use: string): StorageArray {
    this.assertOpen(use)
    const { content } = this.own(storage, use)
    if (typeof content === 'string')
      throw new InternalError(`${use} of a ${showType(storage.type)} that was ${content}`)
    return content
  }

  /** Gives up a live storage's elements. */
  retire(storage: Storage, why: 'released' | 'donated'): void {
    const mine = this.own(storage, why)
    if (typeof mine.content === 'string')
      throw new InternalError(`a ${showType(storage.type)} is ${why} after it was ${mine.content}`)
    mine.content = why
    this.#inUse -= mine.bytes
  }

  private own(storage: Storage, use: string): ReferenceStorage {
    if (!(storage instanceof ReferenceStorage) || storage.device !== this)
      throw new InternalError(
        `${use} of a ${showType(storage.type)} of the device ${storage.device.name} by another device`,
      )
    return storage
  }

  private assertOpen(use: string): void {
    if (!this.#open) throw new InternalError(`${use} on a reference device that was closed`)
  }
}

class ReferenceExecutable implements Executable {
  #released = false

  constructor(
    private readonly device: ReferenceDevice,
    private readonly program: Program,
    private readonly options: CompileOptions,
  ) {}

  run(inputs: readonly Storage[]): readonly Storage[] {
    const { label, donate } = this.options
    if (this.#released) throw new InternalError(`${label} runs after its executable was released`)
    const values = this.valuesOf(inputs)
    const donated = inputs.filter((_, index) => donate.includes(index))
    for (const storage of donated)
      if (inputs.indexOf(storage) !== inputs.lastIndexOf(storage))
        throw new InternalError(`${label} takes a donated ${showType(storage.type)} more than once`)
    const results = interpret(this.program, values)
    for (const storage of donated) this.device.retire(storage, 'donated')
    return results.map(({ type, data }) => this.device.hold(encode(type.dtype, data), type))
  }

  toString(): string {
    return showProgram(this.program)
  }

  release(): void {
    this.#released = true
  }

  private valuesOf(inputs: readonly Storage[]): ReferenceValue[] {
    const { label } = this.options
    if (inputs.length !== this.program.inputs.length)
      throw new InternalError(`${label} takes ${this.program.inputs.length} inputs, got ${inputs.length}`)
    return zip(this.program.inputs, inputs).map(([{ type }, storage], index) => {
      if (!sameType(type, storage.type))
        throw new InternalError(`${label} takes ${showType(type)} as input ${index}, got ${showType(storage.type)}`)
      return {
        type,
        data: new Float64Array(decode(type.dtype, this.device.elements(storage, `input ${index} of ${label}`))),
      }
    })
  }
}
