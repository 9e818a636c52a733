// Prints the kernels that rearrange weights before a product: `pack` lays a matrix out in panels of adjacent columns,
// `transpose` turns a matrix over, `sum` adds partial results in a fixed order.
import { type KernelSource, type Launch, type PointerRef, ceilDiv, listArguments, printArguments } from './launch.ts'
import { type Numeric, numericOf } from './numeric.ts'
import type { FloatDType } from '../../tensor/dtype.ts'

/**
 * int64 arguments of `pack`; a table of tap indices follows. Column c of matrix `outer` at step (tap, k) is the source
 * element `outer * outerPitch + (c / group) * groupPitch + (c % group) * columnPitch + table[tap] * tapPitch + k *
 * depthPitch`; it goes to `[outer][c / panel][tap][k][c % panel]`, columns past the last one are zero.
 */
const packArguments = [
  'columns',
  'group',
  'taps',
  'depth',
  'outerPitch',
  'groupPitch',
  'columnPitch',
  'tapPitch',
  'depthPitch',
  'panel',
  'panels',
  'panelsPerPart',
  'stepsPerPart',
] as const

type PackValues = Readonly<Record<(typeof packArguments)[number], number>>

/** What `lowerPack` needs to know; pitches in elements of the source. */
export interface PackLayout extends Omit<PackValues, 'taps' | 'panels' | 'panelsPerPart' | 'stepsPerPart'> {
  readonly outer: number
  readonly taps: readonly number[]
}

/** Panels one part packs side by side, so that it reads longer runs of the source. */
const panelsTogether = 8

/** Packs steps begin..end of one tap for panels first..last; three ways, by what lies side by side in the source. */
function printPackSteps(name: string, { storage, compute, dtype, lanes, vector }: Numeric): string {
  const type = vector.slice(3)
  return `
PB_INLINE int64_t ${name}_offset(const int64_t *n, int64_t column) {
  ${printArguments(packArguments)}
  return column / group * groupPitch + column % group * columnPitch;
}
static void ${name}_scalar(${compute} *to, const ${storage} *from, const int64_t *n, int64_t column, int64_t begin, int64_t end) {
  ${printArguments(packArguments)}
  for (int64_t c = 0; c < panel; ++c) {
    const ${storage} *at = from + ${name}_offset(n, column + c);
    for (int64_t k = begin; k < end; ++k) to[k * panel + c] = column + c < columns ? pb_get_${dtype}(at + k * depthPitch) : 0;
  }
}
static void ${name}_steps(${compute} *to, const ${storage} *from, const int64_t *n, int64_t first, int64_t last, int64_t begin, int64_t end) {
  ${printArguments(packArguments)}
  const int64_t pitch = taps * depth * panel;
  int64_t whole = first;
  while (whole < last && (whole + 1) * panel <= columns && group % panel == 0) ++whole;
  if (columnPitch == 1) {
    int64_t offsets[${panelsTogether}];
    for (int64_t i = first; i < whole; ++i) offsets[i - first] = ${name}_offset(n, i * panel);
    for (int64_t k = begin; k < end; ++k)
      for (int64_t i = first; i < whole; ++i) pb_widen_${dtype}(to + i * pitch + k * panel, from + offsets[i - first] + k * depthPitch, panel);
  } else if (depthPitch == 1) {
    const int64_t squares = begin + (end - begin) / ${lanes} * ${lanes};
    for (int64_t i = first; i < whole; ++i) {
      for (int64_t c = 0; c < panel; c += ${lanes}) {
        const ${storage} *at = from + ${name}_offset(n, i * panel + c);
        for (int64_t k = begin; k < squares; k += ${lanes}) {
          ${vector} square[${lanes}];
          for (int j = 0; j < ${lanes}; ++j) square[j] = pb_load_${dtype}(at + j * columnPitch + k);
          pb_transpose_${type}(square);
          for (int j = 0; j < ${lanes}; ++j) pb_write_${type}(to + i * pitch + (k + j) * panel + c, square[j]);
        }
      }
      ${name}_scalar(to + i * pitch, from, n, i * panel, squares, end);
    }
  } else whole = first;
  for (int64_t i = whole; i < last; ++i) ${name}_scalar(to + i * pitch, from, n, i * panel, begin, end);
}
`
}

