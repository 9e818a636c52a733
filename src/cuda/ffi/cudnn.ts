// Prototypes of cuDNN's backend (graph) API: descriptors made, filled, finalized and executed. What graphs are made of
// them, and which plan is taken, is the convolution's part.
import { InternalError } from '../../tensor/errors.ts'
import { attributeTypes, attributes, cudnnStatuses, descriptorTypes } from './cudnn-constants.ts'
import type { Stream } from './driver-queues.ts'
import type { NativeLibrary } from './loader.ts'
import { type Check, CudaError, checker, statusBinder } from './status.ts'
import type { Bytes, Handle, Out } from './values.ts'
import { count, outParameter, pointer, untilNul } from './values.ts'

/** A cudnnHandle_t. */
export type CudnnHandle = Handle<'cudnn'>
/** A cudnnBackendDescriptor_t. */
export type Descriptor = Handle<'cudnn descriptor'>

/** An attribute's name in the header, without CUDNN_ATTR_. */
export type AttributeName = keyof typeof attributes
/** An attribute's type in the header, without CUDNN_TYPE_. */
export type AttributeType = keyof typeof attributeTypes

/** cuDNN's calls. Every one throws a CudaError that names the call, the attribute, the status and cuDNN's own words. */
export interface Cudnn {
  /** 10000 * major + 100 * minor + patch. */
  version(): number
  /** The CUDA version it was built for, as 1000 * major + 10 * minor. */
  cudaVersion(): number
  /** Throws unless the named part is of the same version as the rest. */
  checkParts(): void
  create(): CudnnHandle
  destroy(handle: CudnnHandle): void
  setStream(handle: CudnnHandle, stream: Stream): void
  createDescriptor(type: keyof typeof descriptorTypes): Descriptor
  destroyDescriptor(descriptor: Descriptor): void
  /** `what` names the descriptor in the error. Status 3000 to 3999 means that nothing supports it: see `unsupported`. */
  finalize(descriptor: Descriptor, what: string): void
  /** `values` holds one or more elements of the type: Int32Array for enums, BigInt64Array for INT64, and so on. */
  setAttribute(descriptor: Descriptor, name: AttributeName, type: AttributeType, values: Bytes): void
  /** Reads into `values` (for descriptors, handles made before) and returns how many elements there are. */
  getAttribute(descriptor: Descriptor, name: AttributeName, type: AttributeType, values: Bytes): number
  /** How many elements an attribute has. */
  attributeCount(descriptor: Descriptor, name: AttributeName, type: AttributeType): number
  execute(handle: CudnnHandle, plan: Descriptor, variantPack: Descriptor): void
}

/** Whether an error says that cuDNN has nothing for this graph, rather than that something is wrong. */
export function unsupported(error: unknown): boolean {
  return error instanceof CudaError && error.library === 'cuDNN' && Math.trunc(error.status / 1000) === 3
}

/** Binds libcudnn. Nothing is called yet. */
export function bindCudnn(library: NativeLibrary): Cudnn {
  const name = library.func('cudnnGetErrorString', 'const char *', ['int'])
  const last = library.func('cudnnGetLastErrorString', 'void', ['void *', 'size_t'])
  const check = checker('cuDNN', (status) => {
    const buffer = new Uint8Array(4096)
    last(buffer, buffer.length)
    return { name: String(name(status)), text: untilNul(buffer).trim() }
  })
  const out = outParameter()
  return {
    ...bindVersions(library, check),
    ...bindHandles(library, check, out),
    ...bindDescriptors(library, check, out),
    ...bindAttributes(library, check),
  }
}

function bindVersions(library: NativeLibrary, check: Check): Pick<Cudnn, 'version' | 'cudaVersion' | 'checkParts'> {
  const bind = statusBinder(library, check)
  const version = library.func('cudnnGetVersion', 'size_t', [])
  const cudaVersion = library.func('cudnnGetCudartVersion', 'size_t', [])
  const parts = ['cudnnGraphVersionCheck', 'cudnnOpsVersionCheck', 'cudnnCnnVersionCheck'].map((part) => bind(part))
  return {
    version: () => Number(version()),
    cudaVersion: () => Number(cudaVersion()),
    checkParts: () => {
      for (const part of parts) part()
    },
  }
}

