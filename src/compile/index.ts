// Program -> Plan: decompose, simplify, normalise sums, choose what has memory, fuse, order, place. Each pass is a
// function of a Program or its parts; devices take the Plan from here.
import type { OptimizeLevel } from '../tensor/device.ts'
import { bytesOf } from '../tensor/dtype.ts'
import type { Equation, Program, Var } from '../tensor/program.ts'
import { at, sizeOf, zip } from '../tensor/shape.ts'
import { verifyProgram } from '../tensor/verify.ts'
import { kernelBytes, kernelFlops, libraryBytes, libraryFlops } from './cost.ts'
import { decompose } from './decompose.ts'
import { castInputsFirst, finishProgram } from './finish.ts'
import { type Item, group } from './group.ts'
import { lowerKernel } from './lower-kernel.ts'
import { type Values, materialize } from './materialize.ts'
import { placeSteps } from './place-steps.ts'
import type { KernelStep, LibraryEquation, LibraryStep, Plan } from './plan.ts'
import { rematerialize } from './rematerialize.ts'
import { simplifyEquation } from './simplify.ts'
import { normalizeSums } from './sums.ts'

export { epilogueAlone, inputCount } from './kernel.ts'
export type { Access, Kernel, KernelInput, KernelNode, KernelReduction, KernelStore, LoopAxis } from './kernel.ts'
export type {
  KernelStep,
  LibraryEquation,
  LibraryPrimitive,
  LibraryStep,
  Place,
  Plan,
  PlanBuffer,
  Step,
} from './plan.ts'
export {
  type ConvEquation,
  type ConvExtents,
  type DotExtents,
  type IndexedExtents,
  type PoolEquation,
  type PoolExtents,
  convDepth,
  convExtents,
  dotExtents,
  indexedExtents,
  poolExtents,
} from './extents.ts'
export { type ProfileFigures, describeStep, showProfile, workOf } from './profile.ts'
export { showKernel, showPlan } from './show.ts'
export { placeSteps } from './place-steps.ts'
export { equationKey, kernelKey, stepKey } from './step-key.ts'

export interface PlanOptions {
  readonly optimize: OptimizeLevel
  readonly donate: readonly number[]
  /** Check every pass' result; always on under test, where PULLBACK_VERIFY is 1. */
  readonly verify?: boolean
}

/** The program after the passes that still give programs. */
export function optimizeProgram(program: Program, optimize: OptimizeLevel, verify = false): Program {
  const check = (result: Program, pass: string): Program => (verify ? verifyProgram(result, pass) : result)
  if (optimize === 'none') return check(decompose(program), 'decompose')
  const simple = check(decompose(program, simplifyEquation), 'decompose and simplify')
  return check(normalizeSums(simple), 'normalizeSums')
}

/** The plan of a program. */
export function compileProgram(program: Program, options: PlanOptions): Plan {
  const verify = options.verify ?? process.env['PULLBACK_VERIFY'] === '1'
  const fuse = options.optimize === 'fuse'
  const simplified = optimizeProgram(program, options.optimize, verify)
  const arranged = fuse ? castInputsFirst(rematerialize(simplified)) : simplified
  const optimized = finishProgram(arranged, options.donate)
  if (verify) verifyProgram(optimized, 'finishProgram')
  const values = materialize(optimized, !fuse)
  const items = group(optimized, values, fuse)
  return assemble(optimized, values, items, options.donate, verify)
}

function assemble(
  program: Program,
  values: Values,
  items: readonly Item[],
  donate: readonly number[],
  verify: boolean,
): Plan {
  const numbers = new Map<Var, number>()
  const variables: Var[] = []
  const bufferOf = (v: Var): number => {
    const storage = values.storageOf(v) ?? v
    const known = numbers.get(storage)
    if (known !== undefined) return known
    numbers.set(storage, variables.length)
    return variables.push(storage) - 1
  }
  const inputs = program.inputs.map(bufferOf)
  const steps = items.map((item) =>
    item.kind === 'library' ? libraryStep(item.equation, bufferOf) : kernelStep(item, values, bufferOf),
  )
  const outputs = program.outputs.flatMap((output) => (output.kind === 'var' ? [bufferOf(output)] : []))
  const buffers = variables.map(({ type }) => ({ type, bytes: sizeOf(type.shape) * bytesOf(type.dtype) }))
  const { places, arenaBytes, after } = placeSteps(buffers, steps, inputs, outputs, donate, verify)
  return {
    buffers: zip(buffers, places).map(([buffer, place]) => ({ ...buffer, place })),
    steps: steps.map((step, index) => ({ ...step, after: at(after, index) })),
    arenaBytes,
    inputs,
    outputs,
  }
}

function libraryStep(equation: Equation, bufferOf: (v: Var) => number): Omit<LibraryStep, 'after'> {
  const library = equation as LibraryEquation
  return {
    kind: 'library',
    equation: library,
    inputs: equation.inputs.flatMap((input) => (input.kind === 'var' ? [bufferOf(input)] : [])),
    outputs: equation.outputs.map(bufferOf),
    bytes: libraryBytes(library),
    flops: libraryFlops(library),
    label: equation.primitive,
  }
}

function kernelStep(
  item: Extract<Item, { kind: 'group' }>,
  values: Values,
  bufferOf: (v: Var) => number,
): Omit<KernelStep, 'after'> {
  const { kernel, inputs, outputs } = lowerKernel(item, values)
  return {
    kind: 'kernel',
    kernel,
    inputs: inputs.map(bufferOf),
    outputs: outputs.map(bufferOf),
    bytes: kernelBytes(kernel),
    flops: kernelFlops(kernel),
    label: kernel.reductions.length > 0 ? 'reduce' : 'map',
  }
}
