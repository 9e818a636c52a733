// Prints the kernel of matrix products and of dense convolutions and their input gradients: rows of A are gathered
// block by block, B comes packed in panels (pack.ts). C = A B; what A's rows are is left to dot.ts and conv.ts.
import { gatherArguments, printGather } from './gather.ts'
import { type KernelSource, printArguments } from './launch.ts'
import { printMicrokernel } from './microkernel.ts'
import { type Numeric, numericOf } from './numeric.ts'
import type { FloatDType } from '../../tensor/dtype.ts'

/** Rows gathered at a time. */
export const rowBlock = 48

/** The most columns one part may have: 1 KB of a row. */
export function maxColumns(numeric: Numeric): number {
  return 1024 / numeric.computeBytes
}

/** Steps of the reduced axis gathered at a time: 1 KB of a row. */
function depthBlock(numeric: Numeric): number {
  return 1024 / numeric.computeBytes
}

/**
 * int64 arguments: the gather's, then those of the product. `outer` counts groups or matrices of a batch; a table of
 * (y, x) for every segment follows. The destination of grid pixel (image, y, x) is `image * imagePitch + y * rowPitch +
 * x * pixelPitch`. Operands: source, packed weights, destination with their offsets already applied by `*Origin`.
 */
export const rowsArguments = [
  ...gatherArguments,
  'rows',
  'columns',
  'depth',
  'sourceOuter',
  'weightOuter',
  'weightPanel',
  'weightOrigin',
  'outputOuter',
  'outputOrigin',
  'imagePitch',
  'rowPitch',
  'pixelPitch',
  'rowsPerPart',
  'columnsPerPart',
  'rowParts',
  'columnParts',
] as const

function printStore(name: string, { storage, compute, dtype, panel }: Numeric): string {
  return `
static void ${name}_store(${storage} *to, const ${compute} *acc, const int64_t *n, int64_t row, int64_t count, int64_t taken, int64_t tiles) {
  ${printArguments(rowsArguments)}
  int64_t x = row % gridWidth, y = row / gridWidth % gridHeight, image = row / gridWidth / gridHeight;
  for (int64_t r = 0; r < count; ++r) {
    ${storage} *out = to + image * imagePitch + y * rowPitch + x * pixelPitch;
    const ${compute} *from = acc + r * ${panel};
    for (int64_t c = 0; c < taken; c += ${panel}, from += tiles * PB_ROWS * ${panel}) {
      if (taken - c >= ${panel}) pb_narrow_${dtype}(out + c, from, ${panel});
      else pb_narrow_${dtype}(out + c, from, taken - c);
    }
    if (++x == gridWidth) { x = 0; if (++y == gridHeight) { y = 0; ++image; } }
  }
}
`
}

function printMain(name: string, numeric: Numeric, pitch: number): string {
  const { storage, compute, panel } = numeric
  return `
void ${name}(void *const *p, const int64_t *n, int64_t part) {
  ${printArguments(rowsArguments)}
  const int64_t *table = n + ${rowsArguments.length};
  const int64_t columnPart = part % columnParts, rowPart = part / columnParts % rowParts, outer = part / columnParts / rowParts;
  const int64_t column = columnPart * columnsPerPart, partColumns = PB_MIN(columnsPerPart, columns - column);
  const int64_t row = rowPart * rowsPerPart, partRows = PB_MIN(rowsPerPart, rows - row), panels = (partColumns + ${panel - 1}) / ${panel};
  const ${storage} *source = (const ${storage} *)p[0] + outer * sourceOuter;
  const ${compute} *weights = (const ${compute} *)p[1] + weightOrigin + outer * weightOuter + column / ${panel} * weightPanel;
  ${storage} *output = (${storage} *)p[2] + outputOrigin + outer * outputOuter + column;
  ${compute} a[${rowBlock * pitch}] __attribute__((aligned(64))), acc[${rowBlock * maxColumns(numeric)}] __attribute__((aligned(64)));
  const int64_t blocks = (partRows + ${rowBlock - 1}) / ${rowBlock}, tilesPerBlock = (partRows + blocks * PB_ROWS - 1) / (blocks * PB_ROWS);
  const int64_t steps = (depth + ${depthBlock(numeric) - 1}) / ${depthBlock(numeric)}, stepDepth = steps ? (depth + steps - 1) / steps : 0;
  for (int64_t r = 0; r < partRows; r += tilesPerBlock * PB_ROWS) {
    const int64_t count = PB_MIN(tilesPerBlock * PB_ROWS, partRows - r), tiles = (count + PB_ROWS - 1) / PB_ROWS;
    if (depth == 0) memset(acc, 0, sizeof(acc));
    for (int64_t k = 0; k < depth; k += stepDepth) {
      const int64_t taken = PB_MIN(stepDepth, depth - k);
      ${name}_gather(a, source, n, table, row + r, count, k, taken);
      for (int64_t pad = count; pad < tiles * PB_ROWS; ++pad) memset(a + pad * ${pitch}, 0, taken * sizeof(*a));
      for (int64_t c = 0; c < panels; ++c)
        for (int64_t t = 0; t < tiles; ++t)
          ${name}_tile(taken, a + t * PB_ROWS * ${pitch}, weights + c * weightPanel + k * ${panel}, acc + (c * tiles + t) * PB_ROWS * ${panel}, k == 0);
    }
    ${name}_store(output, acc, n, row + r, count, partColumns, tiles);
  }
}
`
}

/** The kernel for one element type. */
export function printRows(dtype: FloatDType): KernelSource {
  const numeric = numericOf(dtype)
  const name = `pb_rows_${dtype}`
  const pitch = depthBlock(numeric) + numeric.lanes
  return {
    name,
    text: [
      printMicrokernel(`${name}_tile`, numeric, 'row-major', pitch, numeric.panel),
      printGather(`${name}_gather`, numeric, pitch),
      printStore(name, numeric),
      printMain(name, numeric, pitch),
    ].join(''),
  }
}
