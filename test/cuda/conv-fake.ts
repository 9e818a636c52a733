// A cuDNN that keeps descriptors as records and proposes the engines that a test gives it: what the bindings would have
// passed on can be looked at, any call can fail, and what is not destroyed shows.
import type { AttributeName, Cudnn, CudnnHandle, Descriptor } from '../../src/cuda/ffi/cudnn.ts'
import {
  behaviorNotes,
  type descriptorTypes,
  heuristicModes,
  numericalNotes,
} from '../../src/cuda/ffi/cudnn-constants.ts'
import { CudaError } from '../../src/cuda/ffi/status.ts'
import type { Bytes } from '../../src/cuda/ffi/values.ts'

/** An engine configuration that the fake proposes. */
export interface FakeEngine {
  readonly engine: number
  readonly knobs?: readonly (readonly [number, number])[]
  readonly numerical?: readonly (keyof typeof numericalNotes)[]
  readonly behavior?: readonly (keyof typeof behaviorNotes)[]
  readonly workspace?: number
  /** The status with which its plan is refused. */
  readonly status?: number
}

/** What is proposed by mode; nothing for a mode that is left out. */
export type FakeEngines = Partial<Record<keyof typeof heuristicModes, readonly FakeEngine[]>>

/** A descriptor as the fake keeps it. */
export interface FakeDescriptor {
  readonly type: keyof typeof descriptorTypes
  readonly attributes: Map<AttributeName, readonly (number | bigint)[]>
  finalized: boolean
  engine?: FakeEngine
  knob?: readonly [number, number]
}

/** The handle of a fake cuDNN. */
export const fakeHandle = 0x77n as CudnnHandle

/** One execution. */
export interface FakeExecution {
  readonly stream: bigint
  readonly engine: number
  readonly pointers: readonly (number | bigint)[]
  readonly uids: readonly (number | bigint)[]
  readonly workspace: number | bigint | undefined
}

