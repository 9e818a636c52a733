// The immutable Tensor: a type and where its value is (a device's storage, a scalar literal, or a trace). Reading and
// disposing live here; operations are free functions in ops/.
import type { Storage } from './device.ts'
import type { DType, StorageArray } from './dtype.ts'
import { DisposedError, InternalError, ShapeError, TraceError } from './errors.ts'
import { formatTensor } from './format.ts'
import { decode, encode } from './half.ts'
import { type Ownership, noteTensors } from './lifetime.ts'
import { type TensorType, type Var, showType } from './program.ts'
import { type Shape, sizeOf } from './shape.ts'

/** What a traced tensor knows of the trace that made it. */
export interface TraceScope {
  readonly label: string
  readonly open: boolean
}

/**
 * Where a tensor's value is.
 *
 * @internal
 */
export type Payload =
  | Ownership
  | { readonly kind: 'literal'; readonly value: number }
  | { readonly kind: 'traced'; readonly scope: TraceScope; readonly variable: Var }
  | Gone

/** A value that was given up, and where. */
interface Gone {
  readonly kind: 'gone'
  readonly code: 'disposed' | 'donated'
  readonly where: Error
}

/** The arrays `data()` gives: 16-bit floats come as Float32Array. */
export type DataArray = Float32Array | Float64Array | Int32Array | Uint8Array

/**
 * An immutable, dense, row-major array on a device.
 *
 * Tensors are values: no operation changes its arguments. Device memory is freed when the tensor is disposed, when the
 * enclosing `scope` ends, or after garbage collection.
 */
export class Tensor {
  readonly shape: Shape
  readonly dtype: DType
  #payload: Payload

  /**
   * Made by operations; use `tensor(...)`, `zeros(...)` and friends.
   *
   * @internal
   */
  constructor(type: TensorType, payload: Payload) {
    this.shape = type.shape
    this.dtype = type.dtype
    this.#payload = payload
  }

  /** The number of elements. */
  get size(): number {
    return sizeOf(this.shape)
  }

  /** Where the elements are: a device's name, `literal`, or `traced`. */
  get device(): string {
    const payload = this.#payload
    return payload.kind === 'stored' ? payload.storage.device.name : payload.kind
  }

  /**
   * The elements in row-major order: f32, f16 and bf16 as Float32Array, f64 as Float64Array, i32 as Int32Array, u8 and
   * bool as Uint8Array. Waits for the device; throws a TraceError inside `jit`, `grad` and other transformations.
   */
  async data(): Promise<DataArray> {
    return decode(this.dtype, await this.bits())
  }

  /** The elements as stored: f16 and bf16 as the bit patterns in a Uint16Array. */
  async bits(): Promise<StorageArray> {
    const payload = this.live('data()')
    switch (payload.kind) {
      case 'literal':
        return encode(this.dtype, [payload.value])
      case 'stored':
        return payload.storage.device.read(payload.storage)
      case 'traced':
        throw unreadable('data()', this)
      default:
        return payload satisfies never
    }
  }

  /** The only element as a number (bool as 0 or 1); throws if there is not exactly one. */
  async item(): Promise<number> {
    if (this.live('item()').kind === 'traced') throw unreadable('item()', this)
    if (this.size !== 1)
      throw new ShapeError(`[item] expected a tensor with one element, got ${showType(this)}. Use data().`)
    const [value] = await this.data()
    return value ?? Number.NaN
  }

  /** Frees the device memory now; later use throws a DisposedError that says where this happened. */
  dispose(): void {
    const ownership = this.giveUp({ kind: 'gone', code: 'disposed', where: new Error('disposed') })
    if (ownership === undefined) return
    const { storage } = ownership
    ownership.end()
    noteTensors([], [this])
    storage.device.release(storage)
  }

  /** What `using` calls: `dispose()`. */
  [Symbol.dispose](): void {
    this.dispose()
  }

  /** Values (summarised), shape, dtype and device as text. */
  toString(): string {
    return formatTensor(this, this.#payload)
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return this.toString()
  }

  /** A tensor has no truth value or number of its own: conditions on traced values would be frozen into the program. */
  [Symbol.toPrimitive](hint: string): string {
    if (hint === 'string') return this.toString()
    throw new TraceError(
      `[${hint}] a Tensor (${showType(this)}) is not a number. Use where(...) in traced code, or await item() outside of it.`,
    )
  }

  /** @internal Where the value is; throws if it was disposed, donated, or belongs to a trace that has ended. */
  live(use: string): Exclude<Payload, { kind: 'gone' }> {
    const payload = this.#payload
    if (payload.kind === 'gone')
      throw new DisposedError(
        payload.code,
        `[${use}] this ${showType(this)} was ${payload.code} ${origin(payload.where)}. Keep a copy, or do not ${payload.code === 'donated' ? 'donate' : 'dispose'} it.`,
      )
    if (payload.kind === 'traced' && !payload.scope.open)
      throw new TraceError(
        `[${use}] this ${showType(this)} was traced by ${payload.scope.label}, which has ended. Return it from the traced function instead of keeping it outside.`,
      )
    return payload
  }

  /** @internal Gives up the value: who gets the ownership of its storage decides about both. undefined if it had none. */
  giveUp(gone: Gone): Ownership | undefined {
    const payload = this.#payload
    if (payload.kind === 'traced')
      throw new TraceError(
        `[dispose] a traced ${showType(this)} has no memory to free. Remove the dispose() from the traced function.`,
      )
    if (payload.kind !== 'stored') return undefined
    this.#payload = gone
    return payload
  }
}

/** The storage of a concrete tensor. */
export function storageOf(tensor: Tensor, use: string): Storage {
  const payload = tensor.live(use)
  if (payload.kind !== 'stored') throw new InternalError(`${use} of a ${payload.kind} tensor`)
  return payload.storage
}

function unreadable(use: string, tensor: Tensor): TraceError {
  return new TraceError(
    `[${use}] this ${showType(tensor)} is being traced and has no value yet. Return it and read it outside, or use where(...) for a condition.`,
  )
}

/** The first stack frame outside the library, as `at file:line`. */
export function origin(error: Error): string {
  const frames = (error.stack ?? '')
    .split('\n')
    .slice(1)
    .map((line) => line.trim())
  const outside = frames.find(
    (line) =>
      !/[/\\](src|dist)[/\\](tensor|autograd|compile|cpu|cuda|nn|train|reference)[/\\]/.test(line) &&
      !line.includes('node:'),
  )
  return outside ?? frames[0] ?? 'at an unknown place'
}
