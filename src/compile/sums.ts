// The algebra of sums: factors that do not vary along the summed axes move out, affine producers are distributed over,
// and a sum over [n, h, w] is split into a sum over n of per-image sums where those are wanted anyway. Then the squeeze
// of a batch-normalised output, both batch-norm statistics and all of SE's and batch norm's backward sums become a few
// sums of products of raw tensors, which one kernel computes in one read. All in f32 (f64 for f64): 16-bit roundings
// between a product and the sum over it are skipped, which a law bounds.
import { type FloatDType, accumulationType, isFloat } from '../tensor/dtype.ts'
import type { Atom, Equation, EquationOf, Program, Var } from '../tensor/program.ts'
import { at, range, sizeOf } from '../tensor/shape.ts'
import { type Builder, filled, rewriteProgram } from './builder.ts'
import { simplifyEquation } from './simplify.ts'

/** A value that does not vary along the summed axes: `source` placed at `axes` of the summed tensor's shape. */
interface Coefficient {
  readonly source: Atom
  readonly axes: readonly number[]
}

/** scale x product of coefficients x product of full-size factors. */
interface Term {
  readonly scale: number
  readonly coefficients: readonly Coefficient[]
  readonly factors: readonly Var[]
}

type Definitions = (atom: Atom) => Equation | undefined

const maxTerms = 4
const maxFactors = 3

/** A simplified program with its sums in normal form. */
export function normalizeSums(program: Program): Program {
  const split = sumsToSplit(program)
  return rewriteProgram(
    program,
    (equation, inputs, builder) => {
      if (equation.primitive !== 'reduceSum' || !isFloat(at(inputs, 0).type.dtype)) return undefined
      const { axes } = equation.params
      const outer = split.has(equation) ? axes.slice(0, 1) : []
      return [normalSum(at(inputs, 0), axes.slice(outer.length), outer, builder, equation.region)]
    },
    simplifyEquation,
    true,
  )
}

/** The sum over `inner` axes of x in normal form, then over `outer` ones (leading axes), in x's dtype. */
function normalSum(
  x: Atom,
  inner: readonly number[],
  outer: readonly number[],
  builder: Builder,
  region?: number,
): Atom {
  const dtype = accumulationType(x.type.dtype as FloatDType)
  const { shape } = x.type
  const kept = range(shape.length).filter((axis) => !inner.includes(axis))
  const keptShape = kept.map((axis) => at(shape, axis))
  const widen = (atom: Atom): Atom => builder.one('cast', [atom], { dtype }, region)
  const times = (a: Atom, b: Atom): Atom => builder.one('mul', [a, b], {}, region)
  const count = sizeOf(inner.map((axis) => at(shape, axis)))

  const termSum = (term: Term): Atom => {
    const [first, ...rest] = term.factors.map(widen)
    const sum =
      first === undefined
        ? filled(builder, count, { shape: keptShape, dtype })
        : builder.one('reduceSum', [rest.reduce(times, first)], { axes: inner }, region)
    const coefficients = term.coefficients.map(({ source, axes }) =>
      builder.one(
        'broadcast',
        [widen(source)],
        { shape: keptShape, axes: axes.map((axis) => kept.indexOf(axis)) },
        region,
      ),
    )
    const scaled = coefficients.reduce(times, sum)
    return term.scale === 1 ? scaled : times(scaled, filled(builder, term.scale, scaled.type))
  }

  const terms = expander(inner, (atom) => builder.definition(atom))(x)
  const [head, ...tail] = terms.map(termSum)
  let total = head ?? filled(builder, 0, { shape: keptShape, dtype })
  for (const term of tail) total = builder.one('add', [total, term], {}, region)
  if (outer.length > 0) total = builder.one('reduceSum', [total], { axes: outer }, region)
  return builder.one('cast', [total], { dtype: x.type.dtype }, region)
}