export function fakeCudnn(engines: FakeEngines, { version = 92_400, failing = -1, failure = 4000 } = {}) {
  const live = new Map<Descriptor, FakeDescriptor>()
  const made: FakeDescriptor[] = []
  const executions: FakeExecution[] = []
  const calls: string[] = []
  let [handles, next, stream] = [0, 0x1000n, 0n]
  const fail = (call: string, status: number): never => {
    throw new CudaError('cuDNN', call, status, { name: `CUDNN_STATUS_${status}`, text: 'as the test says' })
  }
  const count = (call: string): void => {
    if (calls.push(call) - 1 === failing) fail(call, failure)
  }
  const look = (descriptor: Descriptor): FakeDescriptor => live.get(descriptor) ?? fail('a destroyed descriptor', 2000)
  const linked = (descriptor: FakeDescriptor, name: AttributeName): FakeDescriptor =>
    look((descriptor.attributes.get(name)?.[0] ?? 0n) as Descriptor)
  const text = (descriptor: FakeDescriptor, name: AttributeName): string =>
    String.fromCharCode(...(descriptor.attributes.get(name) ?? []).map(Number))

  /** What cuDNN gives for an attribute: elements, or one function for each descriptor to fill. */
  const answer = (
    from: FakeDescriptor,
    name: AttributeName,
  ): readonly (number | bigint | ((to: FakeDescriptor) => void))[] => {
    const engine = from.engine ?? { engine: -1 }
    switch (name) {
      case 'ENGINEHEUR_RESULTS': {
        const mode = from.attributes.get('ENGINEHEUR_MODE')?.[0]
        const [key] = Object.entries(heuristicModes).find(([, value]) => value === mode) ?? []
        return (engines[key as keyof FakeEngines] ?? []).map((found) => (to) => void (to.engine = found))
      }
      case 'ENGINECFG_ENGINE':
      case 'EXECUTION_PLAN_ENGINE_CONFIG':
        return [(to) => void (to.engine = engine)]
      case 'ENGINECFG_KNOB_CHOICES':
        return (engine.knobs ?? []).map((knob) => (to) => void (to.knob = knob))
      case 'KNOB_CHOICE_KNOB_TYPE':
        return [from.knob?.[0] ?? -1]
      case 'KNOB_CHOICE_KNOB_VALUE':
        return [BigInt(from.knob?.[1] ?? -1)]
      case 'ENGINE_GLOBAL_INDEX':
        return [BigInt(engine.engine)]
      case 'ENGINE_NUMERICAL_NOTE':
        return (engine.numerical ?? []).map((note) => numericalNotes[note])
      case 'ENGINE_BEHAVIOR_NOTE':
        return (engine.behavior ?? []).map((note) => behaviorNotes[note])
      case 'EXECUTION_PLAN_WORKSPACE_SIZE':
        return [BigInt(engine.workspace ?? 0)]
      case 'EXECUTION_PLAN_JSON_REPRESENTATION':
        return [...new TextEncoder().encode(JSON.stringify({ version, engine }))]
      default:
        return fail(`an attribute the fake does not know: ${name}`, 2000)
    }
  }

  const cudnn: Cudnn = {
    version: () => version,
    cudaVersion: () => 13_000,
    checkParts: () => {},
    create: () => (count('create'), handles++, fakeHandle),
    destroy: () => {
      handles--
      count('destroy a handle')
    },
    setStream: (_, to) => {
      count('setStream')
      stream = to
    },
    createDescriptor: (type) => {
      count(`create ${type}`)
      const descriptor = (next += 0x10n) as Descriptor
      const record: FakeDescriptor = { type, attributes: new Map(), finalized: false }
      live.set(descriptor, record)
      made.push(record)
      return descriptor
    },
    destroyDescriptor: (descriptor) => {
      if (!live.delete(descriptor)) fail('destroyed twice', 2000)
      count('destroy')
    },
    finalize: (descriptor, what) => {
      count(`finalize ${what}`)
      const record = look(descriptor)
      if (record.finalized) fail('finalized twice', 2000)
      if (record.type === 'ENGINEHEUR' && answer(record, 'ENGINEHEUR_RESULTS').length === 0) fail(what, 3000)
      if (record.type === 'EXECUTION_PLAN') {
        if (record.attributes.has('EXECUTION_PLAN_JSON_REPRESENTATION')) {
          const json = JSON.parse(text(record, 'EXECUTION_PLAN_JSON_REPRESENTATION')) as {
            readonly version: number
            readonly engine: FakeEngine
          }
          if (json.version !== version) fail(what, 1002)
          record.engine = json.engine
        } else record.engine = linked(record, 'EXECUTION_PLAN_ENGINE_CONFIG').engine ?? fail(what, 2000)
        if (record.engine.status !== undefined) fail(what, record.engine.status)
      }
      record.finalized = true
    },
    setAttribute: (descriptor, name, _, values) => {
      count(`set ${name}`)
      const record = look(descriptor)
      if (record.finalized) fail(`set ${name} of a finalized descriptor`, 2000)
      record.attributes.set(name, [...(values as Iterable<number | bigint>)])
    },
    getAttribute: (descriptor, name, _, values) => {
      count(`get ${name}`)
      const found = answer(look(descriptor), name).slice(0, values.length)
      for (const [index, element] of found.entries())
        if (typeof element === 'function') element(look((values as BigUint64Array)[index] as Descriptor))
        else write(values, index, element)
      return found.length
    },
    // As the real one: for the results of heuristics an upper bound.
    attributeCount: (descriptor, name) => {
      count(`count ${name}`)
      return answer(look(descriptor), name).length + (name === 'ENGINEHEUR_RESULTS' ? 2 : 0)
    },
    execute: (_, plan, pack) => {
      count('execute')
      const { attributes, finalized } = look(pack)
      if (!finalized || !look(plan).finalized) fail('execute', 2004)
      executions.push({
        stream,
        engine: look(plan).engine?.engine ?? -1,
        uids: attributes.get('VARIANT_PACK_UNIQUE_IDS') ?? [],
        pointers: attributes.get('VARIANT_PACK_DATA_POINTERS') ?? [],
        workspace: attributes.get('VARIANT_PACK_WORKSPACE')?.[0],
      })
    },
  }
  return {
    cudnn,
    /** Every descriptor that was ever made, in order. */
    made,
    executions,
    /** How many descriptors and handles are not destroyed. */
    alive: () => live.size + handles,
    /** What was called so far, in order. */
    calls,
  }
}

function write(values: Bytes, index: number, element: number | bigint): void {
  ;(values as unknown as (number | bigint)[])[index] = element
}
