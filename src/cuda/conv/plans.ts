// Execution plans: made from a configuration or from a plan's own JSON, asked for their workspace, executed through a
// variant pack. Which plans are made is candidates.ts's part.
import { InternalError } from '../../tensor/errors.ts'
import { range } from '../../tensor/shape.ts'
import type { Cudnn, Descriptor } from '../ffi/cudnn.ts'
import type { Stream } from '../ffi/driver-queues.ts'
import type { DevicePointer } from '../ffi/values.ts'
import { untilNul } from '../ffi/values.ts'
import { type DescriptorScope, addresses, descriptors, integers, scoped } from './descriptors.ts'
import { type EngineConfiguration, describe } from './engines.ts'
import type { CudnnSession } from './session.ts'

/** A finalized plan. */
export interface ExecutionPlan {
  readonly descriptor: Descriptor
  readonly configuration: EngineConfiguration
  readonly workspaceBytes: number
  /** What it can be made from again: 2 KB, or 200 KB with a kernel that was compiled for it. */
  readonly json: string
  release(): void
}

/** Finalizes a configuration for the session's device: where an engine compiles its kernel, this takes a second. */
export function planFromConfiguration(
  session: CudnnSession,
  configuration: Descriptor,
  said: EngineConfiguration,
): ExecutionPlan {
  return scoped(session.cudnn, (scope) => {
    const descriptor = scope.make('EXECUTION_PLAN', `plan of engine ${said.engine}`, {
      ...session.attributes.plan,
      EXECUTION_PLAN_ENGINE_CONFIG: descriptors(configuration),
    })
    return finished(scope, descriptor, said, jsonOf(session.cudnn, descriptor))
  })
}

/** Makes a plan again from its JSON. Throws CudaError for one of another cuDNN or another GPU. */
export function planFromJson(session: CudnnSession, json: string): ExecutionPlan {
  const { cudnn } = session
  return scoped(cudnn, (scope) => {
    const descriptor = scope.make('EXECUTION_PLAN', 'plan from JSON', {
      ...session.attributes.plan,
      EXECUTION_PLAN_JSON_REPRESENTATION: { type: 'CHAR', values: new TextEncoder().encode(json) },
    })
    const configuration = scope.empty('ENGINECFG')
    const { type, values } = descriptors(configuration)
    cudnn.getAttribute(descriptor, 'EXECUTION_PLAN_ENGINE_CONFIG', type, values)
    return finished(scope, descriptor, describe(cudnn, configuration), json)
  })
}

/** Puts executions of a plan on streams. The variant pack is kept while the addresses stay the same. */
export class PlanRunner {
  readonly #session: CudnnSession
  readonly #plan: ExecutionPlan
  readonly #operands: number
  #addresses: readonly (DevicePointer | undefined)[] = []
  #pack: { readonly scope: DescriptorScope; readonly descriptor: Descriptor } | undefined

  /** @param operands How many tensors the graph has in memory; their identifiers are 1, 2, ... */
  constructor(session: CudnnSession, plan: ExecutionPlan, operands: number) {
    this.#session = session
    this.#plan = plan
    this.#operands = operands
  }

  /** Enqueues the plan; legal while the stream is captured. */
  enqueue(stream: Stream, operands: readonly DevicePointer[], scratch: DevicePointer | undefined): void {
    const { cudnn, handle } = this.#session
    const { descriptor, workspaceBytes } = this.#plan
    if (handle === undefined) throw new InternalError('a cuDNN plan was made for a GPU that is not there, and executed')
    if (operands.length !== this.#operands || (scratch === undefined) !== (workspaceBytes === 0))
      throw new InternalError(`a cuDNN plan of ${this.#operands} operands and ${workspaceBytes} bytes got others`)
    const pack = this.#packFor([...operands, scratch])
    cudnn.setStream(handle, stream)
    cudnn.execute(handle, descriptor, pack)
  }

  release(): void {
    const pack = this.#pack
    this.#pack = undefined
    pack?.scope.release()
  }

  /** A finalized pack cannot be filled again, so another set of addresses takes another pack. */
  #packFor(wanted: readonly (DevicePointer | undefined)[]): Descriptor {
    if (this.#pack !== undefined && wanted.every((address, index) => address === this.#addresses[index]))
      return this.#pack.descriptor
    this.release()
    this.#pack = scoped(this.#session.cudnn, (scope) => ({
      scope,
      descriptor: scope.make('VARIANT_PACK', 'variant pack', {
        VARIANT_PACK_UNIQUE_IDS: integers(range(this.#operands).map((index) => index + 1)),
        VARIANT_PACK_DATA_POINTERS: addresses(wanted.slice(0, -1)),
        VARIANT_PACK_WORKSPACE: addresses(wanted.slice(-1)),
      }),
    }))
    this.#addresses = wanted
    return this.#pack.descriptor
  }
}

function finished(
  scope: DescriptorScope,
  descriptor: Descriptor,
  configuration: EngineConfiguration,
  json: string,
): ExecutionPlan {
  const bytes = new BigInt64Array(1)
  scope.cudnn.getAttribute(descriptor, 'EXECUTION_PLAN_WORKSPACE_SIZE', 'INT64', bytes)
  return { descriptor, configuration, workspaceBytes: Number(bytes[0]), json, release: () => scope.release() }
}

function jsonOf(cudnn: Cudnn, plan: Descriptor): string {
  const bytes = new Uint8Array(cudnn.attributeCount(plan, 'EXECUTION_PLAN_JSON_REPRESENTATION', 'CHAR'))
  cudnn.getAttribute(plan, 'EXECUTION_PLAN_JSON_REPRESENTATION', 'CHAR', bytes)
  return untilNul(bytes)
}
