// Tracing: running a function on tensors without values and writing down what it does as a Program. What becomes of
// the program is left to vjp.ts, jit.ts and checkpoint.ts.
import { abstractEvaluate } from '../tensor/abstract.ts'
import { type Interpreter, withInterpreter } from '../tensor/dispatch.ts'
import { InternalError } from '../tensor/errors.ts'
import type { PrimitiveName, PrimitiveParams } from '../tensor/primitives.ts'
import {
  type Atom,
  type Equation,
  type Program,
  type TensorType,
  type Var,
  literal,
  variable,
} from '../tensor/program.ts'
import { Tensor } from '../tensor/tensor.ts'
import { verifyProgram } from '../tensor/verify.ts'
import { type Partition, partition, refusePromise } from './partition.ts'
import { baseInterpreter, currentRewriter } from './rewriter.ts'

/** A recorded function: the program's inputs are the arguments, then the tensors the function closed over. */
export interface Traced {
  readonly program: Program
  readonly constants: readonly Tensor[]
}

export interface TraceOptions {
  /** Whether `call` equations are recorded (the program is about to be differentiated) or expanded by the caller. */
  readonly keepCalls: boolean
}

const verification = { on: false }

/** Whether every traced program is checked by the verifier. Off at first, unless PULLBACK_VERIFY is 1. */
export function verifyPrograms(on: boolean): void {
  verification.on = on
}

/** Records equations. Tensors of other traces and stored tensors become constants; scalars without memory, literals. */
export class Trace implements Interpreter {
  readonly keepsCalls: boolean
  readonly #scope: { readonly label: string; open: boolean }
  readonly #equations: Equation[] = []
  readonly #constants = new Map<Tensor, Var>()
  #region: number | undefined
  #regions = 0

  constructor(label: string, options: TraceOptions) {
    this.#scope = { label, open: true }
    this.keepsCalls = options.keepCalls
  }

  bind<P extends PrimitiveName>(
    primitive: P,
    inputs: readonly Tensor[],
    params: PrimitiveParams[P],
  ): readonly Tensor[] {
    if (primitive === 'call' && !this.keepsCalls) throw new InternalError(`call recorded by ${this.#scope.label}`)
    const atoms = inputs.map((input) => this.lift(input, primitive))
    const outputs = abstractEvaluate(primitive, inputs, params).map(({ shape, dtype }) => variable({ shape, dtype }))
    const region = this.#region === undefined ? {} : { region: this.#region }
    this.#equations.push({ primitive, inputs: atoms, params, outputs, ...region } as unknown as Equation)
    return outputs.map((output) => this.tensorOf(output))
  }

  /** A tensor that stands for a variable of this trace. */
  tensorOf(v: Var): Tensor {
    return new Tensor(v.type, { kind: 'traced', scope: this.#scope, variable: v })
  }

  /** Whether `tensor` was made by this trace. */
  owns(tensor: Tensor): boolean {
    const payload = tensor.live(this.#scope.label)
    return payload.kind === 'traced' && payload.scope === this.#scope
  }

  /** What stands for `tensor` in this trace. */
  lift(tensor: Tensor, use: string): Atom {
    const payload = tensor.live(use)
    if (payload.kind === 'literal') return literal(payload.value, tensor.dtype)
    if (payload.kind === 'traced' && payload.scope === this.#scope) return payload.variable
    const known = this.#constants.get(tensor)
    if (known !== undefined) return known
    const constant = variable({ shape: tensor.shape, dtype: tensor.dtype })
    this.#constants.set(tensor, constant)
    return constant
  }

  /** A region tag that no equation of this trace carries yet. */
  freshRegion(): number {
    this.#regions += 1
    return this.#regions
  }

  /** Runs `body`; the equations it records carry `region`. */
  inRegion<T>(region: number, body: () => T): T {
    const outer = this.#region
    this.#region = region
    try {
      return body()
    } finally {
      this.#region = outer
    }
  }

  /** The program recorded so far. */
  finish(inputs: readonly Var[], outputs: readonly Atom[]): Traced {
    const program = { inputs: [...inputs, ...this.#constants.values()], equations: this.#equations, outputs }
    const checked = verification.on || process.env['PULLBACK_VERIFY'] === '1'
    return {
      program: checked ? verifyProgram(program, `tracing ${this.#scope.label}`) : program,
      constants: [...this.#constants.keys()],
    }
  }

  /** Ends the trace: its tensors can no longer be used. */
  close(): void {
    this.#scope.open = false
  }
}

/**
 * Runs `f` on traced tensors of the given types and records it, under the rewriter in force.
 * `names` are what users call the arguments.
 */
export function traceFlat(
  f: (inputs: readonly Tensor[]) => readonly Tensor[],
  types: readonly TensorType[],
  label: string,
  options: TraceOptions,
  names: readonly string[] = [],
): Traced {
  const trace = new Trace(label, options)
  const inputs = types.map(({ shape, dtype }, i) => variable({ shape, dtype }, names[i]))
  try {
    const interpreter = currentRewriter()?.above(trace) ?? trace
    const results = withInterpreter(interpreter, () => f(inputs.map((input) => trace.tensorOf(input))))
    return trace.finish(
      inputs,
      results.map((result) => trace.lift(result, label)),
    )
  } finally {
    trace.close()
  }
}

/** The trace in force, if there is one. */
export function currentTrace(): Trace | undefined {
  const base = baseInterpreter()
  return base instanceof Trace ? base : undefined
}

/** A recorded function of a tree, with its result taken apart. */
export interface TracedTree extends Traced {
  readonly result: Partition
}

/** Records a function of a tree: the tensors of `inputs` are the program's arguments, all else is closed over. */
export function traceTree(
  f: (tree: unknown) => unknown,
  inputs: Partition,
  label: string,
  options: TraceOptions,
): TracedTree {
  let result = partition([])
  const flat = (tensors: readonly Tensor[]): readonly Tensor[] => {
    const value = f(inputs.rebuild(tensors))
    refusePromise(label, value)
    result = partition(value)
    return result.tensors
  }
  return { ...traceFlat(flat, inputs.tensors, label, options, inputs.paths), result }
}
