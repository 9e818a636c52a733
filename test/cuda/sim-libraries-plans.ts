// Plans of the simulated cuDNN for the steps of a sequence, one an engine, and their execution: what the tests of its engines
// share. Graphs come from sequences/.
import type { AttributeName, Descriptor } from '../../src/cuda/ffi/cudnn.ts'
import { range } from '../../src/tensor/shape.ts'
import type { LibraryGpu } from '../sim/cudnn-gpu.ts'
import { planned } from './sequences/graphs.ts'
import { type Step, assemble, statusOf } from './sequences/sequence.ts'

/** A plan of an engine for operations, for the device of the handle, and what it was made with. */
export interface Planned {
  readonly plan: Descriptor
  readonly workspace: number
  release(): void
}

/** The engines that heuristics propose, in order, each once. */
export function plansOf(
  gpu: LibraryGpu,
  steps: readonly Step[],
  operations: readonly string[],
  mode = 3,
): ReadonlyMap<number, Planned> {
  const { cudnn } = gpu
  const made = assemble(cudnn, [...steps, ...planned(operations, mode).slice(0, -1)])
  const named = (name: string): Descriptor => made.get(name) ?? (0n as Descriptor)
  const found = cudnn.attributeCount(named('heuristics'), 'ENGINEHEUR_RESULTS', 'BACKEND_DESCRIPTOR')
  if (found === 0) {
    for (const descriptor of made.values()) cudnn.destroyDescriptor(descriptor)
    return new Map()
  }
  const configurations = range(found).map(() => cudnn.createDescriptor('ENGINECFG'))
  cudnn.getAttribute(
    named('heuristics'),
    'ENGINEHEUR_RESULTS',
    'BACKEND_DESCRIPTOR',
    BigInt64Array.from(configurations),
  )
  const plans = new Map<number, Planned>()
  for (const configuration of configurations) {
    const number = engineNumber(gpu, configuration)
    const plan = plans.has(number) ? undefined : planOf(gpu, configuration, named('device'))
    if (plan !== undefined) plans.set(number, plan)
    cudnn.destroyDescriptor(configuration)
  }
  for (const descriptor of made.values()) cudnn.destroyDescriptor(descriptor)
  return plans
}

function engineNumber(gpu: LibraryGpu, configuration: Descriptor): number {
  const engine = gpu.cudnn.createDescriptor('ENGINE')
  const number = new BigInt64Array(1)
  gpu.cudnn.getAttribute(configuration, 'ENGINECFG_ENGINE', 'BACKEND_DESCRIPTOR', BigInt64Array.of(engine))
  gpu.cudnn.getAttribute(engine, 'ENGINE_GLOBAL_INDEX', 'INT64', number)
  gpu.cudnn.destroyDescriptor(engine)
  return Number(number[0])
}

function planOf(gpu: LibraryGpu, configuration: Descriptor, properties: Descriptor): Planned | undefined {
  const { cudnn } = gpu
  const plan = cudnn.createDescriptor('EXECUTION_PLAN')
  cudnn.setAttribute(plan, 'EXECUTION_PLAN_ENGINE_CONFIG', 'BACKEND_DESCRIPTOR', BigInt64Array.of(configuration))
  cudnn.setAttribute(plan, 'EXECUTION_PLAN_DEVICEPROP', 'BACKEND_DESCRIPTOR', BigInt64Array.of(properties))
  if (statusOf(() => cudnn.finalize(plan, 'plan')) !== 0) {
    cudnn.destroyDescriptor(plan)
    return undefined
  }
  const bytes = new BigInt64Array(1)
  cudnn.getAttribute(plan, 'EXECUTION_PLAN_WORKSPACE_SIZE', 'INT64', bytes)
  return { plan, workspace: Number(bytes[0]), release: () => cudnn.destroyDescriptor(plan) }
}

/** Executes a plan; identifiers and addresses in order. */
export function execute(
  gpu: LibraryGpu,
  { plan }: Planned,
  ids: readonly number[],
  addresses: readonly bigint[],
  workspace = 0n,
): void {
  const { cudnn, cudnnHandle, stream } = gpu
  const pack = cudnn.createDescriptor('VARIANT_PACK')
  try {
    const set = (name: AttributeName, type: 'INT64' | 'VOID_PTR', values: readonly bigint[]) =>
      cudnn.setAttribute(pack, name, type, BigInt64Array.from(values))
    set('VARIANT_PACK_UNIQUE_IDS', 'INT64', ids.map(BigInt))
    set('VARIANT_PACK_DATA_POINTERS', 'VOID_PTR', addresses)
    set('VARIANT_PACK_WORKSPACE', 'VOID_PTR', [workspace])
    cudnn.finalize(pack, 'pack')
    cudnn.setStream(cudnnHandle, stream)
    cudnn.execute(cudnnHandle, plan, pack)
  } finally {
    cudnn.destroyDescriptor(pack)
  }
}
