// jit: a function compiled once for each tree, shapes, dtypes and static leaves of its arguments, then run as one
// program. Tracing is trace.ts; optimizing and running are the device's.
import type { Device, Executable, OptimizeLevel } from '../tensor/device.ts'
import { commonDevice, withInterpreter, wrapResults } from '../tensor/dispatch.ts'
import { ValueError } from '../tensor/errors.ts'
import { logLine } from '../tensor/log.ts'
import { materialize } from '../tensor/ops/create.ts'
import { type Atom, type Program, type Var, showType } from '../tensor/program.ts'
import { at } from '../tensor/shape.ts'
import { Tensor, storageOf } from '../tensor/tensor.ts'
import { unflatten } from '../tensor/tree.ts'
import { type Call, type CallKind, describeCall, kindOf, tensorsOfKind } from './call.ts'
import { labelOf } from './partition.ts'
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

/** One compiled program: its text, what it closed over, and how its outputs make the result. */
interface Entry extends TracedTree {
  readonly device: Device
  readonly kind: CallKind
  /** The paths of the tensors in the arguments, and which of them are donated. */
  readonly paths: readonly string[]
  readonly donated: readonly number[]
  /** For each leaf of the result its place among the executable's outputs, or what it is at every call. */
  readonly leaves: readonly (number | { readonly value: unknown })[]
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
  let last: Entry | undefined
  const lookUp = (args: A): readonly [readonly Tensor[], Entry] => {
    const again = last && tensorsOfKind(label, last.kind, args, options.device)
    if (last !== undefined && again !== undefined) return [again, last]
    const call = describeCall(label, args, options.device)
    const known = entries.get(call.device) ?? new Map<string, Entry>()
    entries.set(call.device, known)
    const entry = known.get(call.key) ?? makeEntry(label, (tree) => f(...(tree as A)), call, options)
    if (!known.has(call.key)) noteTrace()
    known.set(call.key, entry)
    last = entry
    return [call.inputs.tensors, entry]
  }
  const run = (...args: A): R => {
    if (baseInterpreter() !== undefined) return f(...args)
    const [tensors, entry] = lookUp(args)
    return execute(label, tensors, entry) as R
  }
  const outside = <T>(body: () => T): T => withInterpreter(currentRewriter()?.above(undefined), body)
  return Object.assign(run, {
    program: (...args: A) => outside(() => lookUp(args)[1].program),
    plan: (...args: A) => outside(() => lookUp(args)[1].compiled().toString()),
    clear: () => {
      for (const known of entries.values()) for (const entry of known.values()) entry.release()
      entries.clear()
      last = undefined
    },
  })
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
  const onDevice: Program = { ...program, outputs: stored satisfies Var[] }
  const { paths } = call.inputs
  const donated = donatedInputs(paths, options.donate ?? [])
  const optimize = options.optimize ?? 'fuse'
  let executable: Executable | undefined
  const compiled = (): Executable => {
    executable ??= device.compile(onDevice, { optimize, donate: donated, label })
    return executable
  }
  const release = (): void => {
    executable?.release()
    executable = undefined
  }
  const leaves = leavesOfResult(result.leaves, program.outputs)
  return { program, constants, result, device, kind: kindOf(call), paths, donated, leaves, compiled, release }
}

/** Where the leaves of a result come from: those that are no tensors are static, and so are numbers without memory. */
function leavesOfResult(leaves: readonly unknown[], outputs: readonly Atom[]): Entry['leaves'] {
  let [tensors, stored] = [0, 0]
  return leaves.map((leaf) => {
    if (!(leaf instanceof Tensor)) return { value: leaf }
    const output = at(outputs, tensors++)
    if (output.kind === 'var') return stored++
    return { value: new Tensor(output.type, { kind: 'literal', value: output.value }) }
  })
}

/** The program inputs that belong to donated arguments: their paths begin with the argument's position. */
function donatedInputs(paths: readonly string[], donate: readonly number[]): number[] {
  return paths.flatMap((path, i) => (donate.includes(Number(path.split('.')[0])) ? [i] : []))
}

function execute(label: string, tensors: readonly Tensor[], entry: Entry): unknown {
  const { constants, device, donated, leaves, result } = entry
  const givers = constants.length === 0 ? tensors : [...tensors, ...constants]
  for (const constant of constants) constant.live(`${label}, which closed over it`)
  if (donated.length > 0) checkDonation(label, givers, entry)
  const temporaries: Tensor[] = []
  const operands = givers.map((giver) => {
    const operand = materialize(giver, label, device)
    if (operand !== giver) temporaries.push(operand) // a literal that got memory for this call
    return operand
  })
  const storages = operands.map((operand) => storageOf(operand, label))
  const results = wrapResults(
    entry.compiled().run(storages),
    donated.map((index) => at(operands, index)),
  )
  for (const temporary of temporaries) temporary.dispose()
  return unflatten(
    result.structure,
    leaves.map((leaf) => (typeof leaf === 'number' ? at(results, leaf) : leaf.value)),
  )
}

/** Calls of functions that donate. */
const calls = { count: 0 }

/** A donated tensor's memory is overwritten, so nobody else may read it in the same call. */
function checkDonation(label: string, givers: readonly Tensor[], entry: Entry): void {
  calls.count += 1
  let twice = false
  for (const giver of givers) {
    const payload = giver.live(label)
    if (payload.kind !== 'stored') continue
    twice ||= payload.seen === calls.count
    payload.seen = calls.count
  }
  if (twice) refuseRepeated(label, givers, entry)
}

/** Throws if one of the tensors that are passed more than once is donated. */
function refuseRepeated(label: string, givers: readonly Tensor[], { donated, paths }: Entry): void {
  for (const index of donated) {
    const tensor = at(givers, index)
    const times = givers.filter((x) => x === tensor).length
    if (times === 1 || tensor.live(label).kind !== 'stored') continue
    const places = paths.flatMap((path, i) => (givers[i] === tensor ? [`'${path}'`] : []))
    if (givers.includes(tensor, paths.length)) places.push('a tensor the function closes over')
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
