// Convolutions and their gradients of any floating type and geometry as tiled products that find their elements in the
// images (implicit GEMM). Padding is a zero that is multiplied; taps that a stride leaves out are not.
import type { ConvEquation, ConvExtents } from '../../compile/index.ts'
import { blockThreads } from '../../compile/print/index.ts'
import type { Lowered } from '../work.ts'
import { type Index, ceilDiv, indexFor, nothing, printDigits } from './launch.ts'
import { type Product, type Side, type Tile, lowerProduct, tileOf } from './products.ts'

/**
 * Lowers a convolution or one of its gradients; operands are the equation's inputs, then its output. Sums are fused
 * multiply-adds in f32 (f64 for f64), in an order that extents alone decide, and rounded once.
 *
 * Groups are products of their own: below 16 channels in a group most of a tile is padding.
 */
export function lowerPlainConv(primitive: ConvEquation['primitive'], conv: ConvExtents): Lowered {
  const product = { conv2d: forward, conv2dInputGrad: inputGrad, conv2dFilterGrad: filterGrad }[primitive](conv)
  return product.total === 0 ? nothing : lowerProduct(product)
}

function indexOf(conv: ConvExtents): Index {
  const { batch, height, width, channels, outHeight, outWidth, outChannels, kernelHeight, kernelWidth } = conv
  const reach = [height, width, ...conv.stride, ...conv.dilation, ...conv.padding.flat()]
  const filter = outChannels * kernelHeight * kernelWidth * (channels / conv.groups)
  const sizes = [batch * height * width * channels, filter, batch * outHeight * outWidth * outChannels]
  return indexFor(
    ...sizes,
    batch * outHeight * outWidth,
    reach.reduce((sum, extent) => sum + extent, 0),
  )
}

/** What all three have in common. */
function shared(conv: ConvExtents) {
  const { height, width, channels, outHeight, outWidth, outChannels, kernelHeight, kernelWidth, groups } = conv
  return {
    ...{ dtype: conv.dtype, index: indexOf(conv) },
    ...{ group: channels / groups, outGroup: outChannels / groups },
    numbers: {
      ...{ height, width, channels, outHeight, outWidth, outChannels, kernelHeight, kernelWidth },
      ...{ strideY: conv.stride[0], strideX: conv.stride[1], padTop: conv.padding[0][0], padLeft: conv.padding[1][0] },
      ...{ group: channels / groups, outGroup: outChannels / groups },
    },
  }
}

const inputNames: ImageNames = {
  ...{ height: 'height', width: 'width', channels: 'channels', group: 'group' },
  ...{ tapsX: 'kernelWidth', stepY: 'dilationY', stepX: 'dilationX' },
}
const outputNames: ImageNames = {
  ...{ height: 'outHeight', width: 'outWidth', channels: 'outChannels', group: 'outGroup' },
  ...{ tapsX: 'tapsX', stepY: 'stepY', stepX: 'stepX' },
}

/** Rows are output pixels, columns output channels, the depth is taps and input channels. */
function forward(conv: ConvExtents): Product {
  const { batch, outHeight, outWidth, outChannels, kernelHeight, kernelWidth, dilation, groups } = conv
  const { dtype, index, group, outGroup, numbers } = shared(conv)
  const [rows, depth] = [batch * outHeight * outWidth, kernelHeight * kernelWidth * group]
  const tile = tileOf(dtype, rows, outGroup)
  return {
    ...{ name: 'conv2d', dtype, index, tile, outers: groups, rows, columns: outGroup, depth },
    left: imageSide(index, inputNames, group),
    right: {
      operand: 1,
      deep: true,
      wide: depth % 4 === 0,
      place: `
    if (r >= columns || d >= end) return false;
    from = (outer * columns + r) * depth + d;
    return true;`,
    },
    setup: printTables(
      index,
      tile,
      'rows',
      ['base', 'tops', 'lefts'],
      `
      ${printDigits(index, 'r', { ox: 'outWidth', oy: 'outHeight' }, 'image')}
      base[p] = image * height * width * channels + outer * group;
      tops[p] = oy * strideY - padTop;
      lefts[p] = ox * strideX - padLeft;`,
    ),
    result: 'r * outChannels + outer * columns',
    total: rows * outChannels,
    numbers: { ...numbers, rows, depth, dilationY: dilation[0], dilationX: dilation[1] },
  }
}

