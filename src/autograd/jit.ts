// jit: a function compiled once for each tree, shapes, dtypes and static leaves of its arguments, then run as one
// program. Tracing is trace.ts; optimizing and running are the device's.
import type { Device, Executable, OptimizeLevel } from '../tensor/device.ts'
import { commonDevice, withInterpreter, wrapStorage } from '../tensor/dispatch.ts'
import { PullbackError, ValueError } from '../tensor/errors.ts'
import { logLine } from '../tensor/log.ts'
import { materialize } from '../tensor/ops/create.ts'
import { type Program, type Var, showType } from '../tensor/program.ts'
import { Tensor, storageOf } from '../tensor/tensor.ts'
import { type Partition, labelOf, partition } from './partition.ts'
import { baseInterpreter, currentRewriter } from './rewriter.ts'
import { type TracedTree, traceTree } from './trace.ts'

/** How `jit` compiles. */
export interface JitOptions {
  /** Positions of arguments whose tensors are given up at each call: their memory is used for the results. */
  readonly donate?: readonly number[]
  /** How much the device may change the program; 'fuse' by default. */
  readonly optimize?: OptimizeLevel
  /** What the program is called in logs and errors; the function's name by default. */
  readonly label?: string
  /** Where to run; by default where the arguments are. */
  readonly device?: Device
}

/** A compiled function. */
export interface Jitted<A extends readonly unknown[], R> {
  (...args: A): R
  /** The program traced for such arguments; it is not run. */
  program(...args: A): Program
  /** The device's plan for such arguments as stable text; it is not run. */
  plan(...args: A): string
  /** Forgets and releases everything compiled so far. */
  clear(): void
}

/** What one call needs to know of its arguments. */
interface Call {
  readonly inputs: Partition
  readonly device: Device
  readonly key: string
}

/** One compiled program: its text, what it closed over, and how its outputs make the result. */
interface Entry extends TracedTree {
  readonly device: Device
  /** For each tensor of the result its place among the executable's outputs, or a tensor without memory. */
  readonly places: readonly (number | Tensor)[]
  readonly compiled: () => Executable
  readonly release: () => void
}

/**
 * `f` compiled: traced at the first call, then run as one program. A new program is traced for each new tree, shape,
 * dtype or static leaf (numbers, strings, booleans, null and undefined in the arguments are part of the program; pass
 * what changes from call to call as a tensor). Tensors that `f` closes over become hidden inputs. Inside another
 * transformation the function is simply part of what that records. Every tensor of the result is fresh.
 *
 * `PULLBACK_LOG=info` tells each trace, and names a function that has been traced more than eight times.
 *
 * @throws TraceError if `f` returns a Promise or reads a traced value; ValueError if a donated tensor is passed twice
 * or an argument holds what is neither tensor nor static; DisposedError if a tensor it closed over was disposed.
 * @example const step = jit((state: State, batch: Batch) => ..., { donate: [0] })
 */
export function jit<A extends readonly unknown[], R>(f: (...args: A) => R, options: JitOptions = {}): Jitted<A, R> {
  const label = options.label ?? labelOf('jit', f)
  const entries = new Map<Device, Map<string, Entry>>()
  const noteTrace = traceCounter(label)
  const lookUp = (args: A): readonly [Call, Entry] => {
    const call = describeCall(label, args, options.device)
    const known = entries.get(call.device) ?? new Map<string, Entry>()
    entries.set(call.device, known)
    const entry = known.get(call.key) ?? makeEntry(label, (tree) => f(...(tree as A)), call, options)
    if (!known.has(call.key)) noteTrace()
    known.set(call.key, entry)
    return [call, entry]
  }
  const run = (...args: A): R => {
    if (baseInterpreter() !== undefined) return f(...args)
    const [call, entry] = lookUp(args)
    return execute(label, call, entry, donatedTensors(options.donate ?? [], args)) as R
  }
  const outside = <T>(body: () => T): T => withInterpreter(currentRewriter()?.above(undefined), body)
  return Object.assign(run, {
    program: (...args: A) => outside(() => lookUp(args)[1].program),
    plan: (...args: A) => outside(() => lookUp(args)[1].compiled().toString()),
    clear: () => {
      for (const known of entries.values()) for (const entry of known.values()) entry.release()
      entries.clear()
    },
  })
}

function describeCall(label: string, args: readonly unknown[], chosen: Device | undefined): Call {
  const inputs = partition(args)
  const common = inputs.tensors.some((x) => x.live(label).kind === 'stored')
    ? commonDevice(label, inputs.tensors)
    : undefined
  if (chosen !== undefined && common !== undefined && chosen !== common)
    throw new PullbackError(
      'device',
      `[${label}] expected arguments on ${chosen.name}, got ${common.name}. Use transfer(tensor, device).`,
    )
  const leaves = inputs.leaves.map((leaf, i) => leafKey(label, leaf, inputs.structure.paths[i] ?? ''))
  const key = [currentRewriter()?.key ?? '', inputs.structure.key, ...leaves].join(' ')
  return { inputs, device: chosen ?? common ?? commonDevice(label, []), key }
}

