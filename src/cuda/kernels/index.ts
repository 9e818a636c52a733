// Library steps as launches of our own kernels: every primitive, every dtype it takes. Faster ways to compute some of them
// compete elsewhere (cuDNN, cuBLASLt, grouped convolutions); what is here is right everywhere and needs no library.
import {
  type ConvEquation,
  type LibraryEquation,
  convExtents,
  dotExtents,
  indexedExtents,
} from '../../compile/index.ts'
import { bytesOf, isFloat } from '../../tensor/dtype.ts'
import { InternalError } from '../../tensor/errors.ts'
import { at, sizeOf } from '../../tensor/shape.ts'
import type { Candidate, Lowered } from '../work.ts'
import { lowerPlainConv } from './conv.ts'
import { lowerPlainDot } from './dot.ts'
import { lowerArgMax, lowerCopy, lowerGather } from './indexing.ts'
import { nothing } from './launch.ts'
import { lowerPooling } from './pooling.ts'
import { lowerScatterAdd } from './scatter.ts'

export { lowerPooling } from './pooling.ts'

/** Products and convolutions. */
export type Contraction = Extract<LibraryEquation, { readonly primitive: 'dot' }> | ConvEquation

/** Taking, adding and looking for the largest by index. */
export type Indexing = Extract<LibraryEquation, { readonly primitive: 'gather' | 'scatterAdd' | 'argMax' }>

/** The works of a library step by our own kernels; operands are the equation's inputs, then its output. */
export function lowerOwn(equation: LibraryEquation): Lowered {
  switch (equation.primitive) {
    case 'dot':
    case 'conv2d':
    case 'conv2dInputGrad':
    case 'conv2dFilterGrad':
      return lowerPlainContraction(equation)
    case 'maxPool2d':
    case 'maxPool2dGrad':
    case 'maxPool2dPick':
    case 'avgPool2d':
    case 'avgPool2dGrad':
      return lowerPooling(equation)
    case 'gather':
    case 'scatterAdd':
    case 'argMax':
      return lowerIndexing(equation)
    case 'allReduce': {
      const { shape, dtype } = at(equation.inputs, 0).type
      return sizeOf(shape) === 0 ? nothing : lowerCopy(sizeOf(shape) * bytesOf(dtype)) // a group of one
    }
    default:
      return equation satisfies never
  }
}

/**
 * A product or convolution by plain tiles: IEEE arithmetic (no Tensor Cores), f32 sums for 16-bit types, f64 for f64, in
 * an order that depends on extents alone. The fallback, and what faster candidates are compared with.
 */
export function lowerPlainContraction(equation: Contraction): Lowered {
  if (sizeOf(at(equation.outputs, 0).type.shape) === 0) return nothing
  if (equation.primitive === 'dot') return lowerPlainDot(dotExtents(equation))
  return lowerPlainConv(equation.primitive, convExtents(equation))
}

/** The same as one candidate among others. */
export function plainCandidate(equation: Contraction): Candidate {
  return { id: 'own:plain', ...lowerPlainContraction(equation) }
}

/** gather, scatterAdd and argMax. */
export function lowerIndexing(equation: Indexing): Lowered {
  const { type } = at(equation.outputs, 0)
  if (sizeOf(type.shape) === 0) return nothing
  const extents = indexedExtents(equation)
  switch (equation.primitive) {
    case 'gather':
      return lowerGather(extents)
    case 'argMax':
      return lowerArgMax(extents)
    case 'scatterAdd':
      if (!isFloat(type.dtype)) throw new InternalError(`scatterAdd of ${type.dtype}`)
      return lowerScatterAdd({ ...extents, dtype: type.dtype })
    default:
      return equation satisfies never
  }
}