/** The names by which the text knows the image that a product walks over, and the steps of its taps. */
interface ImageNames {
  readonly height: string
  readonly width: string
  readonly channels: string
  /** Channels of a group. */
  readonly group: string
  readonly tapsX: string
  readonly stepY: string
  readonly stepX: string
}

/**
 * The channels of an image at the pixel of row `r` (tables give its image's base and its window's corner) and the tap and
 * channel of depth `d`; `group` channels of a tap lie together.
 */
function imageSide(index: Index, image: ImageNames, group: number): Side {
  return {
    operand: 0,
    deep: true,
    wide: group % 4 === 0,
    place: `
    if (r >= rows || d >= end) return false;
    const ${index} p = r - firstRow, tap = d / ${image.group}, v = tap / ${image.tapsX};
    const ${index} y = tops[p] + v * ${image.stepY}, x = lefts[p] + (tap - v * ${image.tapsX}) * ${image.stepX};
    if (y < 0 || y >= ${image.height} || x < 0 || x >= ${image.width}) return false;
    from = base[p] + (y * ${image.width} + x) * ${image.channels} + d - tap * ${image.group};
    return true;`,
  }
}

/** Tables in shared memory of what each row (or column) `r` of this tile, at place `p`, has in common at every depth. */
function printTables(
  index: Index,
  tile: Tile,
  side: 'rows' | 'columns',
  names: readonly string[],
  entry: string,
): string {
  const [extent, first] = side === 'rows' ? [tile.rows, 'firstRow'] : [tile.columns, 'firstColumn']
  return `PB_SHARED ${index} ${names.map((name) => `${name}[${extent}]`).join(', ')};
  for (${index} p = (${index})pb_thread(); p < ${extent}; p += ${blockThreads}) {
    const ${index} r = ${first} + p;
    if (r < ${side}) {
      ${entry.trim()}
    }
  }
  pb_barrier();`
}

/**
 * Rows are input pixels, columns input channels, the depth is taps and output channels. Pixels whose place modulo the
 * stride is equal (a phase) are reached by the same taps: every `everyY`-th from the first that fits.
 */
function inputGrad(conv: ConvExtents): Product {
  const { batch, height, width, channels, kernelHeight, kernelWidth, stride, dilation, groups } = conv
  const { dtype, index, group, outGroup, numbers } = shared(conv)
  const every = ([0, 1] as const).map((axis) => stride[axis] / divisor(stride[axis], dilation[axis]))
  const [everyY = 1, everyX = 1] = every
  const [phasesY, phasesX] = [Math.min(stride[0], height), Math.min(stride[1], width)]
  const rows = batch * ceilDiv(height, stride[0]) * ceilDiv(width, stride[1])
  const depth = ceilDiv(kernelHeight, everyY) * ceilDiv(kernelWidth, everyX) * outGroup
  const tile = tileOf(dtype, rows, group)
  return {
    ...{ name: 'conv2dInputGrad', dtype, index, tile, outers: groups * phasesY * phasesX, rows, columns: group, depth },
    left: imageSide(index, outputNames, outGroup),
    right: {
      operand: 1,
      deep: false,
      wide: group % 4 === 0,
      place: `
    if (r >= columns || d >= end) return false;
    const ${index} tap = d / outGroup, i = tap / tapsX, v = firstTapY + i * everyY;
    const ${index} u = firstTapX + (tap - i * tapsX) * everyX, o = groupAt * outGroup + d - tap * outGroup;
    from = ((o * kernelHeight + v) * kernelWidth + u) * columns + r;
    return true;`,
    },
    setup: printPhase(index, tile),
    result: 'targets[r - firstRow]',
    total: batch * height * width * channels,
    numbers: {
      ...numbers,
      ...{ batch, groups, phasesX, everyY, everyX, dilationY: dilation[0], dilationX: dilation[1] },
      ...{ stepY: -(everyY * dilation[0]) / stride[0], stepX: -(everyX * dilation[1]) / stride[1] },
    },
  }
}

