// The operands of grouped convolutions by name: their order for what is computed around them, and how a kernel gets those that
// it takes.
import type { PrintedPointer } from '../../compile/print/index.ts'
import { at } from '../../tensor/shape.ts'
import { givesSums } from './grouped-epilogue.ts'
import { extentNames } from './grouped-stream.ts'
import type { Around } from './grouped-tiling.ts'
import { operand } from './launch.ts'

/** The number behind the extents that a kernel is told if it knows the batch norm in front of the convolution: as bits. */
const factor = `pb_float_of_bits((uint32_t)a.n[${extentNames.length}])`

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
  /** Batch norm's three vectors, and what the mean is of the first, as C. */
  readonly printVectors: (where: keyof typeof vectors) => string
}

/** The numbers of a kernel behind its extents. */
export function factorsOf(around: Around): readonly number[] {
  return placeBefore(around) === undefined
    ? []
    : [at(new Uint32Array(Float32Array.of(around.meanFactor ?? 1).buffer), 0)]
}

/** The pointers of a kernel that takes some operands, and where they are. */
export function take(
  around: Around,
  names: readonly OperandName[],
  place: (name: OperandName) => PrintedPointer,
): Taken {
  const print = (name: OperandName): string => (names.includes(name) ? `a.p[${names.indexOf(name)}]` : 'nullptr')
  return {
    pointers: names.map(place),
    print,
    printVectors: (where) => {
      const pointers = vectors[where].map((name) => `(const float *)${print(name)}`)
      return `{${[...pointers, where === placeBefore(around) ? factor : '1.0f'].join(', ')}}`
    },
  }
}

/** Where the batch norm in front of the convolution is: in front of a gradient's result it comes behind that. */
function placeBefore({ normalizes, epilogue }: Around): keyof typeof vectors | undefined {
  return normalizes ? 'before' : epilogue === 'mask' ? 'after' : undefined
}

/** An operand of the step. */
export function placeOf(around: Around, name: OperandName): PrintedPointer {
  return operand(operandNames(around).indexOf(name))
}
