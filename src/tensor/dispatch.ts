// `bind`, the one door through which every primitive goes: an interpreter installed for the dynamic extent (jit, grad,
// autocast) takes it; without one it runs at once, as a program of one equation, compiled and cached.
import { abstractEvaluate } from './abstract.ts'
import type { Device, Executable, Storage } from './device.ts'
import { DTypeError, InternalError, PullbackError } from './errors.ts'
import { Ownership, noteTensors } from './lifetime.ts'
import type { PrimitiveName, PrimitiveParams } from './primitives.ts'
import { type Atom, type Equation, type Program, type Var, literal, showType, variable } from './program.ts'
import { zip } from './shape.ts'
import { Tensor, storageOf } from './tensor.ts'

/** What happens to a primitive: recorded, rewritten, or run. */
export interface Interpreter {
  bind<P extends PrimitiveName>(primitive: P, inputs: readonly Tensor[], params: PrimitiveParams[P]): readonly Tensor[]
}

let current: Interpreter | undefined

/** Applies a primitive; the types of the results are checked by abstract evaluation. */
export function bind<P extends PrimitiveName>(
  primitive: P,
  inputs: readonly Tensor[],
  params: PrimitiveParams[P],
): readonly Tensor[] {
  return (current ?? eager).bind(primitive, inputs, params)
}

/** The same for primitives with one result. */
export function bindOne<P extends PrimitiveName>(
  primitive: P,
  inputs: readonly Tensor[],
  params: PrimitiveParams[P],
): Tensor {
  const [result] = bind(primitive, inputs, params)
  if (result === undefined) throw new InternalError(`${primitive} gave no result`)
  return result
}

/** Runs `body` with `interpreter` taking every primitive; undefined means eager execution. */
export function withInterpreter<T>(interpreter: Interpreter | undefined, body: () => T): T {
  const outer = current
  current = interpreter
  try {
    return body()
  } finally {
    current = outer
  }
}

/** The interpreter in force, undefined for eager execution. */
export function currentInterpreter(): Interpreter | undefined {
  return current
}

/** The device chosen by `setDefaultDevice`, or by itself (`automatic`) when first needed. */
const devices: { chosen: Device | undefined; automatic: Device | undefined; choose: (() => Device) | undefined } = {
  chosen: undefined,
  automatic: undefined,
  choose: undefined,
}

/** Where new tensors go; index.ts supplies the automatic choice. */
export function defaultDevice(): Device {
  if (devices.chosen !== undefined) return devices.chosen
  devices.chosen = devices.automatic = devices.choose?.()
  if (devices.chosen === undefined)
    throw new PullbackError('device', '[device] no device is set. Call setDefaultDevice(device) first.')
  return devices.chosen
}

/** @internal Forgets a default device that nobody asked for: the next one that is needed is chosen anew. */
export function forgetAutomaticDevice(): void {
  if (devices.chosen === devices.automatic) devices.chosen = undefined
  devices.automatic = undefined
}

/** Makes `device` the place where new tensors go and programs without inputs run. Returns the one before, if any. */
export function setDefaultDevice(device: Device): Device | undefined {
  const before = devices.chosen
  devices.chosen = device
  devices.automatic = undefined
  return before
}

/** @internal How the default device is chosen when it is first needed. */
export function setDeviceChoice(choose: () => Device): void {
  devices.choose = choose
}

/** The device all stored tensors are on; the default one if there are none. */
export function commonDevice(op: string, tensors: readonly Tensor[]): Device {
  let found: Device | undefined
  for (const tensor of tensors) {
    const payload = tensor.live(op)
    if (payload.kind !== 'stored') continue
    const { device } = payload.storage
    if (found !== undefined && found !== device)
      throw new PullbackError(
        'device',
        `[${op}] expected tensors on one device, got ${found.name} and ${device.name}. Use transfer(tensor, device).`,
      )
    found = device
  }
  return found ?? defaultDevice()
}