function printPhase(index: Index, tile: Tile): string {
  const axis = (name: 'Y' | 'X', extent: string, kernel: string, pad: string): string => `
  const ${index} grid${name} = (${extent} - phase${name} + stride${name} - 1) / stride${name};
  ${index} firstTap${name} = 0;
  while (firstTap${name} < ${kernel} && (phase${name} + ${pad} - firstTap${name} * dilation${name}) % stride${name} != 0) ++firstTap${name};
  const ${index} taps${name} = (${kernel} - firstTap${name} + every${name} - 1) / every${name};`
  return `${printDigits(index, 'outer', { groupAt: 'groups', phaseX: 'phasesX' }, 'phaseY')}
  ${axis('Y', 'height', 'kernelHeight', 'padTop').trim()}
  ${axis('X', 'width', 'kernelWidth', 'padLeft').trim()}
  const ${index} rows = batch * gridY * gridX, depth = tapsY * tapsX * outGroup;
  ${printTables(
    index,
    tile,
    'rows',
    ['base', 'tops', 'lefts', 'targets'],
    `
      ${printDigits(index, 'r', { gx: 'gridX', gy: 'gridY' }, 'image')}
      const ${index} iy = phaseY + gy * strideY, ix = phaseX + gx * strideX;
      base[p] = image * outHeight * outWidth * outChannels + groupAt * outGroup;
      tops[p] = (iy + padTop - firstTapY * dilationY) / strideY;
      lefts[p] = (ix + padLeft - firstTapX * dilationX) / strideX;
      targets[p] = ((image * height + iy) * width + ix) * channels + groupAt * group;`,
  )}`
}

/** Rows are output channels, columns taps and input channels, the depth is output pixels. */
function filterGrad(conv: ConvExtents): Product {
  const { batch, outHeight, outWidth, outChannels, kernelHeight, kernelWidth, dilation, groups } = conv
  const { dtype, index, group, outGroup, numbers } = shared(conv)
  const [columns, depth] = [kernelHeight * kernelWidth * group, batch * outHeight * outWidth]
  const tile = tileOf(dtype, outGroup, columns)
  return {
    ...{ name: 'conv2dFilterGrad', dtype, index, tile, outers: groups, rows: outGroup, columns, depth },
    left: {
      operand: 1,
      deep: false,
      wide: outGroup % 4 === 0,
      place: `
    if (r >= rows || d >= end) return false;
    from = d * outChannels + outer * rows + r;
    return true;`,
    },
    right: {
      operand: 0,
      deep: false,
      wide: group % 4 === 0,
      place: `
    if (r >= columns || d >= end) return false;
    ${printDigits(index, 'd', { ox: 'outWidth', oy: 'outHeight' }, 'image').replaceAll('\n', '\n  ')}
    const ${index} p = r - firstColumn, y = oy * strideY + tops[p], x = ox * strideX + lefts[p];
    if (y < 0 || y >= height || x < 0 || x >= width) return false;
    from = ((image * height + y) * width + x) * channels + base[p];
    return true;`,
    },
    setup: printTables(
      index,
      tile,
      'columns',
      ['base', 'tops', 'lefts'],
      `
      ${printDigits(index, 'r', { c: 'group', u: 'kernelWidth' }, 'v')}
      base[p] = outer * group + c;
      tops[p] = v * dilationY - padTop;
      lefts[p] = u * dilationX - padLeft;`,
    ),
    result: '(outer * rows + r) * columns',
    total: outChannels * columns,
    numbers: { ...numbers, rows: outGroup, depth, dilationY: dilation[0], dilationX: dilation[1] },
  }
}

function divisor(a: number, b: number): number {
  return b === 0 ? a : divisor(b, a % b)
}