/** The sums over [n, h, w] whose per-image sums are worth having: some coefficient varies by image, or they are computed anyway. */
function sumsToSplit(program: Program): ReadonlySet<Equation> {
  const definitions = new Map(
    program.equations.flatMap((equation) => equation.outputs.map((output) => [output, equation] as const)),
  )
  const definition: Definitions = (atom) => (atom.kind === 'var' ? definitions.get(atom) : undefined)
  const identities = new Map<Var, number>()
  const identity = (v: Var): number => identities.get(v) ?? (identities.set(v, identities.size), identities.size - 1)
  const expand = expander([1, 2], definition)
  const perImage = new Set<number>()
  const candidates: { equation: Equation; keys: number[] }[] = []
  for (const equation of program.equations) {
    if (equation.primitive !== 'reduceSum') continue
    const x = at(equation.inputs, 0)
    const axes = equation.params.axes.join()
    if (x.type.shape.length !== 4 || !isFloat(x.type.dtype) || (axes !== '0,1,2' && axes !== '1,2')) continue
    const terms = expand(x)
    const keys = terms.flatMap((term) => term.factors.map(identity))
    if (axes === '1,2' || terms.some((term) => term.coefficients.some((c) => c.axes.includes(0))))
      for (const key of keys) perImage.add(key)
    if (axes === '0,1,2') candidates.push({ equation, keys })
  }
  const split = new Set<Equation>()
  for (let before = -1; before !== split.size; ) {
    before = split.size
    for (const { equation, keys } of candidates) {
      if (split.has(equation) || !keys.some((key) => perImage.has(key))) continue
      split.add(equation)
      for (const key of keys) perImage.add(key)
    }
  }
  return split
}

/** Gives expressions as sums of few terms, seen from sums over `inner`; whatever is not worth expanding is one factor. */
function expander(inner: readonly number[], definition: Definitions): (atom: Atom) => readonly Term[] {
  const known = new Map<Atom, readonly Term[]>()
  const expand = (atom: Atom): readonly Term[] => {
    const found = known.get(atom) ?? polynomial(atom, inner, definition, expand)
    known.set(atom, found)
    return found
  }
  return expand
}

function polynomial(
  atom: Atom,
  inner: readonly number[],
  definition: Definitions,
  expand: (atom: Atom) => readonly Term[],
): readonly Term[] {
  const one: Term = { scale: 1, coefficients: [], factors: [] }
  if (atom.kind === 'literal') return [{ ...one, scale: atom.value }]
  const leaf: readonly Term[] = [{ ...one, factors: [atom] }]
  const equation = definition(atom)
  if (equation === undefined || !isFloat(atom.type.dtype)) return leaf
  const of = (index: number): readonly Term[] => expand(at(equation.inputs, index))
  switch (equation.primitive) {
    case 'broadcast':
      return placed(equation, inner) ?? leaf
    case 'cast': {
      const from = at(equation.inputs, 0).type.dtype
      return atom.type.dtype === 'f64' || from === 'f64' || !isFloat(from) ? leaf : of(0)
    }
    case 'neg':
      return of(0).map(negated)
    case 'add':
      return affine(of(0), of(1)) ?? leaf
    case 'sub':
      return affine(of(0), of(1).map(negated)) ?? leaf
    case 'mul':
      return product(of(0), of(1)) ?? leaf
    default:
      return leaf
  }
}

function negated(term: Term): Term {
  return { ...term, scale: -term.scale }
}

/** A broadcast that does not reach into the summed axes is a coefficient. */
function placed(equation: EquationOf<'broadcast'>, inner: readonly number[]): readonly Term[] | undefined {
  const source = at(equation.inputs, 0)
  const { axes } = equation.params
  if (axes.some((axis) => inner.includes(axis))) return undefined
  if (source.kind === 'literal') return [{ scale: source.value, coefficients: [], factors: [] }]
  return [{ scale: 1, coefficients: [{ source, axes }], factors: [] }]
}

/** a + b where one side does not vary along the summed axes: only affine producers are distributed over, so no new tensor is read. */
function affine(a: readonly Term[], b: readonly Term[]): readonly Term[] | undefined {
  const constant = (terms: readonly Term[]): boolean => terms.every((term) => term.factors.length === 0)
  if (!constant(a) && !constant(b)) return undefined
  return a.length + b.length <= maxTerms ? [...a, ...b] : undefined
}

/**
 * a x b, where at most one side has several terms or the sides have no factor in common: (x - m) (x - m) stays as it is,
 * or the two-pass variance would lose its digits.
 */
function product(a: readonly Term[], b: readonly Term[]): readonly Term[] | undefined {
  const factors = new Set(a.flatMap((term) => term.factors))
  if (a.length > 1 && b.length > 1 && b.some((term) => term.factors.some((factor) => factors.has(factor))))
    return undefined
  const terms = a.flatMap((left) =>
    b.map((right) => ({
      scale: left.scale * right.scale,
      coefficients: [...left.coefficients, ...right.coefficients],
      factors: [...left.factors, ...right.factors],
    })),
  )
  return terms.length <= maxTerms && terms.every((term) => term.factors.length <= maxFactors) ? terms : undefined
}
