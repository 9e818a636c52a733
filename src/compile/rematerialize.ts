// Rematerialisation of library operands. Fusion computes everything pointwise again where it is needed anyway; what is
// left between forward and backward are operands and results of convolutions. The largest operands that follow
// pointwise from values that stay alive in any case are stored a second time, just before the backward pass needs them.
import { bytesOf } from '../tensor/dtype.ts'
import { isPointwise } from '../tensor/primitives.ts'
import { type Atom, type Equation, type Program, type Var, variable } from '../tensor/program.ts'
import { at, range, sizeOf, zip } from '../tensor/shape.ts'
import { type Values, append, isLibrary, materialize } from './materialize.ts'

/** How much of what is alive at the turn from forward to backward may be traded for storing it twice. */
const share = 0.16

/** A value that could be stored again: its last early use and first late one, as equation indices. */
interface Candidate {
  readonly value: Var
  readonly early: number
  readonly late: number
  readonly bytes: number
}

/** The program with some library operands computed again for their late uses. */
export function rematerialize(program: Program): Program {
  const values = materialize(program, false)
  const uses = usesOf(program)
  const turn = busiestPoint(program, values, uses)
  const alive = aliveBytes(program, values, uses, turn)
  const chosen: Candidate[] = []
  let saved = 0
  for (const candidate of candidatesAt(turn, program, values, uses)) {
    if (saved + candidate.bytes > share * alive) continue
    chosen.push(candidate)
    saved += candidate.bytes
  }
  return chosen.length === 0 ? program : repeat(program, chosen, values)
}

type Uses = ReadonlyMap<Var, readonly number[]>

function usesOf(program: Program): Uses {
  const uses = new Map<Var, number[]>()
  const note = (atom: Atom, index: number): void => {
    if (atom.kind === 'var') append(uses, atom, index)
  }
  program.equations.forEach((equation, index) => {
    for (const input of new Set(equation.inputs)) note(input, index)
  })
  for (const output of program.outputs) note(output, program.equations.length)
  return uses
}

/** The stretch of equations over which each value with memory must be kept, reshapes and recomputed users included. */
function spans(program: Program, values: Values, uses: Uses): ReadonlyMap<Var, readonly [number, number]> {
  const ends = new Map<Var, number>()
  const starts = new Map<Var, number>()
  program.equations.forEach((equation, index) => {
    for (const output of equation.outputs) starts.set(output, index)
  })
  for (const equation of program.equations.toReversed())
    for (const output of equation.outputs) {
      const last = Math.max(-1, ends.get(output) ?? -1, ...(uses.get(output) ?? []))
      ends.set(output, last)
      if (values.stored.has(output)) continue
      for (const input of equation.inputs)
        if (input.kind === 'var') ends.set(input, Math.max(ends.get(input) ?? -1, last))
    }
  const kept = [...values.stored].flatMap((v): [Var, [number, number]][] => {
    const [start, end] = [starts.get(v), ends.get(v)]
    return start === undefined || end === undefined ? [] : [[v, [start, end]]]
  })
  return new Map(kept)
}

/** The equation before which most bytes are alive. */
function busiestPoint(program: Program, values: Values, uses: Uses): number {
  const change = new Array<number>(program.equations.length + 2).fill(0)
  for (const [v, [start, end]] of spans(program, values, uses)) {
    change[start + 1] = (change[start + 1] ?? 0) + bytes(v)
    change[end + 1] = (change[end + 1] ?? 0) - bytes(v)
  }
  let [best, most, current] = [0, 0, 0]
  change.forEach((difference, index) => {
    current += difference
    if (current > most) [best, most] = [index, current]
  })
  return best
}

function aliveBytes(program: Program, values: Values, uses: Uses, turn: number): number {
  return [...spans(program, values, uses)].reduce(
    (sum, [v, [start, end]]) => sum + (start < turn && end >= turn ? bytes(v) : 0),
    0,
  )
}

/** Pointwise library operands with uses on both sides of the turn whose full-size sources are alive beyond it anyway; largest first. */
function candidatesAt(turn: number, program: Program, values: Values, uses: Uses): readonly Candidate[] {
  const kept = spans(program, values, uses)
  return program.equations
    .flatMap((equation): Candidate[] => {
      const [value] = equation.outputs
      if (
        value === undefined ||
        !values.stored.has(value) ||
        !isPointwise(equation.primitive) ||
        equation.primitive === 'cast'
      )
        return []
      const places = uses.get(value) ?? []
      const [early, late] = [places.filter((place) => place < turn), places.filter((place) => place >= turn)]
      const [first] = late
      if (early.length === 0 || first === undefined || late.includes(program.equations.length)) return []
      if (!late.some((place) => isLibrary(at(program.equations, place)))) return []
      const last = at(late, late.length - 1)
      const sources = sourcesOf(equation, values)
      const free = sources.every((source) => {
        if (2 * sizeOf(source.type.shape) < sizeOf(value.type.shape)) return true
        const span = kept.get(source)
        return span === undefined || span[1] >= last
      })
      return free ? [{ value, early: at(early, early.length - 1), late: first, bytes: bytes(value) }] : []
    })
    .sort((a, b) => b.bytes - a.bytes || a.late - b.late)
}

/** The values in memory that an expression reads. */
function sourcesOf(equation: Equation, values: Values): readonly Var[] {
  return equation.inputs.flatMap((input): readonly Var[] => {
    if (input.kind === 'literal') return []
    const storage = values.storageOf(input)
    if (storage !== undefined) return [storage]
    const definition = values.definitions.get(input)
    return definition === undefined ? [input] : sourcesOf(definition, values)
  })
}

/** Copies the expressions of the chosen values before their late uses, under a region of their own, and renames those uses. */
function repeat(program: Program, chosen: readonly Candidate[], values: Values): Program {
  const region = 1 + Math.max(0, ...program.equations.map((equation) => equation.region ?? 0))
  const byLate = new Map<number, Candidate[]>()
  for (const candidate of chosen) append(byLate, candidate.late, candidate)
  const renamed = new Map<Var, Var>()
  const equations: Equation[] = []
  for (const index of range(program.equations.length)) {
    for (const { value } of byLate.get(index) ?? [])
      renamed.set(value, copyExpression(value, values, region, equations))
    const equation = at(program.equations, index)
    const inputs = equation.inputs.map((input) => (input.kind === 'var' ? (renamed.get(input) ?? input) : input))
    equations.push({ ...equation, inputs })
  }
  return { ...program, equations }
}

function copyExpression(value: Var, values: Values, region: number, equations: Equation[]): Var {
  const copies = new Map<Var, Var>()
  const copy = (v: Var, root: boolean): Var => {
    const known = copies.get(v)
    const equation = values.definitions.get(v)
    if (known !== undefined) return known
    if (equation === undefined || (!root && values.storageOf(v) !== undefined)) return v
    const inputs = equation.inputs.map((input) => (input.kind === 'var' ? copy(input, false) : input))
    const outputs = equation.outputs.map((output) => variable(output.type))
    equations.push({ ...equation, inputs, outputs, region })
    for (const [from, to] of zip(equation.outputs, outputs)) copies.set(from, to)
    return copies.get(v) ?? v
  }
  return copy(value, true)
}

function bytes(v: Var): number {
  return sizeOf(v.type.shape) * bytesOf(v.type.dtype)
}
