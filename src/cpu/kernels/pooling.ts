// Lowers pooling over NHWC and its gradients: a register of channels at a time, in compute precision.
// The first maximum of a window counts, in row-major order, and NaN is larger than every number.
import type { PoolExtents } from '../../compile/index.ts'
import { type Launch, type Lowered, ceilDiv, listArguments, operand, printArguments } from './launch.ts'
import { type Numeric, numericOf } from './numeric.ts'

/** Channels in a register. */
const lanes = 8
/** Pixels and channels of the input in the tile of one part of a gradient: 32 KB of f32 sums. */
const tile = { rows: 8, columns: 64, channels: 16 } as const

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

/** Registers of the first m of 8 channels; those past them are zero. */
function printAccess(name: string, { storage, dtype }: Numeric, register: string): string {
  return `
PB_INLINE ${register} ${name}_get(const ${storage} *p, int64_t m) { return m == ${lanes} ? pbv_load_${dtype}(p) : pbv_gather_part_${dtype}(p, 1, m); }
PB_INLINE void ${name}_put(${storage} *p, ${register} x, int64_t m) { if (m == ${lanes}) pbv_store_${dtype}(p, x); else pbv_scatter_part_${dtype}(p, 1, x, m); }
`
}

/** The taps of window (oy, ox) that lie in the image: y from y0 to y1, x from x0 to x1. */
const windowBounds = `const int64_t top = oy * strideY - padTop, left = ox * strideX - padLeft;
      const int64_t y0 = PB_MAX(0, top), y1 = PB_MIN(height, top + kernelHeight);
      const int64_t x0 = PB_MAX(0, left), x1 = PB_MIN(width, left + kernelWidth);`

/** Whether v takes the place of the best so far: it is the first, larger, or the first NaN. */
function takes(s: string): string {
  return `first | pbv_gt_${s}(v, best) | (pbv_ne_${s}(v, v) & pbv_eq_${s}(best, best))`
}

type Forward = 'maxPool2d' | 'maxPool2dPick' | 'avgPool2d'

/** What a window does: with each tap v, and at the end. */
function forwardBody(
  kind: Forward,
  s: string,
  pixel: string,
): { readonly start: string; readonly tap: string; readonly end: string } {
  if (kind === 'avgPool2d')
    return {
      start: `pbv_splat_${s}(0)`,
      tap: `result = pbv_add_${s}(result, v);`,
      end: `result = pbv_div_${s}(result, pbv_splat_${s}(kernelHeight * kernelWidth));`,
    }
  const pick = kind === 'maxPool2dPick' ? `pbv_select_${s}(take, ${pixel}, result)` : 'best'
  const tap = `const pbv_b take = ${takes(s)}; best = pbv_select_${s}(take, v, best); result = ${pick}; first = pbv_splat_b(0);`
  return { start: `pbv_splat_${s}(${kind === 'maxPool2dPick' ? '0' : '-INFINITY'})`, tap, end: '' }
}

/** One part is a row of windows. */
function printForward(kind: Forward, numeric: Numeric, name: string): string {
  const s = numeric.compute === 'double' ? 'd' : 'f'
  const { storage } = numeric
  const pointer = (place: string): string => `(const ${storage} *)${place} + image * height * width * channels`
  const body = forwardBody(kind, s, `${name}_get(picked + (iy * width + ix) * channels + c, m)`)
  const picks = kind === 'maxPool2dPick'
  return `${printAccess(name, numeric, `pbv_${s}`)}
void ${name}(void *const *p, const int64_t *n, int64_t part) {
  ${printArguments(geometryArguments)}
  const int64_t oy = part % outHeight, image = part / outHeight;
  const ${storage} *x = ${pointer('p[0]')};
  ${picks ? `const ${storage} *picked = ${pointer('p[1]')};` : ''}
  ${storage} *y = (${storage} *)p[${picks ? 2 : 1}] + part * outWidth * channels;
  for (int64_t ox = 0; ox < outWidth; ++ox) {
      ${windowBounds}
      for (int64_t c = 0; c < channels; c += ${lanes}) {
        const int64_t m = PB_MIN(${lanes}, channels - c);
        pbv_${s} best = pbv_splat_${s}(-INFINITY), result = ${body.start};
        pbv_b first = pbv_splat_b(1);
        (void)best; (void)first;
        for (int64_t iy = y0; iy < y1; ++iy)
          for (int64_t ix = x0; ix < x1; ++ix) {
            const pbv_${s} v = ${name}_get(x + (iy * width + ix) * channels + c, m);
            ${body.tap}
          }
        ${body.end}
        ${name}_put(y + ox * channels + c, result, m);
      }
  }
}
`
}

