// Prints the kernels that rearrange weights before a product: `pack` lays a matrix out in panels of adjacent columns,
// `transpose` turns a matrix over, `sum` adds partial results in a fixed order.
import { type KernelSource, type Launch, type PointerRef, ceilDiv, listArguments, printArguments } from './launch.ts'
import { numericOf } from './numeric.ts'
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
] as const

type PackValues = Readonly<Record<(typeof packArguments)[number], number>>

/** What `lowerPack` needs to know; pitches in elements of the source. */
export interface PackLayout extends Omit<PackValues, 'taps' | 'panels' | 'panelsPerPart'> {
  readonly outer: number
  readonly taps: readonly number[]
}

function printPack(dtype: FloatDType): KernelSource {
  const { storage, compute, lanes, vector } = numericOf(dtype)
  const name = `pb_pack_${dtype}`
  const text = `
static void ${name}_panel(${compute} *to, const ${storage} *from, const int64_t *n, const int64_t *table, int64_t column) {
  ${printArguments(packArguments)}
  const int64_t width = PB_MIN(panel, columns - column), offset = column / group * groupPitch + column % group * columnPitch;
  const int inside = width == panel && column / group == (column + width - 1) / group;
  for (int64_t t = 0; t < taps; ++t, to += depth * panel) {
    const ${storage} *tap = from + table[t] * tapPitch;
    int64_t k = 0;
    if (inside && columnPitch == 1)
      for (; k < depth; ++k) pb_widen_${dtype}(to + k * panel, tap + offset + k * depthPitch, panel);
    if (inside && depthPitch == 1)
      for (; k + ${lanes} <= depth; k += ${lanes})
        for (int64_t c = 0; c < panel; c += ${lanes}) {
          ${vector} square[${lanes}];
          for (int i = 0; i < ${lanes}; ++i) square[i] = pb_load_${dtype}(tap + offset + (c + i) * columnPitch + k);
          pb_transpose_${vector.slice(3)}(square);
          for (int i = 0; i < ${lanes}; ++i) pb_write_${vector.slice(3)}(to + (k + i) * panel + c, square[i]);
        }
    for (; k < depth; ++k)
      for (int64_t c = 0; c < panel; ++c) {
        const int64_t at = column + c;
        to[k * panel + c] = c < width ? pb_get_${dtype}(tap + at / group * groupPitch + at % group * columnPitch + k * depthPitch) : 0;
      }
  }
}
void ${name}(void *const *p, const int64_t *n, int64_t part) {
  ${printArguments(packArguments)}
  const int64_t *table = n + ${packArguments.length};
  const int64_t partsPerOuter = (panels + panelsPerPart - 1) / panelsPerPart, outer = part / partsPerOuter;
  const int64_t first = part % partsPerOuter * panelsPerPart, last = PB_MIN(panels, first + panelsPerPart);
  for (int64_t i = first; i < last; ++i)
    ${name}_panel((${compute} *)p[1] + (outer * panels + i) * taps * depth * panel, (const ${storage} *)p[0] + outer * outerPitch, n, table, i * panel);
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
  const perPanel = layout.taps.length * layout.depth * layout.panel
  const panelsPerPart = Math.max(1, Math.min(panels, Math.floor(16384 / Math.max(1, perPanel))))
  const values = { ...layout, taps: layout.taps.length, panels, panelsPerPart }
  return {
    source: printPack(dtype),
    parts: layout.outer * ceilDiv(panels, panelsPerPart),
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
