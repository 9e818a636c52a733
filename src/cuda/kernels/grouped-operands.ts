// The operands of grouped convolutions by name: their order for what is computed around them, and how a kernel gets those that
// it takes.
import type { PrintedPointer } from '../../compile/print/index.ts'
import { givesSums } from './grouped-epilogue.ts'
import type { Around } from './grouped-tiling.ts'
import { operand } from './launch.ts'

const vectors = {
  before: ['meanBefore', 'scaleBefore', 'shiftBefore'],
  after: ['meanAfter', 'scaleAfter', 'shiftAfter'],
} as const

/** One operand. For the filter gradient the weights are the cotangent. */
export type OperandName =
  | 'from'
  | 'weights'
  | 'into'
  | 'source'
  /** What blocks leave of sums over the results, f32 [parts, 2, channels]. */
  | 'partials'
  | (typeof vectors)['before' | 'after'][number]

/** The operands of a candidate, in order. */
export function operandNames({ normalizes, epilogue }: Around): readonly OperandName[] {
  return [
    'from',
    ...(normalizes ? vectors.before : []),
    'weights',
    ...(epilogue === 'mask' ? (['source'] as const) : []),
    ...(epilogue === 'mask' || epilogue === 'normalize' ? vectors.after : []),
    'into',
    ...(givesSums(epilogue) ? (['partials'] as const) : []),
  ]
}

/** What a kernel takes. */
export interface Taken {
  /** In order. */
  readonly pointers: readonly PrintedPointer[]
  /** Operands as C; what the kernel does not take is a null pointer. */
  readonly print: (name: OperandName) => string
  /** Batch norm's three vectors as C. */
  readonly printVectors: (where: keyof typeof vectors) => string
}

/** The pointers of a kernel that takes some operands, and where they are. */
export function take(
  names: readonly OperandName[],
  place: (name: OperandName) => PrintedPointer,
): Taken {
  const print = (name: OperandName): string => (names.includes(name) ? `a.p[${names.indexOf(name)}]` : 'nullptr')
  return {
    pointers: names.map(place),
    print,
    printVectors: (where) => `{${vectors[where].map((name) => `(const float *)${print(name)}`).join(', ')}}`,
  }
}

/** An operand of the step. */
export function placeOf(around: Around, name: OperandName): PrintedPointer {
  return operand(operandNames(around).indexOf(name))
}
