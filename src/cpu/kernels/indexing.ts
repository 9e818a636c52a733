// Lowers taking slices by index, its transpose, the place of the largest element, and plain copies.
import type { IndexedExtents } from '../../compile/index.ts'
import { type DType, type FloatDType, bytesOf } from '../../tensor/dtype.ts'
import { type KernelSource, type Lowered, Scratch, ceilDiv, listArguments, operand, printArguments } from './launch.ts'
import { numericOf } from './numeric.ts'

const gatherArguments = ['extent', 'count', 'bytes', 'slices', 'perPart'] as const

const gatherSource: KernelSource = {
  name: 'pb_take',
  text: `
static inline int64_t pb_take_clamp(int64_t i, int64_t extent) { return i < 0 ? 0 : i >= extent ? extent - 1 : i; }
void pb_take(void *const *p, const int64_t *n, int64_t part) {
  ${printArguments(gatherArguments)}
  const char *x = p[0];
  const int32_t *indices = p[1];
  char *y = p[2];
  for (int64_t s = part * perPart; s < PB_MIN(slices, (part + 1) * perPart); ++s) {
    const char *from = x + (s / count * extent + pb_take_clamp(indices[s % count], extent)) * bytes;
    switch (bytes) {
      case 1: y[s] = *from; break;
      case 2: memcpy(y + s * 2, from, 2); break;
      case 4: memcpy(y + s * 4, from, 4); break;
      case 8: memcpy(y + s * 8, from, 8); break;
      default: memcpy(y + s * bytes, from, (size_t)bytes);
    }
  }
}
`,
}

/** (x, indices i32) -> slices of x; indices outside are clamped. */
export function lowerGather({ dtype, before, extent, count, after }: IndexedExtents): Lowered {
  const bytes = after * bytesOf(dtype)
  const slices = before * count
  const perPart = Math.max(1, Math.floor(65536 / Math.max(1, bytes)))
  const numbers = listArguments(gatherArguments, { extent, count, bytes, slices, perPart })
  const pointers = [operand(0), operand(1), operand(2)]
  return { launches: [{ source: gatherSource, parts: ceilDiv(slices, perPart), pointers, numbers }], scratchBytes: 0 }
}

const scatterArguments = ['extent', 'count', 'after', 'rowsPerPart', 'ranges', 'columnsPerPart', 'columnParts'] as const

/** A part owns rows and columns of the result and walks over all indices in order: no two parts write to one element. */
function printScatter(dtype: FloatDType): KernelSource {
  const { storage, compute } = numericOf(dtype)
  const name = `pb_scatter_${dtype}`
  return {
    name,
    text: `
void ${name}(void *const *p, const int64_t *n, int64_t part) {
  ${printArguments(scatterArguments)}
  const int64_t column = part % columnParts * columnsPerPart, width = PB_MIN(columnsPerPart, after - column);
  const int64_t low = part / columnParts % ranges * rowsPerPart, high = PB_MIN(extent, low + rowsPerPart), before = part / columnParts / ranges;
  const ${storage} *updates = (const ${storage} *)p[0] + before * count * after + column;
  const int32_t *indices = p[1];
  ${compute} *sums = (${compute} *)p[2] + before * extent * after + column;
  for (int64_t i = low; i < high; ++i)
    for (int64_t c = 0; c < width; ++c) sums[i * after + c] = 0;
  for (int64_t j = 0; j < count; ++j) {
    const int64_t i = indices[j] < 0 ? 0 : indices[j] >= extent ? extent - 1 : indices[j];
    if (i < low || i >= high) continue;
    for (int64_t c = 0; c < width; ++c) sums[i * after + c] += pb_get_${dtype}(updates + j * after + c);
  }
}
`,
  }
}

const narrowArguments = ['total', 'perPart'] as const

function printNarrow(dtype: 'f16' | 'bf16'): KernelSource {
  const name = `pb_narrow_all_${dtype}`
  return {
    name,
    text: `
void ${name}(void *const *p, const int64_t *n, int64_t part) {
  ${printArguments(narrowArguments)}
  const int64_t first = part * perPart;
  pb_narrow_${dtype}((uint16_t *)p[1] + first, (const float *)p[0] + first, PB_MIN(perPart, total - first));
}
`,
  }
}

