// Lowers pooling over NHWC and its gradients: a block of up to 16 channels of a window at a time, in compute precision.
// The first maximum of a window counts, in row-major order, and NaN is larger than every number.
import type { FloatDType } from '../../tensor/dtype.ts'
import { type Launch, type Lowered, ceilDiv, listArguments, operand, printArguments } from './launch.ts'
import { type Numeric, numericOf } from './numeric.ts'

/** A pooling's geometry; input is [batch, height, width, channels]. */
export interface PoolExtents {
  readonly dtype: FloatDType
  readonly batch: number
  readonly height: number
  readonly width: number
  readonly channels: number
  readonly outHeight: number
  readonly outWidth: number
  readonly window: readonly [number, number]
  readonly stride: readonly [number, number]
  readonly padding: readonly [readonly [number, number], readonly [number, number]]
}

/** Channels in a block: one cache line of f32. */
const block = 16
/** Pixels of the input in the tile of one part of a gradient. */
const tile = { rows: 8, columns: 128 } as const

const geometryArguments = [
  'height',
  'width',
  'channels',
  'outHeight',
  'outWidth',
  'kernelHeight',
  'kernelWidth',
  'strideY',
  'strideX',
  'padTop',
  'padLeft',
  'blocks',
  'rowTiles',
  'columnTiles',
] as const

/** Reads and writes of the first `count` of 16 channels; those past them are zero. */
function printBlocks(name: string, { storage, compute, dtype }: Numeric): string {
  return `
PB_INLINE void ${name}_get(${compute} *to, const ${storage} *from, int64_t count) {
  if (count == ${block}) { pb_widen_${dtype}(to, from, ${block}); return; }
  for (int c = 0; c < ${block}; ++c) to[c] = c < count ? pb_get_${dtype}(from + c) : 0;
}
PB_INLINE void ${name}_put(${storage} *to, const ${compute} *from, int64_t count) {
  if (count == ${block}) { pb_narrow_${dtype}(to, from, ${block}); return; }
  for (int64_t c = 0; c < count; ++c) pb_put_${dtype}(to + c, from[c]);
}
`
}

/** The taps of window (oy, ox) that lie in the image: y from y0 to y1, x from x0 to x1. */
const windowBounds = `
      const int64_t top = oy * strideY - padTop, left = ox * strideX - padLeft;
      const int64_t y0 = PB_MAX(0, top), y1 = PB_MIN(height, top + kernelHeight);
      const int64_t x0 = PB_MAX(0, left), x1 = PB_MIN(width, left + kernelWidth);`

type Forward = 'maxPool2d' | 'maxPool2dPick' | 'avgPool2d'

/** What each tap does, and what is stored at the end; best and result are blocks. */
function forwardBody(kind: Forward, compute: string): { readonly start: string; readonly tap: string; readonly end: string } {
  if (kind === 'avgPool2d')
    return {
      start: `for (int c = 0; c < ${block}; ++c) result[c] = 0;`,
      tap: `for (int c = 0; c < ${block}; ++c) result[c] += v[c];`,
      end: `for (int c = 0; c < ${block}; ++c) result[c] /= (${compute})(kernelHeight * kernelWidth);`,
    }
  const picks = kind === 'maxPool2dPick'
  const assign = picks ? 'best[c] = take ? v[c] : best[c]; result[c] = take ? t[c] : result[c];' : 'result[c] = best[c] = take ? v[c] : best[c];'
  return {
    start: `int first = 1; for (int c = 0; c < ${block}; ++c) { best[c] = -INFINITY; result[c] = ${picks ? '0' : '-INFINITY'}; }`,
    tap: `for (int c = 0; c < ${block}; ++c) { const int take = first | (v[c] > best[c]) | ((v[c] != v[c]) & (best[c] == best[c])); ${assign} } first = 0;`,
    end: '',
  }
}

