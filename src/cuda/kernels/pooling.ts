// Pooling over NHWC and its gradients: a thread has one pixel's vector of channels, in f32 (f64 for f64). The first maximum
// of a window counts, in row-major order, and NaN is larger than every number. Gradients gather over the windows of a pixel
// in order, so there is nothing to add up across threads.
import { type PoolEquation, type PoolExtents, poolExtents } from '../../compile/index.ts'
import { at, sizeOf } from '../../tensor/shape.ts'
import type { KernelLaunch, Lowered } from '../work.ts'
import { type Index, indexFor, mapLaunch, nothing, operand, printDigits, scratch, widthOf } from './launch.ts'

/** What a pass over windows gives; 'where' is the number of each window's first maximum. */
type Forward = 'maxPool2d' | 'maxPool2dPick' | 'avgPool2d' | 'where'
type Backward = 'maxPool2dGrad' | 'avgPool2dGrad'

/**
 * Lowers a pooling step; operands are the equation's inputs, then its output.
 *
 * maxPool2dGrad keeps the place of each window's maximum in scratch memory: one byte an output element, or four where
 * windows have more than 256 elements.
 */
export function lowerPooling(equation: PoolEquation): Lowered {
  const pool = poolExtents(equation)
  if (sizeOf(at(equation.outputs, 0).type.shape) === 0) return nothing
  switch (equation.primitive) {
    case 'maxPool2d':
    case 'avgPool2d':
    case 'maxPool2dPick':
      return { works: [overWindows(equation.primitive, pool)], scratchBytes: 0 }
    case 'maxPool2dGrad': {
      const scratchBytes = outputs(pool) * (placeType(pool) === 'u8' ? 1 : 4)
      return { works: [overWindows('where', pool), overPixels(equation.primitive, pool)], scratchBytes }
    }
    case 'avgPool2dGrad':
      return { works: [overPixels(equation.primitive, pool)], scratchBytes: 0 }
    default:
      return equation satisfies never
  }
}

/** How the places of maxima are kept. */
function placeType({ window }: PoolExtents): 'u8' | 'i32' {
  return window[0] * window[1] <= 256 ? 'u8' : 'i32'
}

function outputs({ batch, outHeight, outWidth, channels }: PoolExtents): number {
  return batch * outHeight * outWidth * channels
}

function indexOf(pool: PoolExtents): Index {
  const { batch, height, width, channels, padding, stride } = pool
  const padded = [height, width, ...stride, ...padding.flat()].reduce((sum, extent) => sum + extent, 0)
  return indexFor(batch * height * width * channels, outputs(pool), padded)
}

function numbersOf(pool: PoolExtents, vectors: number): Record<string, number> {
  const { height, width, channels, outHeight, outWidth, window, stride, padding } = pool
  return {
    ...{ height, width, channels, outHeight, outWidth, vectors },
    ...{ kernelHeight: window[0], kernelWidth: window[1], strideY: stride[0], strideX: stride[1] },
    ...{ padTop: padding[0][0], padLeft: padding[1][0] },
  }
}

/** A statement for each lane of a vector. */
function lanes(width: number, statement: string): string {
  return `PB_UNROLL
  for (int k = 0; k < ${width}; ++k) ${statement}`
}

function printPixel(index: Index, x: string, width: string, y: string, height: string, lanesOfVector: number): string {
  const extents = { vector: 'vectors', [x]: width, [y]: height }
  return `${printDigits(index, 'thread', extents, 'image')}
  const ${index} c = vector * ${lanesOfVector};`
}

/** A thread for every vector of the output. */
function overWindows(kind: Forward, pool: PoolExtents): KernelLaunch {
  const { dtype, channels } = pool
  const index = indexOf(pool)
  const width = widthOf(dtype, channels)
  const result = kind === 'where' ? placeType(pool) : dtype
  const pointers = {
    maxPool2d: [operand(0), operand(1)],
    avgPool2d: [operand(0), operand(1)],
    maxPool2dPick: [operand(0), operand(2), operand(1)],
    where: [operand(0), scratch(0)],
  }[kind]
  const body = `
  ${printPixel(index, 'ox', 'outWidth', 'oy', 'outHeight', width)}
  const ${index} top = oy * strideY - padTop, y0 = PB_MAX(0, top), y1 = PB_MIN(height, top + kernelHeight);
  const ${index} left = ox * strideX - padLeft, x0 = PB_MAX(0, left), x1 = PB_MIN(width, left + kernelWidth);
  const pb_${dtype}::bits *const x = (const pb_${dtype}::bits *)a.p[0];
  ${kind === 'avgPool2d' ? printAverage(pool, width, index) : printMaximum(kind, pool, width, index)}
  pb_store<pb_${result}, ${width}>((pb_${result}::bits *)a.p[1] + thread * ${width}, result);`
  const name = `${kind === 'where' ? 'maxPool2dWhere' : kind}_${dtype}`
  const numbers = numbersOf(pool, channels / width)
  return mapLaunch({ name, index, pointers, numbers, body }, outputs(pool) / width)
}

/** Pixels of a window's row that are read before the first of them is looked at; windows are seldom wider. */
const ahead = 3

