// The Program: the one intermediate form between a traced function and a device. Three small records, printable as
// stable text. Its verifier is verify.ts; its meaning is reference/interpreter.ts.
import type { DType } from './dtype.ts'
import type { PrimitiveName, PrimitiveParams } from './primitives.ts'
import { type Shape, sameShape } from './shape.ts'

/** The static type of a value: extents and element type. */
export interface TensorType {
  readonly shape: Shape
  readonly dtype: DType
}

/** A value defined once, by an input or an equation. Identity is the object itself. */
export interface Var {
  readonly kind: 'var'
  readonly type: TensorType
  /** What users call it ("params.conv1.weight"), for printing and error messages. */
  readonly name?: string
}

/** A scalar constant; broadcasts are explicit equations. */
export interface Literal {
  readonly kind: 'literal'
  readonly type: TensorType
  readonly value: number
}

/** What an equation reads. */
export type Atom = Var | Literal

/** One application of a primitive. `region` marks equations that `checkpoint` repeats, which CSE must not merge with others. */
export interface EquationOf<P extends PrimitiveName> {
  readonly primitive: P
  readonly inputs: readonly Atom[]
  readonly params: PrimitiveParams[P]
  readonly outputs: readonly Var[]
  readonly region?: number
}

/** An equation of any primitive; `switch (equation.primitive)` narrows its parameters. */
export type Equation = { [P in PrimitiveName]: EquationOf<P> }[PrimitiveName]

/** A closed, straight-line tensor program. */
export interface Program {
  readonly inputs: readonly Var[]
  readonly equations: readonly Equation[]
  readonly outputs: readonly Atom[]
}

/** Whether two types are equal: shape and dtype. */
export function sameType(a: TensorType, b: TensorType): boolean {
  return a.dtype === b.dtype && sameShape(a.shape, b.shape)
}

/** `f32[2,3]` */
export function showType(type: TensorType): string {
  return `${type.dtype}[${type.shape.join(',')}]`
}

/** Makes a fresh variable. */
export function variable(type: TensorType, name?: string): Var {
  return name === undefined ? { kind: 'var', type } : { kind: 'var', type, name }
}

/** Makes a scalar literal. */
export function literal(value: number, dtype: DType): Literal {
  return { kind: 'literal', value, type: { shape: [], dtype } }
}

/** The program as stable text: variables are lettered in order of definition. */
export function showProgram(program: Program): string {
  const names = new Map<Var, string>()
  const define = (v: Var): string => {
    const name = letters(names.size)
    names.set(v, name)
    return `${name}:${showType(v.type)}`
  }
  const use = (atom: Atom): string => (atom.kind === 'literal' ? showLiteral(atom) : (names.get(atom) ?? '?'))
  const head = program.inputs.map(define).join(' ')
  const body = program.equations.map((equation) => {
    const operands = equation.inputs.map(use)
    const params = showParams(equation)
    const region = equation.region === undefined ? '' : ` @${equation.region}`
    const left = equation.outputs.map(define).join(' ')
    return `  ${left} = ${[`${equation.primitive}${params}`, ...operands].join(' ')}${region}`
  })
  return [`{ ${head} ->`, ...body, `  -> ${program.outputs.map(use).join(' ')} }`].join('\n')
}

function showLiteral(atom: Literal): string {
  return `${Object.is(atom.value, -0) ? '-0' : String(atom.value)}:${atom.type.dtype}`
}

/** The parameters of an equation as stable text, '' if there are none. */
export function showParams(equation: Equation): string {
  if (equation.primitive === 'call')
    return `[${equation.params.rule.kind} ${equation.params.program.equations.length} equations]`
  const entries = Object.entries(equation.params as Readonly<Record<string, unknown>>)
  if (entries.length === 0) return ''
  return `[${entries.map(([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`).join(' ')}]`
}

function letters(index: number): string {
  const tail = String.fromCharCode(97 + (index % 26))
  return index < 26 ? tail : letters(Math.floor(index / 26) - 1) + tail
}