/** A tensor that owns `storage`. */
export function wrapStorage(storage: Storage): Tensor {
  const tensor = new Tensor(storage.type, new Ownership(storage))
  noteTensors([tensor])
  return tensor
}

/** Tensors that own what an executable returned, to which `donated` were given: they are gone from here on. */
export function wrapResults(storages: readonly Storage[], donated: readonly Tensor[]): readonly Tensor[] {
  const left = donated.length === 0 ? [] : giveUp(donated)
  const made = storages.map((storage, index) => {
    const ownership = left[index]?.renew(storage) ?? new Ownership(storage)
    return new Tensor(storage.type, ownership)
  })
  left.slice(storages.length).forEach((ownership) => ownership.end())
  noteTensors(made, donated)
  return made
}

/** What donated tensors owned their storages by. */
function giveUp(donated: readonly Tensor[]): Ownership[] {
  const gone = { kind: 'gone', code: 'donated', where: new Error('donated') } as const
  const left: Ownership[] = []
  for (const tensor of donated) {
    const ownership = tensor.giveUp(gone)
    if (ownership !== undefined) left.push(ownership)
  }
  return left
}

/** A scalar that lives in no memory: it becomes a Literal of whatever program uses it. */
export function scalar(value: number, dtype: Tensor['dtype'] = 'f32'): Tensor {
  return new Tensor({ shape: [], dtype }, { kind: 'literal', value })
}

/** Runs primitives at once. */
export const eager: Interpreter = {
  bind(primitive, inputs, params) {
    if (primitive === 'call') throw new InternalError('call reached a device; it should have been inlined')
    const device = commonDevice(primitive, inputs)
    const executable = cachedExecutable(device, primitive, inputs, params)
    const stored = inputs.filter((input) => input.live(primitive).kind === 'stored')
    return executable.run(stored.map((input) => storageOf(input, primitive))).map(wrapStorage)
  },
}

const cacheSize = 1024
const caches = new WeakMap<Device, Map<string, Executable>>()

function cachedExecutable<P extends PrimitiveName>(
  device: Device,
  primitive: P,
  inputs: readonly Tensor[],
  params: PrimitiveParams[P],
): Executable {
  const operands = inputs.map((input) => {
    const payload = input.live(primitive)
    if (payload.kind === 'traced')
      throw new DTypeError(`[${primitive}] a traced tensor reached eager execution. Use it inside its own trace only.`)
    return payload.kind === 'literal'
      ? `${Object.is(payload.value, -0) ? '-0' : String(payload.value)}:${input.dtype}`
      : showType(input)
  })
  const key = `${primitive} ${JSON.stringify(params)} ${operands.join(' ')}`
  const cache = caches.get(device) ?? new Map<string, Executable>()
  caches.set(device, cache)
  const found = cache.get(key)
  if (found !== undefined) {
    cache.delete(key) // the most recently used stay longest
    cache.set(key, found)
    return found
  }
  const program = programOf(primitive, inputs, params)
  const executable = device.compile(program, { optimize: 'fuse', donate: [], label: primitive })
  cache.set(key, executable)
  const [oldest] = cache
  if (cache.size > cacheSize && oldest !== undefined) {
    cache.delete(oldest[0])
    oldest[1].release()
  }
  return executable
}

function programOf<P extends PrimitiveName>(
  primitive: P,
  inputs: readonly Tensor[],
  params: PrimitiveParams[P],
): Program {
  const atoms = inputs.map((input): Atom => {
    const payload = input.live(primitive)
    return payload.kind === 'literal'
      ? literal(payload.value, input.dtype)
      : variable({ shape: input.shape, dtype: input.dtype })
  })
  const outputs = abstractEvaluate(primitive, inputs, params).map((type) =>
    variable({ shape: type.shape, dtype: type.dtype }),
  )
  const equation = { primitive, inputs: atoms, params, outputs } as unknown as Equation
  const variables = zip(atoms, inputs).flatMap(([atom]): Var[] => (atom.kind === 'var' ? [atom] : []))
  return { inputs: variables, equations: [equation], outputs }
}