/** Walks over the window, in each of its rows `ahead` pixels at a time: reads `vectors` by name, then does `each` for pixel u. */
function printWindow(pool: PoolExtents, width: number, index: Index, vectors: Record<string, string>, each: string) {
  const type = `pb_vector<pb_${pool.dtype}, ${width}>`
  const names = Object.entries(vectors)
  return `for (${index} some = x0; some < x1; some += ${ahead}) {
      const ${index} from = ((image * height + y) * width + some) * channels + c;
      ${names.map(([name]) => `${type} ${name}s[${ahead}];`).join(' ')}
      PB_UNROLL
      for (int j = 0; j < ${ahead}; ++j) if (some + j < x1) {
        ${names.map(([name, source]) => `${name}s[j].read(${source} + from + j * channels);`).join('\n        ')}
      }
      PB_UNROLL
      for (int j = 0; j < ${ahead}; ++j) if (some + j < x1) {
        const ${index} u = some + j;
        ${names.map(([name]) => `const ${type} &${name} = ${name}s[j];`).join(' ')}
        ${each}
      }
    }`
}

/** Sums each row of the window, then the rows: f32 stays accurate in large windows. */
function printAverage(pool: PoolExtents, width: number, index: Index): string {
  const { dtype } = pool
  return `pb_${dtype}::value result[${width}] = {0};
  for (${index} y = y0; y < y1; ++y) {
    pb_${dtype}::value row[${width}] = {0};
    ${printWindow(pool, width, index, { v: 'x' }, lanes(width, 'row[k] += v[k];'))}
    ${lanes(width, 'result[k] += row[k];')}
  }
  ${lanes(width, `result[k] /= (pb_${dtype}::value)(kernelHeight * kernelWidth);`)}`
}

/**
 * The largest element of the window, the element of the second operand at its place, or that place. It begins with the
 * window's first, which counts where all are -infinity.
 */
function printMaximum(kind: Exclude<Forward, 'avgPool2d'>, pool: PoolExtents, width: number, index: Index): string {
  const t = `pb_${pool.dtype}`
  const place = kind === 'where' ? `pb_${placeType(pool)}` : t
  const second = `(const ${t}::bits *)a.p[2]`
  const vectors = { v: 'x', ...(kind === 'maxPool2dPick' ? { picked: second } : {}) }
  const start = {
    maxPool2d: lanes(width, 'result[k] = -pbv_infinity_f();'),
    maxPool2dPick: `${lanes(width, 'result[k] = 0;')}
  if (y0 < y1 && x0 < x1) pb_load<${t}, ${width}>(${second} + ((image * height + y0) * width + x0) * channels + c, result);`,
    where: lanes(width, 'result[k] = (int32_t)((y0 - top) * kernelWidth + x0 - left);'),
  }[kind]
  const taken = {
    maxPool2d: 'best[k]',
    maxPool2dPick: 'picked[k]',
    where: '(int32_t)((y - top) * kernelWidth + u - left)',
  }[kind]
  const each = `PB_UNROLL
        for (int k = 0; k < ${width}; ++k) {
          const ${t}::value x = v[k];
          const bool takes = pb_larger(x, best[k]);
          best[k] = takes ? x : best[k];
          result[k] = takes ? ${taken} : result[k];
        }`
  return `${t}::value best[${width}];
  ${place}::value result[${width}];
  ${lanes(width, 'best[k] = -pbv_infinity_f();')}
  ${start}
  for (${index} y = y0; y < y1; ++y) {
    ${printWindow(pool, width, index, vectors, each)}
  }`
}

/** A thread for every vector of the input, which adds up what the windows that reach it have for it. */
function overPixels(kind: Backward, pool: PoolExtents): KernelLaunch {
  const { dtype, batch, height, width: columns, channels } = pool
  const index = indexOf(pool)
  const width = widthOf(dtype, channels)
  const max = kind === 'maxPool2dGrad'
  const body = `
  ${printPixel(index, 'ix', 'width', 'iy', 'height', width)}
  const ${index} oy0 = PB_MAX(0, iy + padTop - kernelHeight + strideY) / strideY;
  const ${index} ox0 = PB_MAX(0, ix + padLeft - kernelWidth + strideX) / strideX;
  const ${index} oy1 = PB_MIN(outHeight, (iy + padTop) / strideY + 1), ox1 = PB_MIN(outWidth, (ix + padLeft) / strideX + 1);
  pb_${dtype}::value sums[${width}] = {0};
  for (${index} oy = oy0; oy < oy1; ++oy)
    for (${index} ox = ox0; ox < ox1; ++ox) {
      const ${index} from = ((image * outHeight + oy) * outWidth + ox) * channels + c;
      pb_${dtype}::value g[${width}];
      pb_load<pb_${dtype}, ${width}>((const pb_${dtype}::bits *)a.p[0] + from, g);
      ${max ? printChosen(pool, width) : lanes(width, 'sums[k] += g[k];')}
    }
  ${max ? '' : lanes(width, `sums[k] /= (pb_${dtype}::value)(kernelHeight * kernelWidth);`)}
  pb_store<pb_${dtype}, ${width}>((pb_${dtype}::bits *)a.p[1] + thread * ${width}, sums);`
  const pointers = max ? [operand(1), operand(2), scratch(0)] : [operand(0), operand(1)]
  const numbers = numbersOf(pool, channels / width)
  const threads = (batch * height * columns * channels) / width
  return mapLaunch({ name: `${kind}_${dtype}`, index, pointers, numbers, body }, threads)
}

/** Adds the cotangents of the windows whose maximum this pixel is. */
function printChosen(pool: PoolExtents, width: number): string {
  const places = `pb_${placeType(pool)}`
  return `${places}::value where[${width}];
      pb_load<${places}, ${width}>((const ${places}::bits *)a.p[2] + from, where);
      const int32_t tap = (int32_t)((iy + padTop - oy * strideY) * kernelWidth + ix + padLeft - ox * strideX);
      ${lanes(width, 'sums[k] += where[k] == tap ? g[k] : 0;')}`
}