/** (updates, indices i32) -> the transpose of gather: sums in order of the indices, 16-bit ones kept in f32. */
export function lowerScatterAdd(extents: IndexedExtents & { readonly dtype: FloatDType }): Lowered {
  const { dtype, before, extent, count, after } = extents
  const scratch = new Scratch()
  const half = dtype === 'f16' || dtype === 'bf16'
  const total = before * extent * after
  const sums = half ? scratch.take(total * 4) : operand(2)
  const columnsPerPart = Math.max(1, Math.min(after, 256))
  const rowsPerPart = Math.max(1, Math.ceil(extent / Math.max(1, Math.min(8, Math.floor((extent * after) / 16384)))))
  const [ranges, columnParts] = [ceilDiv(extent, rowsPerPart), ceilDiv(after, columnsPerPart)]
  const numbers = listArguments(scatterArguments, {
    extent,
    count,
    after,
    rowsPerPart,
    ranges,
    columnsPerPart,
    columnParts,
  })
  const add = {
    source: printScatter(dtype),
    parts: before * ranges * columnParts,
    pointers: [operand(0), operand(1), sums],
    numbers,
  }
  if (!half) return { launches: [add], scratchBytes: 0 }
  const perPart = 32768
  const narrow = {
    source: printNarrow(dtype),
    parts: ceilDiv(total, perPart),
    pointers: [sums, operand(2)],
    numbers: listArguments(narrowArguments, { total, perPart }),
  }
  return { launches: [add, narrow], scratchBytes: scratch.bytes }
}

const argMaxArguments = ['extent', 'after', 'results', 'perPart'] as const

const elements: Readonly<Record<DType, { readonly type: string; readonly read: string }>> = {
  f32: { type: 'float', read: 'float v = *at' },
  f64: { type: 'double', read: 'double v = *at' },
  f16: { type: 'uint16_t', read: 'float v = pb_get_f16(at)' },
  bf16: { type: 'uint16_t', read: 'float v = pb_get_bf16(at)' },
  i32: { type: 'int32_t', read: 'int32_t v = *at' },
  u8: { type: 'uint8_t', read: 'int32_t v = *at' },
  bool: { type: 'uint8_t', read: 'int32_t v = *at' },
}

function printArgMax(dtype: DType): KernelSource {
  const { type, read } = elements[dtype]
  const name = `pb_argmax_${dtype}`
  const best = read.split(' ')[0] ?? 'float'
  return {
    name,
    text: `
void ${name}(void *const *p, const int64_t *n, int64_t part) {
  ${printArguments(argMaxArguments)}
  for (int64_t r = part * perPart; r < PB_MIN(results, (part + 1) * perPart); ++r) {
    const ${type} *x = (const ${type} *)p[0] + r / after * extent * after + r % after;
    ${best} best = 0;
    int64_t where = 0;
    for (int64_t i = 0; i < extent; ++i) {
      const ${type} *at = x + i * after;
      const ${read};
      if (i == 0 || v > best || (v != v && best == best)) { best = v; where = i; }
    }
    ((int32_t *)p[1])[r] = (int32_t)where;
  }
}
`,
  }
}

/** (x) -> the place of the first largest element along the middle of [before, extent, after]; NaN is the largest. */
export function lowerArgMax({ dtype, before, extent, after }: Omit<IndexedExtents, 'count'>): Lowered {
  const results = before * after
  const perPart = Math.max(1, Math.floor(16384 / extent))
  const numbers = listArguments(argMaxArguments, { extent, after, results, perPart })
  const pointers = [operand(0), operand(1)]
  return {
    launches: [{ source: printArgMax(dtype), parts: ceilDiv(results, perPart), pointers, numbers }],
    scratchBytes: 0,
  }
}

const copyArguments = ['bytes', 'perPart'] as const

const copySource: KernelSource = {
  name: 'pb_copy_bytes',
  text: `
void pb_copy_bytes(void *const *p, const int64_t *n, int64_t part) {
  ${printArguments(copyArguments)}
  const int64_t first = part * perPart;
  memcpy((char *)p[1] + first, (const char *)p[0] + first, (size_t)PB_MIN(perPart, bytes - first));
}
`,
}

/** (x) -> x, copied. */
export function lowerCopy(bytes: number): Lowered {
  const perPart = 1 << 18
  const numbers = listArguments(copyArguments, { bytes, perPart })
  const pointers = [operand(0), operand(1)]
  return { launches: [{ source: copySource, parts: ceilDiv(bytes, perPart), pointers, numbers }], scratchBytes: 0 }
}