type Handles = 'create' | 'destroy' | 'setStream' | 'execute'

function bindHandles(library: NativeLibrary, check: Check, out: Out): Pick<Cudnn, Handles> {
  const bind = statusBinder(library, check)
  const create = bind('cudnnCreate', 'void *')
  const destroy = bind('cudnnDestroy', 'void *')
  const setStream = bind('cudnnSetStream', 'void *', 'void *')
  const execute = bind('cudnnBackendExecute', 'void *', 'void *', 'void *')
  return {
    create: () => (create(out.clear()), out.handle('cudnnCreate')),
    destroy: (handle) => destroy(pointer(handle)),
    setStream: (handle, stream) => setStream(pointer(handle), pointer(stream)),
    execute: (handle, plan, variantPack) => execute(pointer(handle), pointer(plan), pointer(variantPack)),
  }
}

type Descriptors = 'createDescriptor' | 'destroyDescriptor' | 'finalize'

function bindDescriptors(library: NativeLibrary, check: Check, out: Out): Pick<Cudnn, Descriptors> {
  const bind = statusBinder(library, check)
  const create = library.func('cudnnBackendCreateDescriptor', 'int', ['int', 'void *'])
  const destroy = bind('cudnnBackendDestroyDescriptor', 'void *')
  const finalize = library.func('cudnnBackendFinalize', 'int', ['void *'])
  return {
    createDescriptor: (type) => {
      const call = `cudnnBackendCreateDescriptor(${type})`
      check(create(descriptorTypes[type], out.clear()), call)
      return out.handle(call)
    },
    destroyDescriptor: (descriptor) => destroy(pointer(descriptor)),
    finalize: (descriptor, what) => check(finalize(pointer(descriptor)), `cudnnBackendFinalize(${what})`),
  }
}

type Attributes = 'setAttribute' | 'getAttribute' | 'attributeCount'

function bindAttributes(library: NativeLibrary, check: Check): Pick<Cudnn, Attributes> {
  const p = 'void *'
  const set = library.func('cudnnBackendSetAttribute', 'int', [p, 'int', 'int', 'int64_t', p])
  const get = library.func('cudnnBackendGetAttribute', 'int', [p, 'int', 'int', 'int64_t', p, p])
  const found = new BigInt64Array(1)
  return {
    setAttribute: (descriptor, name, type, values) => {
      const [number, length] = [attributeTypes[type][0], elements(name, type, values)]
      check(
        set(pointer(descriptor), attributes[name], number, length, values),
        `cudnnBackendSetAttribute(${name}, ${type})`,
      )
    },
    getAttribute: (descriptor, name, type, values) => {
      const [number, length] = [attributeTypes[type][0], elements(name, type, values)]
      found[0] = 0n
      check(
        get(pointer(descriptor), attributes[name], number, length, found, values),
        `cudnnBackendGetAttribute(${name}, ${type})`,
      )
      return count(Number(found[0]))
    },
    attributeCount: (descriptor, name, type) => {
      found[0] = 0n
      const status = get(pointer(descriptor), attributes[name], attributeTypes[type][0], 0, found, null)
      check(status, `cudnnBackendGetAttribute(${name}, ${type})`)
      return count(Number(found[0]))
    },
  }
}

/** How many elements an array holds; it must be made of elements as wide as the type's, and not be empty. */
function elements(name: AttributeName, type: AttributeType, values: Bytes): number {
  if (!ArrayBuffer.isView(values) || values.BYTES_PER_ELEMENT !== attributeTypes[type][1] || values.length === 0)
    throw new InternalError(`${name} takes elements of ${attributeTypes[type][1]} bytes (${type}), at least one`)
  return values.length
}

/** The statuses that say cuDNN's parts do not fit each other. */
export function mismatched(error: unknown): boolean {
  if (!(error instanceof CudaError) || error.library !== 'cuDNN') return false
  return (
    error.status === cudnnStatuses.SUBLIBRARY_VERSION_MISMATCH ||
    error.status === cudnnStatuses.SUBLIBRARY_LOADING_FAILED
  )
}