/** One part is a row of windows of one block of channels. */
function printForward(kind: Forward, numeric: Numeric, name: string): string {
  const { storage, compute } = numeric
  const body = forwardBody(kind, compute)
  const picks = kind === 'maxPool2dPick'
  return `${printBlocks(name, numeric)}
void ${name}(void *const *p, const int64_t *n, int64_t part) {
  ${printArguments(geometryArguments)}
  const int64_t c0 = part % blocks * ${block}, oy = part / blocks % outHeight, image = part / blocks / outHeight;
  const int64_t count = PB_MIN(${block}, channels - c0);
  const ${storage} *x = (const ${storage} *)p[0] + image * height * width * channels + c0;
  ${picks ? `const ${storage} *picked = (const ${storage} *)p[1] + image * height * width * channels + c0;` : ''}
  ${storage} *y = (${storage} *)p[${picks ? 2 : 1}] + (image * outHeight + oy) * outWidth * channels + c0;
  for (int64_t ox = 0; ox < outWidth; ++ox) {${windowBounds}
    ${compute} best[${block}], result[${block}], v[${block}]${picks ? `, t[${block}]` : ''};
    (void)best;
    ${body.start}
    for (int64_t iy = y0; iy < y1; ++iy)
      for (int64_t ix = x0; ix < x1; ++ix) {
        const int64_t at = (iy * width + ix) * channels;
        ${name}_get(v, x + at, count);
        ${picks ? `${name}_get(t, picked + at, count);` : ''}
        ${body.tap}
      }
    ${body.end}
    ${name}_put(y + ox * channels, result, count);
  }
}
`
}

/** The windows that reach rows r0..r1 and columns q0..q1 of the input, and what each adds to the sums of this tile. */
function printBackward(kind: 'maxPool2dGrad' | 'avgPool2dGrad', numeric: Numeric, name: string): string {
  const { storage, compute } = numeric
  const max = kind === 'maxPool2dGrad'
  const spread = `
        for (int64_t iy = PB_MAX(y0, r0); iy < PB_MIN(y1, r1); ++iy)
          for (int64_t ix = PB_MAX(x0, q0); ix < PB_MIN(x1, q1); ++ix) {
            ${compute} *to = sums + ((iy - r0) * ${tile.columns} + ix - q0) * ${block};
            for (int c = 0; c < ${block}; ++c) to[c] += g[c];
          }`
  const first = `
        ${max && compute === 'double' ? 'int64_t' : 'int32_t'} where[${block}] = {0};
        ${compute} best[${block}], v[${block}];
        for (int c = 0; c < ${block}; ++c) best[c] = -INFINITY;
        int32_t tap = 0;
        for (int64_t iy = y0; iy < y1; ++iy)
          for (int64_t ix = x0; ix < x1; ++ix, ++tap) {
            ${name}_get(v, x + (iy * width + ix) * channels, count);
            for (int c = 0; c < ${block}; ++c) {
              const int take = (tap == 0) | (v[c] > best[c]) | ((v[c] != v[c]) & (best[c] == best[c]));
              best[c] = take ? v[c] : best[c];
              where[c] = take ? tap : where[c];
            }
          }
        tap = 0;
        for (int64_t iy = y0; iy < y1; ++iy)
          for (int64_t ix = x0; ix < x1; ++ix, ++tap) {
            if (iy < r0 || iy >= r1 || ix < q0 || ix >= q1) continue;
            ${compute} *to = sums + ((iy - r0) * ${tile.columns} + ix - q0) * ${block};
            for (int c = 0; c < ${block}; ++c) to[c] += where[c] == tap ? g[c] : 0;
          }`
  const scale = max ? '' : `for (int c = 0; c < ${block}; ++c) from[c] /= (${compute})(kernelHeight * kernelWidth);`
  return `${printBlocks(name, numeric)}
void ${name}(void *const *p, const int64_t *n, int64_t part) {
  ${printArguments(geometryArguments)}
  const int64_t c0 = part % blocks * ${block}, count = PB_MIN(${block}, channels - c0);
  int64_t q = part / blocks;
  const int64_t q0 = q % columnTiles * ${tile.columns}, q1 = PB_MIN(width, q0 + ${tile.columns});
  q /= columnTiles;
  const int64_t r0 = q % rowTiles * ${tile.rows}, r1 = PB_MIN(height, r0 + ${tile.rows}), image = q / rowTiles;
  ${max ? `const ${storage} *x = (const ${storage} *)p[0] + image * height * width * channels + c0;` : ''}
  const ${storage} *cotangent = (const ${storage} *)p[${max ? 1 : 0}] + image * outHeight * outWidth * channels + c0;
  ${storage} *dx = (${storage} *)p[${max ? 2 : 1}] + image * height * width * channels + c0;
  ${compute} sums[${tile.rows * tile.columns * block}] __attribute__((aligned(64)));
  memset(sums, 0, sizeof(sums));
  const int64_t oy0 = PB_MAX(0, r0 + padTop - kernelHeight + strideY) / strideY, ox0 = PB_MAX(0, q0 + padLeft - kernelWidth + strideX) / strideX;
  for (int64_t oy = oy0; oy < outHeight && oy * strideY - padTop < r1; ++oy)
    for (int64_t ox = ox0; ox < outWidth && ox * strideX - padLeft < q1; ++ox) {${windowBounds}
      ${compute} g[${block}];
      ${name}_get(g, cotangent + (oy * outWidth + ox) * channels, count);
      ${max ? first : spread}
    }
  for (int64_t iy = r0; iy < r1; ++iy)
    for (int64_t ix = q0; ix < q1; ++ix) {
      ${compute} *from = sums + ((iy - r0) * ${tile.columns} + ix - q0) * ${block};
      ${scale}
      ${name}_put(dx + (iy * width + ix) * channels, from, count);
    }
}
`
}

