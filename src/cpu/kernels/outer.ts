// Prints the kernel of products whose reduced axis is the slow one of both operands, C = A^T B: dense filter gradients
// and transposed matrix products. The reduction may be split; sum.ts adds the partial results in order.
import { gatherArguments, printGather } from './gather.ts'
import { type KernelSource, printArguments } from './launch.ts'
import { printMicrokernel } from './microkernel.ts'
import { type Numeric, numericOf } from './numeric.ts'
import type { FloatDType } from '../../tensor/dtype.ts'

/** The most rows of C one part may have. */
export const outerRows = 96

/** The most columns of C one part may have: 1 KB of a row. */
export function maxOuterColumns(numeric: Numeric): number {
  return 1024 / numeric.computeBytes
}

/** Steps of the reduced axis taken at a time: a panel of B is 8 KB. */
const depthBlock = 128

/**
 * int64 arguments: the gather's (of B's rows), then those of the product. A's step k is `leftPitch` elements from the
 * one before. C[row][column] lies at `row * outputPitch + column`. With `splits` > 1, C is a partial result of the
 * compute type, `partial` elements for each split.
 */
export const outerArguments = [
  ...gatherArguments,
  'rows',
  'columns',
  'depth',
  'leftPitch',
  'leftOuter',
  'rightOuter',
  'outputOuter',
  'outputPitch',
  'partial',
  'rowsPerPart',
  'columnsPerPart',
  'depthPerPart',
  'rowParts',
  'columnParts',
  'splits',
] as const

function printMain(name: string, numeric: Numeric, leftPitch: number, rightPitch: number): string {
  const { storage, compute, dtype, panel } = numeric
  return `
void ${name}(void *const *p, const int64_t *n, int64_t part) {
  ${printArguments(outerArguments)}
  const int64_t *table = n + ${outerArguments.length};
  const int64_t columnPart = part % columnParts, rowPart = part / columnParts % rowParts;
  const int64_t split = part / columnParts / rowParts % splits, outer = part / columnParts / rowParts / splits;
  const int64_t row = rowPart * rowsPerPart, count = PB_MIN(rowsPerPart, rows - row), tiles = (count + PB_ROWS - 1) / PB_ROWS;
  const int64_t column = columnPart * columnsPerPart, taken = PB_MIN(columnsPerPart, columns - column), panels = (taken + ${panel - 1}) / ${panel};
  const int64_t begin = split * depthPerPart, end = PB_MIN(depth, begin + depthPerPart);
  const ${storage} *left = (const ${storage} *)p[0] + outer * leftOuter + row;
  const ${storage} *right = (const ${storage} *)p[1] + outer * rightOuter;
  ${compute} a[${depthBlock * leftPitch}] __attribute__((aligned(64))), b[${depthBlock * rightPitch}] __attribute__((aligned(64)));
  ${compute} acc[${outerRows * maxOuterColumns(numeric)}] __attribute__((aligned(64)));
  if (end <= begin) memset(acc, 0, sizeof(acc));
  for (int64_t k = begin; k < end; k += ${depthBlock}) {
    const int64_t steps = PB_MIN(${depthBlock}, end - k);
    for (int64_t i = 0; i < steps; ++i) {
      pb_widen_${dtype}(a + i * ${leftPitch}, left + (k + i) * leftPitch, count);
      for (int64_t r = count; r < tiles * PB_ROWS; ++r) a[i * ${leftPitch} + r] = 0;
    }
    ${name}_gather(b, right, n, table, k, steps, column, taken);
    for (int64_t i = 0; i < steps; ++i)
      for (int64_t c = taken; c < panels * ${panel}; ++c) b[i * ${rightPitch} + c] = 0;
    for (int64_t c = 0; c < panels; ++c)
      for (int64_t t = 0; t < tiles; ++t)
        ${name}_tile(steps, a + t * PB_ROWS, b + c * ${panel}, acc + (c * tiles + t) * PB_ROWS * ${panel}, k == begin);
  }
  for (int64_t r = 0; r < count; ++r)
    for (int64_t c = 0; c < taken; c += ${panel}) {
      const ${compute} *from = acc + (c / ${panel} * tiles * PB_ROWS + r) * ${panel};
      const int64_t at = outer * outputOuter + (row + r) * outputPitch + column + c, length = PB_MIN(${panel}, taken - c);
      if (splits > 1) memcpy((${compute} *)p[2] + split * partial + at, from, length * sizeof(*from));
      else pb_narrow_${dtype}((${storage} *)p[2] + at, from, length);
    }
}
`
}

/** The kernel for one element type. */
export function printOuter(dtype: FloatDType): KernelSource {
  const numeric = numericOf(dtype)
  const name = `pb_outer_${dtype}`
  const leftPitch = outerRows + numeric.panel
  const rightPitch = maxOuterColumns(numeric) + numeric.panel
  return {
    name,
    text: [
      printMicrokernel(`${name}_tile`, numeric, 'step-major', leftPitch, rightPitch),
      printGather(`${name}_gather`, numeric, rightPitch),
      printMain(name, numeric, leftPitch, rightPitch),
    ].join(''),
  }
}
