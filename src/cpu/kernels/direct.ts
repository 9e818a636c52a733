// Convolutions and products so small that packing anything would cost more than the sums: plain loops, one part, no
// scratch. Also the clearest statement of what the fast kernels compute.
import { type ConvExtents, multiplyAdds } from './geometry.ts'
import { type KernelSource, type Lowered, listArguments, operand, printArguments } from './launch.ts'
import { numericOf } from './numeric.ts'
import type { FloatDType } from '../../tensor/dtype.ts'

/** Whether plain loops are the better choice. */
export function isTiny(conv: ConvExtents): boolean {
  return multiplyAdds(conv) <= 16384
}

const convArguments = [
  ...['batch', 'height', 'width', 'channels', 'outHeight', 'outWidth', 'outChannels', 'kernelHeight', 'kernelWidth'],
  ...['strideY', 'strideX', 'padY', 'padX', 'dilationY', 'dilationX', 'groups'],
] as const

type Direction = 'forward' | 'inputGrad' | 'filterGrad'

const loop = (name: string, end: string) => `for (int64_t ${name} = 0; ${name} < ${end}; ++${name})`

/** The sum's loops and its term, for each direction; every loop ends where the reading stays inside the images. */
const bodies: Readonly<
  Record<
    Direction,
    {
      over: readonly [string, string][]
      sum: readonly [string, string][]
      guard: string
      to: string
      left: string
      right: string
    }
  >
> = {
  forward: {
    over: [
      ['b', 'batch'],
      ['oy', 'outHeight'],
      ['ox', 'outWidth'],
      ['o', 'outChannels'],
    ],
    sum: [
      ['ky', 'kernelHeight'],
      ['kx', 'kernelWidth'],
      ['c', 'cg'],
    ],
    guard: `const int64_t y = oy * strideY + ky * dilationY - padY, x = ox * strideX + kx * dilationX - padX;
        if (y < 0 || y >= height || x < 0 || x >= width) continue;`,
    to: '((b * outHeight + oy) * outWidth + ox) * outChannels + o',
    left: '((b * height + y) * width + x) * channels + o / og * cg + c',
    right: '((o * kernelHeight + ky) * kernelWidth + kx) * cg + c',
  },
  inputGrad: {
    over: [
      ['b', 'batch'],
      ['y', 'height'],
      ['x', 'width'],
      ['i', 'channels'],
    ],
    sum: [
      ['ky', 'kernelHeight'],
      ['kx', 'kernelWidth'],
      ['j', 'og'],
    ],
    guard: `const int64_t sy = y + padY - ky * dilationY, sx = x + padX - kx * dilationX, oy = sy / strideY, ox = sx / strideX;
        if (sy < 0 || sx < 0 || sy % strideY || sx % strideX || oy >= outHeight || ox >= outWidth) continue;
        const int64_t o = i / cg * og + j;`,
    to: '((b * height + y) * width + x) * channels + i',
    left: '((b * outHeight + oy) * outWidth + ox) * outChannels + o',
    right: '((o * kernelHeight + ky) * kernelWidth + kx) * cg + i % cg',
  },
  filterGrad: {
    over: [
      ['o', 'outChannels'],
      ['ky', 'kernelHeight'],
      ['kx', 'kernelWidth'],
      ['c', 'cg'],
    ],
    sum: [
      ['b', 'batch'],
      ['oy', 'outHeight'],
      ['ox', 'outWidth'],
    ],
    guard: `const int64_t y = oy * strideY + ky * dilationY - padY, x = ox * strideX + kx * dilationX - padX;
        if (y < 0 || y >= height || x < 0 || x >= width) continue;`,
    to: '((o * kernelHeight + ky) * kernelWidth + kx) * cg + c',
    left: '((b * height + y) * width + x) * channels + o / og * cg + c',
    right: '((b * outHeight + oy) * outWidth + ox) * outChannels + o',
  },
}

function printConv(direction: Direction, dtype: FloatDType): KernelSource {
  const { storage, compute } = numericOf(dtype)
  const { over, sum, guard, to, left, right } = bodies[direction]
  const name = `pb_direct_${direction}_${dtype}`
  const text = `
void ${name}(void *const *p, const int64_t *n, int64_t part) {
  ${printArguments(convArguments)}
  const int64_t cg = channels / groups, og = outChannels / groups;
  const ${storage} *left = (const ${storage} *)p[0], *right = (const ${storage} *)p[1];
  ${storage} *to = (${storage} *)p[2];
  (void)part; (void)og; (void)cg;
  ${over.map(([index, end]) => loop(index, end)).join('\n  ')} {
    ${compute} total = 0;
    ${sum.map(([index, end]) => loop(index, end)).join('\n    ')} {
        ${guard}
        total += pb_get_${dtype}(left + ${left}) * pb_get_${dtype}(right + ${right});
    }
    pb_put_${dtype}(to + ${to}, total);
  }
}
`
  return { name, text }
}

/** A whole convolution pass in plain loops; operands as in conv.ts. */
export function lowerDirect(direction: Direction, conv: ConvExtents): Lowered {
  const numbers = listArguments(convArguments as readonly string[], {
    ...{ batch: conv.batch, height: conv.height, width: conv.width, channels: conv.channels, groups: conv.groups },
    ...{ outHeight: conv.outHeight, outWidth: conv.outWidth, outChannels: conv.outChannels },
    ...{ kernelHeight: conv.kernelHeight, kernelWidth: conv.kernelWidth },
    ...{ strideY: conv.stride[0], strideX: conv.stride[1], padY: conv.padding[0][0], padX: conv.padding[1][0] },
    ...{ dilationY: conv.dilation[0], dilationX: conv.dilation[1] },
  })
  const pointers = [operand(0), operand(1), operand(2)]
  return { launches: [{ source: printConv(direction, conv.dtype), parts: 1, pointers, numbers }], scratchBytes: 0 }
}

const dotArguments = ['batch', 'rows', 'columns', 'depth', 'leftRow', 'leftDepth', 'rightDepth', 'rightColumn'] as const

/** C = A B in plain loops, for any order of A and B; operands A, B, C. */
export function lowerDirectDot(
  dtype: FloatDType,
  values: Readonly<Record<(typeof dotArguments)[number], number>>,
): Lowered {
  const { storage, compute } = numericOf(dtype)
  const name = `pb_direct_dot_${dtype}`
  const text = `
void ${name}(void *const *p, const int64_t *n, int64_t part) {
  ${printArguments(dotArguments)}
  const ${storage} *left = (const ${storage} *)p[0] + part * rows * depth, *right = (const ${storage} *)p[1] + part * columns * depth;
  ${storage} *to = (${storage} *)p[2] + part * rows * columns;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) {
      ${compute} total = 0;
      for (int64_t k = 0; k < depth; ++k)
        total += pb_get_${dtype}(left + r * leftRow + k * leftDepth) * pb_get_${dtype}(right + k * rightDepth + c * rightColumn);
      pb_put_${dtype}(to + r * columns + c, total);
    }
}
`
  const numbers = listArguments(dotArguments, values)
  const pointers = [operand(0), operand(1), operand(2)]
  return { launches: [{ source: { name, text }, parts: values.batch, pointers, numbers }], scratchBytes: 0 }
}
