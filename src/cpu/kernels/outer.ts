// Prints the kernel of products whose reduced axis is the slow one of both operands, C = A^T B: dense filter gradients
// and transposed matrix products. The reduction may be split; sum.ts adds the partial results in order.
import { gatherArguments, printGather } from './gather.ts'
import { type KernelSource, printArguments } from './launch.ts'
import { printMicrokernel } from './microkernel.ts'
import { type Numeric, numericOf } from './numeric.ts'
import type { FloatDType } from '../../tensor/dtype.ts'

/** The most rows of C one part may have. */
export const outerRows = 144

/** The most columns of C one part may have: 512 bytes of a row. */
export function maxOuterColumns(numeric: Numeric): number {
  return 512 / numeric.computeBytes
}

/** Steps of the reduced axis taken at a time: a panel of B is 16 KB. */
function depthBlock(numeric: Numeric): number {
  return 1024 / numeric.computeBytes
}

/** Steps that are fetched ahead, since they are a whole row of the operand apart. */
const ahead = 4

/** Copies a block of A's steps into tiles: `[tile][step][row of the tile]`, rows past the last one zero. */
function printTiles(name: string, { storage, compute, dtype, storageBytes }: Numeric): string {
  return `
static __attribute__((noinline)) void ${name}_tiles(${compute} *restrict to, const ${storage} *restrict from, int64_t pitch, int64_t steps, int64_t count, int64_t tiles) {
  ${compute} line[${outerRows}] __attribute__((aligned(64)));
  for (int64_t r = count; r < tiles * PB_ROWS; ++r) line[r] = 0;
  for (int64_t i = 0; i < steps; ++i, from += pitch) {
    for (int64_t r = 0; r < count; r += ${64 / storageBytes}) __builtin_prefetch(from + ${ahead} * pitch + r);
    pb_widen_${dtype}(line, from, count);
    for (int64_t t = 0; t < tiles; ++t) memcpy(to + (t * steps + i) * PB_ROWS, line + t * PB_ROWS, PB_ROWS * sizeof(*line));
  }
}
`
}

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

function printMain(name: string, numeric: Numeric, rightPitch: number): string {
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
  ${compute} a[${depthBlock(numeric) * outerRows}] __attribute__((aligned(64))), b[${depthBlock(numeric) * rightPitch}] __attribute__((aligned(64)));
  ${compute} acc[${outerRows * maxOuterColumns(numeric)}] __attribute__((aligned(64)));
  if (end <= begin) memset(acc, 0, sizeof(acc));
  const int64_t blocks = (end - begin + ${depthBlock(numeric) - 1}) / ${depthBlock(numeric)}, block = (end - begin + blocks - 1) / PB_MAX(1, blocks);
  for (int64_t k = begin; k < end; k += block) {
    const int64_t steps = PB_MIN(block, end - k);
    ${name}_tiles(a, left + k * leftPitch, leftPitch, steps, count, tiles);
    ${name}_gather(b, right, n, table, k, steps, column, taken);
    for (int64_t i = 0; i < steps; ++i)
      for (int64_t c = taken; c < panels * ${panel}; ++c) b[i * ${rightPitch} + c] = 0;
    for (int64_t c = 0; c < panels; ++c)
      for (int64_t t = 0; t < tiles; ++t)
        ${name}_tile(steps, a + t * steps * PB_ROWS, b + c * ${panel}, acc + (c * tiles + t) * PB_ROWS * ${panel}, k == begin);
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
  const rightPitch = maxOuterColumns(numeric) + numeric.panel
  return {
    name,
    text: [
      printMicrokernel(`${name}_tile`, numeric, 'step-major', 'PB_ROWS', rightPitch),
      printGather(`${name}_gather`, numeric, rightPitch),
      printTiles(name, numeric),
      printMain(name, numeric, rightPitch),
    ].join(''),
  }
}
