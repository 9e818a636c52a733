// Backend descriptors made in one call: created, filled, finalized, and owned by a scope that destroys them. Which ones are
// made, and how they hang together, is graph.ts's and engines.ts's part.
import type { AttributeName, AttributeType, Cudnn, Descriptor } from '../ffi/cudnn.ts'
import { dataTypes, type descriptorTypes } from '../ffi/cudnn-constants.ts'
import type { Bytes } from '../ffi/values.ts'
import type { ConvDType } from './problem.ts'

/** The name of a kind of descriptor. */
export type DescriptorType = keyof typeof descriptorTypes

/** A value of an attribute, with its type in cuDNN's words. */
export interface AttributeValue {
  readonly type: AttributeType
  readonly values: Bytes
}

/** Attributes in the order in which they are set. */
export type Attributes = Readonly<Partial<Record<AttributeName, AttributeValue>>>

/** 64-bit integers: extents, strides, identifiers. */
export function integers(values: readonly number[]): AttributeValue {
  return { type: 'INT64', values: BigInt64Array.from(values, BigInt) }
}

/** One value of an enumeration. */
export function choice(type: AttributeType, value: number): AttributeValue {
  return { type, values: Int32Array.of(value) }
}

/** An element type. */
export function dataType(dtype: ConvDType): AttributeValue {
  const types = { f16: dataTypes.HALF, bf16: dataTypes.BFLOAT16, f32: dataTypes.FLOAT }
  return choice('DATA_TYPE', types[dtype])
}

/** One f32. */
export function float(value: number): AttributeValue {
  return { type: 'FLOAT', values: Float32Array.of(value) }
}

/** A flag that is set. */
export const yes: AttributeValue = { type: 'BOOLEAN', values: Uint8Array.of(1) }

/** Other descriptors. */
export function descriptors(...values: readonly Descriptor[]): AttributeValue {
  return { type: 'BACKEND_DESCRIPTOR', values: BigUint64Array.from(values) }
}

/** Addresses in device memory; absent ones are null. */
export function addresses(values: readonly (bigint | undefined)[]): AttributeValue {
  return { type: 'VOID_PTR', values: BigUint64Array.from(values, (value) => value ?? 0n) }
}

/** Text with its final NUL. */
export function characters(text: string): AttributeValue {
  return { type: 'CHAR', values: new TextEncoder().encode(`${text}\0`) }
}

/** Owns descriptors: what is made here is destroyed by `release`, the last one first. */
export class DescriptorScope {
  readonly cudnn: Cudnn
  readonly #owned: Descriptor[] = []

  constructor(cudnn: Cudnn) {
    this.cudnn = cudnn
  }

  /** An empty descriptor, to be filled by a query. */
  empty(type: DescriptorType): Descriptor {
    const descriptor = this.cudnn.createDescriptor(type)
    this.#owned.push(descriptor)
    return descriptor
  }

  /** A finalized descriptor with these attributes; `what` names it in errors. Throws CudaError where cuDNN refuses. */
  make(type: DescriptorType, what: string, attributes: Attributes): Descriptor {
    const descriptor = this.empty(type)
    for (const [name, { type: of, values }] of Object.entries(attributes))
      this.cudnn.setAttribute(descriptor, name as AttributeName, of, values)
    this.cudnn.finalize(descriptor, what)
    return descriptor
  }

  /** Destroys everything made here, the last one first. A second call does nothing. */
  release(): void {
    const owned = this.#owned.splice(0).reverse()
    releaseAll(owned.map((descriptor) => () => this.cudnn.destroyDescriptor(descriptor)))
  }
}

/** Calls all of them, also after one that fails, and throws the first failure. */
export function releaseAll(releases: readonly (() => void)[]): void {
  const failures: unknown[] = []
  for (const release of releases) {
    try {
      release()
    } catch (error) {
      failures.push(error)
    }
  }
  if (failures.length > 0) throw failures[0]
}

/** Gives `action` a scope, which outlives it if it succeeds: the result owns it then. */
export function scoped<T>(cudnn: Cudnn, action: (scope: DescriptorScope) => T): T {
  const scope = new DescriptorScope(cudnn)
  try {
    return action(scope)
  } catch (error) {
    try {
      scope.release()
    } catch {
      // The error that led here says more.
    }
    throw error
  }
}

/** Counts the users of a scope: each call is one more, until it calls what it got; the last one releases the scope. */
export function sharedScope(scope: DescriptorScope): () => () => void {
  const users = new Set<symbol>()
  return () => {
    const user = Symbol('user')
    users.add(user)
    return () => {
      if (users.delete(user) && users.size === 0) scope.release()
    }
  }
}
