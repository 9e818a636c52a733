// Where cuDNN plans are made for: the GPU of the current context, by a handle, or a GPU known only by its properties.
import type { Cudnn, CudnnHandle } from '../ffi/cudnn.ts'
import { type AttributeValue, type Attributes, characters, descriptors, scoped } from './descriptors.ts'

/** A bound cuDNN and the device it plans for. */
export interface CudnnSession {
  readonly cudnn: Cudnn
  /** What plans are executed on; undefined where they can only be made. */
  readonly handle: CudnnHandle | undefined
  /** What operation graphs, heuristics and plans are told about the device. */
  readonly attributes: { readonly graph: Attributes; readonly heuristics: Attributes; readonly plan: Attributes }
  /** Destroys the properties, where the session has made them; plans must be released before. */
  release(): void
}

/** A session on a device in use, with its handle, which stays the device's. */
export function deviceSession(cudnn: Cudnn, handle: CudnnHandle): CudnnSession {
  const value: AttributeValue = { type: 'HANDLE', values: BigUint64Array.of(handle) }
  return {
    cudnn,
    handle,
    attributes: {
      graph: { OPERATIONGRAPH_HANDLE: value },
      heuristics: {},
      plan: { EXECUTION_PLAN_HANDLE: value },
    },
    release: () => undefined,
  }
}

/**
 * A session that makes plans for a device that is not there and executes none.
 *
 * @param properties JSON as CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION takes it (cuDNN 9.8 and newer).
 */
export function propertiesSession(cudnn: Cudnn, properties: string): CudnnSession {
  return scoped(cudnn, (scope) => {
    const json = characters(properties.trim())
    const device = descriptors(scope.make('DEVICEPROP', 'device properties', { DEVICEPROP_JSON_REPRESENTATION: json }))
    return {
      cudnn,
      handle: undefined,
      attributes: {
        graph: {},
        heuristics: { ENGINEHEUR_DEVICEPROP: device },
        plan: { EXECUTION_PLAN_DEVICEPROP: device },
      },
      release: () => scope.release(),
    }
  })
}