function printPack(dtype: FloatDType): KernelSource {
  const numeric = numericOf(dtype)
  const { storage, compute } = numeric
  const name = `pb_pack_${dtype}`
  const text = `${printPackSteps(name, numeric)}
void ${name}(void *const *p, const int64_t *n, int64_t part) {
  ${printArguments(packArguments)}
  const int64_t *table = n + ${packArguments.length};
  const int64_t panelParts = (panels + panelsPerPart - 1) / panelsPerPart, stepParts = (taps * depth + stepsPerPart - 1) / stepsPerPart;
  const int64_t first = part / stepParts % panelParts * panelsPerPart, outer = part / stepParts / panelParts;
  const int64_t begin = part % stepParts * stepsPerPart, end = PB_MIN(taps * depth, begin + stepsPerPart);
  ${compute} *to = (${compute} *)p[1] + outer * panels * taps * depth * panel;
  const ${storage} *from = (const ${storage} *)p[0] + outer * outerPitch;
  for (int64_t step = begin, next; step < end; step = next) {
    const int64_t tap = step / depth;
    next = PB_MIN(end, (tap + 1) * depth);
    ${name}_steps(to + tap * depth * panel, from + table[tap] * tapPitch, n, first, PB_MIN(panels, first + panelsPerPart), step - tap * depth, next - tap * depth);
  }
}
`
  return { name, text }
}

/** Elements of the packed matrix. */
export function packedElements({ outer, columns, panel, taps, depth }: PackLayout): number {
  return outer * ceilDiv(columns, panel) * panel * taps.length * depth
}

/** Packs `from` into panels at `to` (of the compute type). */
export function lowerPack(dtype: FloatDType, layout: PackLayout, from: PointerRef, to: PointerRef): Launch {
  const panels = ceilDiv(layout.columns, layout.panel)
  const steps = layout.taps.length * layout.depth
  const panelsPerPart = Math.min(panels, panelsTogether)
  const stepsPerPart = Math.max(64, ceilDiv(16384, panelsPerPart * layout.panel * 64) * 64)
  const values = { ...layout, taps: layout.taps.length, panels, panelsPerPart, stepsPerPart }
  return {
    source: printPack(dtype),
    parts: layout.outer * ceilDiv(panels, panelsPerPart) * ceilDiv(steps, stepsPerPart),
    pointers: [from, to],
    numbers: [...listArguments(packArguments, values), ...layout.taps],
  }
}

const transposeArguments = ['rows', 'columns', 'bands'] as const

/** Turns each of `batch` matrices [rows, columns] at `from` over into [columns, rows] at `to`; nothing is converted. */
export function lowerTranspose(
  dtype: FloatDType,
  extents: { readonly batch: number; readonly rows: number; readonly columns: number },
  from: PointerRef,
  to: PointerRef,
): Launch {
  const { storage } = numericOf(dtype)
  const name = `pb_transpose_${dtype}`
  const text = `
void ${name}(void *const *p, const int64_t *n, int64_t part) {
  ${printArguments(transposeArguments)}
  const int64_t matrix = part / bands * rows * columns, first = part % bands * 32, last = PB_MIN(rows, first + 32);
  const ${storage} *from = (const ${storage} *)p[0] + matrix;
  ${storage} *to = (${storage} *)p[1] + matrix;
  for (int64_t c0 = 0; c0 < columns; c0 += 32)
    for (int64_t c = c0; c < PB_MIN(columns, c0 + 32); ++c)
      for (int64_t r = first; r < last; ++r) to[c * rows + r] = from[r * columns + c];
}
`
  const bands = ceilDiv(extents.rows, 32)
  return {
    source: { name, text },
    parts: extents.batch * bands,
    pointers: [from, to],
    numbers: listArguments(transposeArguments, { ...extents, bands }),
  }
}

const sumArguments = ['count', 'splits', 'perPart'] as const

/** Adds `splits` partial results of `count` elements (compute type) at `from`, first to last, into `to` (storage type). */
export function lowerSum(
  dtype: FloatDType,
  extents: { readonly count: number; readonly splits: number },
  from: PointerRef,
  to: PointerRef,
): Launch {
  const { storage, compute, lanes, vector } = numericOf(dtype)
  const name = `pb_sum_${dtype}`
  const type = vector.slice(3)
  const text = `
void ${name}(void *const *p, const int64_t *n, int64_t part) {
  ${printArguments(sumArguments)}
  const ${compute} *from = (const ${compute} *)p[0];
  ${storage} *to = (${storage} *)p[1];
  int64_t i = part * perPart;
  const int64_t end = PB_MIN(count, i + perPart);
  for (; i + ${lanes} <= end; i += ${lanes}) {
    ${vector} total = pb_read_${type}(from + i);
    for (int64_t s = 1; s < splits; ++s) total += pb_read_${type}(from + s * count + i);
    pb_store_${dtype}(to + i, total);
  }
  for (; i < end; ++i) {
    ${compute} total = from[i];
    for (int64_t s = 1; s < splits; ++s) total += from[s * count + i];
    pb_put_${dtype}(to + i, total);
  }
}
`
  const perPart = 8192
  return {
    source: { name, text },
    parts: ceilDiv(extents.count, perPart),
    pointers: [from, to],
    numbers: listArguments(sumArguments, { ...extents, perPart }),
  }
}
