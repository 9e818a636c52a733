// What one matrix product is, as plain data: extents, element types, precision, epilogue, and the text that keys it in the
// tuning cache. How cuBLASLt computes it is operation.ts's part; integer products are no part of this folder.
import { type DotExtents, type LibraryEquation, dotExtents } from '../../compile/index.ts'
import { type FloatDType, bytesOf, isFloat, isHalf } from '../../tensor/dtype.ts'
import { InternalError } from '../../tensor/errors.ts'
import { at } from '../../tensor/shape.ts'

/** Whether f32 products may round their operands to TF32; other types do not depend on it. */
export type Precision = 'tf32' | 'ieee'

/** What happens to each element before it is stored; the bias has n elements, one for each column. */
export type Epilogue = 'none' | 'bias' | 'relu' | 'bias-relu'

/**
 * C[b, m, n] = epilogue(sum over k of A[b, m, k] B[b, k, n]), dense and row-major; A is stored [b, k, m] and B [b, n, k]
 * where transposed. Sums are kept in f32, in f64 for f64.
 */
export interface MatmulProblem extends DotExtents {
  /** Of C and of the bias; `dtype` is that of A and B. */
  readonly resultDtype: FloatDType
  /** 'ieee' for every dtype but f32. */
  readonly precision: Precision
  readonly epilogue: Epilogue
}

/** A plan's product. */
export type DotEquation = Extract<LibraryEquation, { readonly primitive: 'dot' }>

/** The problem of a plan's product, without an epilogue; its operands are A, B, C. */
export function matmulProblem(equation: DotEquation, precision: Precision): MatmulProblem {
  const extents = dotExtents(equation)
  const { dtype } = at(equation.outputs, 0).type
  if (!isFloat(dtype)) throw new InternalError(`a product of ${extents.dtype} that gives ${dtype}`)
  return {
    ...extents,
    resultDtype: dtype,
    precision: extents.dtype === 'f32' ? precision : 'ieee',
    epilogue: 'none',
  }
}

/** Whether an operand for the bias stands between B and C. */
export function hasBias({ epilogue }: MatmulProblem): boolean {
  return epilogue === 'bias' || epilogue === 'bias-relu'
}

/** The largest extent that cuBLASLt counts with. */
const largest = 2 ** 31 - 1

/**
 * Whether cuBLASLt may be asked at all. It is not for results wider or narrower than the operands, other than f32 of
 * 16-bit ones; for extents past 2^31 - 1; and for a bias over an empty sum.
 */
export function supportedByCublasLt(problem: MatmulProblem): boolean {
  const { dtype, resultDtype, batch, m, n, k } = problem
  if (resultDtype !== dtype && !(isHalf(dtype) && resultDtype === 'f32')) return false
  if (k === 0 && hasBias(problem)) return false
  return [batch, m, n, k].every((extent) => extent <= largest)
}

/** The problem as text: equal texts are equal problems, on every machine and in every release. */
export function matmulKey(problem: MatmulProblem): string {
  const { dtype, resultDtype, batch, m, n, k, transposeA, transposeB, precision, epilogue } = problem
  const types = dtype === 'f32' ? `${dtype} ${precision}` : dtype
  const result = resultDtype === dtype ? '' : ` to ${resultDtype}`
  const layouts = `${transposeA ? 'T' : 'N'}${transposeB ? 'T' : 'N'}`
  return `dot ${types}${result} ${batch}x${m}x${n}x${k} ${layouts}${epilogue === 'none' ? '' : ` ${epilogue}`}`
}

/** Bytes of C. */
export function resultBytes({ batch, m, n, resultDtype }: MatmulProblem): number {
  return batch * m * n * bytesOf(resultDtype)
}