function launchOf(kind: Forward | 'maxPool2dGrad' | 'avgPool2dGrad', pool: PoolExtents, operands: number): Launch {
  const numeric = numericOf(pool.dtype)
  const name = `pb_${kind}_${pool.dtype}`
  const backward = kind === 'maxPool2dGrad' || kind === 'avgPool2dGrad'
  const [blocks, rowTiles, columnTiles] = [
    ceilDiv(pool.channels, block),
    ceilDiv(pool.height, tile.rows),
    ceilDiv(pool.width, tile.columns),
  ]
  const numbers = listArguments(geometryArguments, {
    ...pool,
    ...{ kernelHeight: pool.window[0], kernelWidth: pool.window[1], strideY: pool.stride[0], strideX: pool.stride[1] },
    ...{ padTop: pool.padding[0][0], padLeft: pool.padding[1][0], blocks, rowTiles, columnTiles },
  })
  return {
    source: { name, text: backward ? printBackward(kind, numeric, name) : printForward(kind, numeric, name) },
    parts: pool.batch * blocks * (backward ? rowTiles * columnTiles : pool.outHeight),
    pointers: Array.from({ length: operands }, (_, index) => operand(index)),
    numbers,
  }
}

/** (x) -> maxima, or (x) -> means over whole windows. */
export function lowerPool(kind: 'maxPool2d' | 'avgPool2d', pool: PoolExtents): Lowered {
  return { launches: [launchOf(kind, pool, 2)], scratchBytes: 0 }
}

/** (x, cotangent) -> cotangents sent to the first maximum of their windows. */
export function lowerMaxPoolGrad(pool: PoolExtents): Lowered {
  return { launches: [launchOf('maxPool2dGrad', pool, 3)], scratchBytes: 0 }
}

/** (x, t) -> t at the first maximum of each window. */
export function lowerMaxPoolPick(pool: PoolExtents): Lowered {
  return { launches: [launchOf('maxPool2dPick', pool, 3)], scratchBytes: 0 }
}

/** (cotangent) -> each cotangent divided evenly over its window. */
export function lowerAvgPoolGrad(pool: PoolExtents): Lowered {
  return { launches: [launchOf('avgPool2dGrad', pool, 2)], scratchBytes: 0 }
}
