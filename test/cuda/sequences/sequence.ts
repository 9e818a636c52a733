// A sequence of cuDNN descriptor calls as data, and the runner that plays one through a bound cuDNN, real or simulated, and
// notes the status of every call. Which sequences there are is graphs.ts and malformed*.ts.
import { attributeTypes, type descriptorTypes } from '../../../src/cuda/ffi/cudnn-constants.ts'
import type { AttributeName, AttributeType, Cudnn, Descriptor } from '../../../src/cuda/ffi/cudnn.ts'
import { CudaError } from '../../../src/cuda/ffi/status.ts'
import type { Bytes } from '../../../src/cuda/ffi/values.ts'

/** What a call is given: numbers, or names of descriptors made before. */
export type Values = readonly number[] | readonly string[]

/** One call. Descriptors go by names of the sequence's own. */
export type Step =
  | readonly ['create', name: string, type: keyof typeof descriptorTypes]
  | readonly ['set', name: string, attribute: AttributeName, type: AttributeType, values: Values]
  | readonly ['finalize', name: string]
  /** Asks how many elements an attribute has. */
  | readonly ['count', name: string, attribute: AttributeName, type: AttributeType]
  /** Reads with room for so many elements. */
  | readonly ['get', name: string, attribute: AttributeName, type: AttributeType, room: number]
  /** Reads descriptors into descriptors made before. */
  | readonly ['read', name: string, attribute: AttributeName, into: readonly string[]]
  | readonly ['destroy', name: string]
  /** Asks heuristics for configurations and finalizes plans until one succeeds; the status is the last one's. */
  | readonly ['plan', heuristics: string, device: string]

/** Calls in order; none is left out when an earlier one fails. */
export interface Sequence {
  readonly name: string
  readonly steps: readonly Step[]
}

/** A sequence with a mistake in it. */
export interface Malformed extends Sequence {
  /** Why the simulation refuses what the real cuDNN lets pass; absent where the two agree. */
  readonly stricter?: string
}

/** The status of a call on a descriptor that could not be made. */
const unmade = -1

/** The status of a plan where heuristics succeed and have nothing to propose. */
const nothing = -2

/** Plays a sequence; every descriptor it made and did not destroy is destroyed at the end. @returns One status a step. */
export function play(cudnn: Cudnn, { steps }: Sequence): readonly number[] {
  const made = new Map<string, Descriptor>()
  const statuses = steps.map((step) => {
    if (namesOf(step).some((name) => !made.has(name))) return unmade
    let answer = 0
    const status = statusOf(() => void (answer = call(cudnn, made, step)))
    return status === 0 ? answer : status
  })
  for (const descriptor of [...made.values()].reverse()) cudnn.destroyDescriptor(descriptor)
  return statuses
}

/** Plays steps that must all succeed, and hands over what they made; the caller destroys it. Throws the first CudaError. */
export function assemble(cudnn: Cudnn, steps: readonly Step[]): ReadonlyMap<string, Descriptor> {
  const made = new Map<string, Descriptor>()
  for (const step of steps) call(cudnn, made, step)
  return made
}

/** The status of an action: 0, or the one its CudaError carries. */
export function statusOf(action: () => void): number {
  try {
    action()
    return 0
  } catch (error) {
    if (error instanceof CudaError) return error.status
    throw error
  }
}

function namesOf(step: Step): readonly string[] {
  const used = step[0] === 'create' ? [] : [step[1]]
  if (step[0] === 'read') return [...used, ...step[3]]
  if (step[0] === 'plan') return [...used, step[2]]
  return step[0] === 'set' && step[3] === 'BACKEND_DESCRIPTOR' ? [...used, ...step[4].map(String)] : used
}

function call(cudnn: Cudnn, made: Map<string, Descriptor>, step: Step): number {
  const named = (name: string): Descriptor => {
    const descriptor = made.get(name)
    if (descriptor === undefined) throw new Error(`no descriptor ${name}`)
    return descriptor
  }
  switch (step[0]) {
    case 'create':
      made.set(step[1], cudnn.createDescriptor(step[2]))
      break
    case 'set':
      cudnn.setAttribute(named(step[1]), step[2], step[3], bytes(step[3], step[4], named))
      break
    case 'finalize':
      cudnn.finalize(named(step[1]), step[1])
      break
    case 'count':
      cudnn.attributeCount(named(step[1]), step[2], step[3])
      break
    case 'get':
      cudnn.getAttribute(named(step[1]), step[2], step[3], room(step[3], step[4]))
      break
    case 'read':
      cudnn.getAttribute(named(step[1]), step[2], 'BACKEND_DESCRIPTOR', bytes('BACKEND_DESCRIPTOR', step[3], named))
      break
    case 'destroy':
      cudnn.destroyDescriptor(named(step[1]))
      made.delete(step[1])
      break
    case 'plan':
      return planAny(cudnn, named(step[1]), named(step[2]))
    default:
      step satisfies never
  }
  return 0
}

/** Room for elements of an attribute's type. */
export function room(type: AttributeType, count: number): Bytes {
  switch (type) {
    case 'FLOAT':
      return new Float32Array(count)
    case 'DOUBLE':
      return new Float64Array(count)
    default:
      return attributeTypes[type][1] === 8
        ? new BigInt64Array(count)
        : attributeTypes[type][1] === 4
          ? new Int32Array(count)
          : new Uint8Array(count)
  }
}

function bytes(type: AttributeType, values: Values, named: (name: string) => Descriptor): Bytes {
  const numbers = values.map((value) => (typeof value === 'string' ? named(value) : value))
  const array = room(type, values.length)
  for (const [index, value] of numbers.entries()) {
    if (array instanceof BigInt64Array || array instanceof BigUint64Array) array[index] = BigInt(value)
    else array[index] = Number(value)
  }
  return array
}

/** How many configurations are tried. */
const most = 24

function planAny(cudnn: Cudnn, heuristics: Descriptor, device: Descriptor): number {
  const made: Descriptor[] = Array.from({ length: most }, () => cudnn.createDescriptor('ENGINECFG'))
  const configurations = BigInt64Array.from(made)
  let status = nothing
  try {
    const found = cudnn.getAttribute(heuristics, 'ENGINEHEUR_RESULTS', 'BACKEND_DESCRIPTOR', configurations)
    for (const configuration of made.slice(0, found)) {
      status = statusOf(() => finalizePlan(cudnn, configuration, device))
      if (status === 0) break
    }
    return status
  } finally {
    for (const configuration of made) cudnn.destroyDescriptor(configuration)
  }
}

function finalizePlan(cudnn: Cudnn, configuration: Descriptor, device: Descriptor): void {
  const plan = cudnn.createDescriptor('EXECUTION_PLAN')
  try {
    cudnn.setAttribute(plan, 'EXECUTION_PLAN_ENGINE_CONFIG', 'BACKEND_DESCRIPTOR', BigInt64Array.of(configuration))
    cudnn.setAttribute(plan, 'EXECUTION_PLAN_DEVICEPROP', 'BACKEND_DESCRIPTOR', BigInt64Array.of(device))
    cudnn.finalize(plan, 'plan')
  } finally {
    cudnn.destroyDescriptor(plan)
  }
}