/** A leaf as part of the key: a tensor by its type, anything static by its value. */
function leafKey(label: string, leaf: unknown, path: string): string {
  if (leaf instanceof Tensor) return showType(leaf)
  switch (typeof leaf) {
    case 'number':
      return Object.is(leaf, -0) ? '-0' : String(leaf)
    case 'string':
      return JSON.stringify(leaf)
    case 'boolean':
      return String(leaf)
    case 'bigint':
      return `${leaf}n`
    default:
      throw new ValueError(
        `[${label}] expected tensors, numbers, strings or booleans in the arguments, got ${typeof leaf === 'object' ? (leaf?.constructor.name ?? 'null') : typeof leaf} at '${path}'. Wrap numbers in tensor(...); close over anything else.`,
      )
  }
}

function makeEntry(label: string, f: (tree: unknown) => unknown, call: Call, options: JitOptions): Entry {
  const began = performance.now()
  const { program, constants, result } = traceTree(f, call.inputs, label, { keepCalls: false })
  logLine(
    'info',
    () => `[${label}] traced ${program.equations.length} equations in ${(performance.now() - began).toFixed(0)} ms`,
  )
  const device = commonDevice(label, [...constants, ...call.inputs.tensors])
  const stored = program.outputs.filter((output) => output.kind === 'var')
  let next = 0
  const places = program.outputs.map((output) =>
    output.kind === 'var' ? next++ : new Tensor(output.type, { kind: 'literal', value: output.value }),
  )
  const onDevice: Program = { ...program, outputs: stored satisfies Var[] }
  let executable: Executable | undefined
  const compiled = (): Executable => {
    executable ??= device.compile(onDevice, {
      optimize: options.optimize ?? 'fuse',
      donate: donatedInputs(call.inputs, options.donate ?? []),
      label,
    })
    return executable
  }
  const release = (): void => {
    executable?.release()
    executable = undefined
  }
  return { program, constants, result, device, places, compiled, release }
}

/** The program inputs that belong to donated arguments: their paths begin with the argument's position. */
function donatedInputs(inputs: Partition, donate: readonly number[]): number[] {
  return inputs.paths.flatMap((path, i) => (donate.includes(Number(path.split('.')[0])) ? [i] : []))
}

function donatedTensors(donate: readonly number[], args: readonly unknown[]): Tensor[] {
  return donate.flatMap((position) => partition(args[position]).tensors)
}

function execute(label: string, { inputs }: Call, entry: Entry, donated: readonly Tensor[]): unknown {
  const givers = [...inputs.tensors, ...entry.constants]
  checkDonation(label, inputs, entry.constants, donated)
  for (const constant of entry.constants) constant.live(`${label}, which closed over it`)
  const operands = givers.map((x) => materialize(x, label, entry.device))
  const where = donated.length === 0 ? undefined : new Error('donated')
  const results = entry
    .compiled()
    .run(operands.map((x) => storageOf(x, label)))
    .map(wrapStorage)
  const isDonated = new Set(donated)
  givers.forEach((giver, i) => {
    const operand = operands[i]
    if (where !== undefined && isDonated.has(giver)) {
      operand?.retire('donated', where)
      giver.retire('donated', where)
    } else if (operand !== giver) operand?.dispose() // a literal that got memory for this call
  })
  const tensors = entry.places.flatMap((place) => {
    const result = typeof place === 'number' ? results[place] : place
    return result === undefined ? [] : [result]
  })
  return entry.result.rebuild(tensors)
}

/** A donated tensor's memory is overwritten, so nobody else may read it in the same call. */
function checkDonation(
  label: string,
  inputs: Partition,
  constants: readonly Tensor[],
  donated: readonly Tensor[],
): void {
  for (const tensor of donated) {
    if (tensor.live(label).kind !== 'stored') continue
    const places = inputs.tensors.flatMap((x, i) => (x === tensor ? [`'${inputs.paths[i] ?? ''}'`] : []))
    if (constants.includes(tensor)) places.push('a tensor the function closes over')
    if (places.length > 1)
      throw new ValueError(
        `[${label}] expected each donated tensor once, got one ${showType(tensor)} as ${places.join(' and ')}. Copy it, or do not donate it.`,
      )
  }
}

/** Counts the traces of one function; many of them mean that a static leaf or a shape changes from call to call. */
function traceCounter(label: string): () => void {
  let traces = 0
  return () => {
    traces += 1
    if (traces === 9)
      logLine(
        'info',
        () =>
          `[${label}] traced 9 times: numbers, strings and shapes in its arguments are part of the program. Pass what changes as a tensor.`,
      )
  }
}