/** What window (oy, ox) with the cotangent g adds to the sums of the pixels in rows r0..r1 and columns q0..q1. */
function backwardBody(kind: 'maxPool2dGrad' | 'avgPool2dGrad', s: string, element: string, name: string): string {
  const to = `${element} *to = sums + (((iy - r0) * ${tile.columns} + ix - q0) * ${tile.channels} + c);`
  if (kind === 'avgPool2dGrad')
    return `
        for (int64_t iy = PB_MAX(y0, r0); iy < PB_MIN(y1, r1); ++iy)
          for (int64_t ix = PB_MAX(x0, q0); ix < PB_MIN(x1, q1); ++ix) {
            ${to}
            pbv_poke_${s}(to, pbv_add_${s}(pbv_peek_${s}(to), g));
          }`
  return `
        pbv_i where = pbv_splat_i(0), tap = pbv_splat_i(0);
        pbv_${s} best = pbv_splat_${s}(-INFINITY);
        pbv_b first = pbv_splat_b(1);
        for (int64_t iy = y0; iy < y1; ++iy)
          for (int64_t ix = x0; ix < x1; ++ix, tap += 1) {
            const pbv_${s} v = ${name}_get(x + (iy * width + ix) * channels + c, m);
            const pbv_b take = ${takes(s)};
            best = pbv_select_${s}(take, v, best);
            where = pbv_select_i(take, tap, where);
            first = pbv_splat_b(0);
          }
        tap = pbv_splat_i(0);
        for (int64_t iy = y0; iy < y1; ++iy)
          for (int64_t ix = x0; ix < x1; ++ix, tap += 1) {
            if (iy < r0 || iy >= r1 || ix < q0 || ix >= q1) continue;
            ${to}
            pbv_poke_${s}(to, pbv_add_${s}(pbv_peek_${s}(to), pbv_select_${s}(where == tap, g, pbv_splat_${s}(0))));
          }`
}

/** One part is a tile of the input; it visits every window that reaches into it. */
function printBackward(kind: 'maxPool2dGrad' | 'avgPool2dGrad', numeric: Numeric, name: string): string {
  const { storage, compute } = numeric
  const s = compute === 'double' ? 'd' : 'f'
  const max = kind === 'maxPool2dGrad'
  return `${printAccess(name, numeric, `pbv_${s}`)}
void ${name}(void *const *p, const int64_t *n, int64_t part) {
  ${printArguments(geometryArguments)}
  const int64_t c0 = part % blocks * ${tile.channels}, count = PB_MIN(${tile.channels}, channels - c0);
  int64_t q = part / blocks;
  const int64_t q0 = q % columnTiles * ${tile.columns}, q1 = PB_MIN(width, q0 + ${tile.columns});
  q /= columnTiles;
  const int64_t r0 = q % rowTiles * ${tile.rows}, r1 = PB_MIN(height, r0 + ${tile.rows}), image = q / rowTiles;
  ${max ? `const ${storage} *x = (const ${storage} *)p[0] + image * height * width * channels + c0;` : ''}
  const ${storage} *cotangent = (const ${storage} *)p[${max ? 1 : 0}] + image * outHeight * outWidth * channels + c0;
  ${storage} *dx = (${storage} *)p[${max ? 2 : 1}] + image * height * width * channels + c0;
  ${compute} sums[${tile.rows * tile.columns * tile.channels}] __attribute__((aligned(64)));
  memset(sums, 0, sizeof(sums));
  const int64_t oy0 = PB_MAX(0, r0 + padTop - kernelHeight + strideY) / strideY, ox0 = PB_MAX(0, q0 + padLeft - kernelWidth + strideX) / strideX;
  for (int64_t oy = oy0; oy < outHeight && oy * strideY - padTop < r1; ++oy)
    for (int64_t ox = ox0; ox < outWidth && ox * strideX - padLeft < q1; ++ox) {
      ${windowBounds}
      for (int64_t c = 0; c < count; c += ${lanes}) {
        const int64_t m = PB_MIN(${lanes}, count - c);
        const pbv_${s} g = ${name}_get(cotangent + (oy * outWidth + ox) * channels + c, m);
        ${backwardBody(kind, s, compute, name)}
      }
    }
  for (int64_t iy = r0; iy < r1; ++iy)
    for (int64_t ix = q0; ix < q1; ++ix)
      for (int64_t c = 0; c < count; c += ${lanes}) {
        pbv_${s} total = pbv_peek_${s}(sums + (((iy - r0) * ${tile.columns} + ix - q0) * ${tile.channels} + c));
        ${max ? '' : `total = pbv_div_${s}(total, pbv_splat_${s}(kernelHeight * kernelWidth));`}
        ${name}_put(dx + (iy * width + ix) * channels + c, total, PB_MIN(${lanes}, count - c));
      }
}
`
}

function launchOf(kind: Forward | 'maxPool2dGrad' | 'avgPool2dGrad', pool: PoolExtents, operands: number): Launch {
  const numeric = numericOf(pool.dtype)
  const name = `pb_${kind}_${pool.dtype}`
  const backward = kind === 'maxPool2dGrad' || kind === 'avgPool2dGrad'
  const [blocks, rowTiles, columnTiles] = [
    ceilDiv(pool.channels, tile.channels),
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
    parts: pool.batch * (backward ? blocks * rowTiles * columnTiles : pool.outHeight),
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
