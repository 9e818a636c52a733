// Which part lowers which step: fused kernels through the printer, and one row for each library primitive. The parts
// themselves are in conv/, matmul/ and kernels/.
import type { LibraryEquation, LibraryPrimitive, Step } from '../compile/index.ts'
import { blockThreads, cudaDialect, printKernel } from '../compile/print/index.ts'
import { bytesOf } from '../tensor/dtype.ts'
import { InternalError } from '../tensor/errors.ts'
import type { EquationOf } from '../tensor/program.ts'
import { at, sizeOf } from '../tensor/shape.ts'
import type { Runtime } from './runtime/index.ts'
import type { Lowered } from './work.ts'

/** What the parts that lower library steps may use and must respect. */
export interface LibraryContext {
  readonly runtime: Runtime
  /** Whether f32 products may round their operands to TF32 for the Tensor Cores. */
  readonly precision: 'tf32' | 'ieee'
  /** Whether the same input must give the same bits in each run. */
  readonly deterministic: boolean
  readonly environment: NodeJS.ProcessEnv
}

type Row<P extends LibraryPrimitive> = (equation: EquationOf<P>, context: LibraryContext) => Lowered

const rows: { readonly [P in LibraryPrimitive]: Row<P> } = {
  dot: unwritten,
  conv2d: unwritten,
  conv2dInputGrad: unwritten,
  conv2dFilterGrad: unwritten,
  maxPool2d: unwritten,
  maxPool2dGrad: unwritten,
  maxPool2dPick: unwritten,
  avgPool2d: unwritten,
  avgPool2dGrad: unwritten,
  gather: unwritten,
  scatterAdd: unwritten,
  argMax: unwritten,
  allReduce: copyOfOperand, // of one process: sum and mean are the operand
}

/** The works of a step. */
export function lowerStep(step: Step, context: LibraryContext): Lowered {
  if (step.kind === 'library') return lowerLibrary(step.equation, context)
  const { launches, scratchBytes } = printKernel(step.kernel, cudaDialect)
  const works = launches.map(({ source, parts, pointers, numbers }) => {
    return { kind: 'kernel', source, blocks: parts, threads: blockThreads, sharedBytes: 0, pointers, numbers } as const
  })
  return { works, scratchBytes }
}

/** The works of a library step; operands are the equation's inputs, then its outputs. */
export function lowerLibrary(equation: LibraryEquation, context: LibraryContext): Lowered {
  if (equation.outputs.every(({ type }) => sizeOf(type.shape) === 0)) return { works: [], scratchBytes: 0 }
  const row = rows[equation.primitive] as (equation: LibraryEquation, context: LibraryContext) => Lowered
  return row(equation, context)
}

function unwritten({ primitive }: LibraryEquation): Lowered {
  throw new InternalError(`${primitive} has no lowering for cuda yet`)
}

function copyOfOperand({ primitive, inputs }: EquationOf<'allReduce'>, { runtime }: LibraryContext): Lowered {
  const { type } = at(inputs, 0)
  const bytes = sizeOf(type.shape) * bytesOf(type.dtype)
  const { driver } = runtime.session
  return {
    works: [
      {
        kind: 'call',
        label: `${primitive} of one process`,
        enqueue: (stream, operands) => driver.copyOnDevice(at(operands, 1), at(operands, 0), bytes, stream),
      },
    ],
    scratchBytes: 0,
  }
}
