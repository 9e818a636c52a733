// Our own CUDA kernels through the real NVRTC for three generations of GPUs, with the registers and spills of each. Needs no
// GPU; where there is no NVRTC it says so.
import { describe, expect, it } from 'vitest'
import type { LibraryEquation, LibraryPrimitive } from '../../src/compile/index.ts'
import { lowerCutChannels, lowerPadChannels } from '../../src/cuda/kernels/channels.ts'
import { lowerOwn } from '../../src/cuda/kernels/index.ts'
import { cudaOptions, cudaPrelude } from '../../src/cuda/prelude.ts'
import type { Lowered } from '../../src/cuda/work.ts'
import { abstractEvaluate } from '../../src/tensor/abstract.ts'
import { type DType, type FloatDType, dtypes } from '../../src/tensor/dtype.ts'
import type { PrimitiveParams } from '../../src/tensor/primitives.ts'
import { type TensorType, variable } from '../../src/tensor/program.ts'
import { sourcesOf } from './kernels-own.ts'
import { nvrtcOrAbsent } from './print-nvrtc.ts'

const nvrtc = nvrtcOrAbsent('our own kernels are not compiled')

const floats = ['f32', 'f16', 'bf16', 'f64'] as const

describe.skipIf(nvrtc === undefined)('NVRTC compiles', { timeout: 300_000 }, () => {
  it.each(['sm_80', 'sm_90', 'sm_100'])('every kind of own kernel for %s', (architecture) => {
    if (nvrtc === undefined) throw new Error('no NVRTC')
    const sources = sourcesOf(kinds())
    expect(sources.length).toBeGreaterThan(60)
    const text = [cudaPrelude, ...sources.map((source) => source.text)].join('\n')
    const options = [...cudaOptions, `--gpu-architecture=${architecture}`, '--ptxas-options=-v']
    const { status, log, cubinBytes } = nvrtc.compile(text, options)
    expect(status, log.slice(0, 4000)).toBe(0)
    expect(cubinBytes).toBeGreaterThan(0)
    const used = [...log.matchAll(/Compiling entry function '(\w+)'[^]*?Used (\d+) registers/g)].map(
      ([all, name = '', registers]) => ({ name, registers: Number(registers), spilled: spilledBytes(all) }),
    )
    expect(used.length, 'every kernel has its line of the assembler').toBe(sources.length)
    const most = used.sort((a, b) => b.registers - a.registers).slice(0, 5)
    const lines = most.map(({ name, registers }) => `${registers} ${name}`)
    console.log(`${architecture}: ${sources.length} sources, registers at most: ${lines.join(', ')}`)
    expect(used.filter(({ registers }) => registers > 128)).toEqual([])
    expect(used.filter(({ spilled }) => spilled > (architecture === 'sm_100' ? 40 : 0))).toEqual([]) // one in f64
  })
})

function spilledBytes(log: string): number {
  const counts = [...log.matchAll(/(\d+) bytes (?:stack frame|spill stores|spill loads)/g)]
  return counts.reduce((sum, [, bytes]) => sum + Number(bytes), 0)
}

function lower<P extends LibraryPrimitive>(
  primitive: P,
  inputs: readonly TensorType[],
  params: PrimitiveParams[P],
): Lowered {
  const outputs = abstractEvaluate(primitive, inputs, params).map((type) => variable(type))
  const equation = { primitive, inputs: inputs.map((type) => variable(type)), params, outputs }
  return lowerOwn(equation as unknown as LibraryEquation)
}

const same = [
  [1, 1],
  [1, 1],
] as const
const type = (dtype: DType, ...shape: readonly number[]): TensorType => ({ shape, dtype })

/** Steps that between them have every kernel, dtype, width, layout and tile, and indices of 32 and 64 bits. */
function kinds(): Lowered[] {
  return [
    ...dtypes.flatMap((dtype, i) => takes(dtype, i === 0 ? 2 ** 31 : 1000, 2 ** i)),
    ...floats.flatMap((dtype, i) => adds(dtype, i === 3 ? 2 ** 31 : 1000)),
    ...[lower('allReduce', [type('f16', 77)], { op: 'sum', group: 1 })],
    ...poolings('f16', 2, 64, 3),
    ...poolings('f64', 2, 1, 3),
    ...poolings('f32', 2 ** 20, 64, 3),
    ...poolings('bf16', 2, 2, 30),
    ...product('f32', 1, [1024, 1024, 64], false, false),
    ...product('f16', 1, [1024, 16, 8192], false, true),
    ...product('bf16', 2 ** 16, [128, 128, 64], true, true),
    ...product('f64', 3, [15, 333, 33], true, false),
    ...convolutions('f16', 8, [64, 64, 1]),
    ...convolutions('bf16', 8, [3, 64, 1]),
    ...convolutions('f32', 8, [4, 4, 32]),
    ...convolutions('f64', 2 ** 20, [16, 5, 2]),
    ...padding('f16', 1000, 8),
    ...padding('bf16', 2 ** 30, 4),
    ...padding('f32', 1000, 4),
  ]
}

/** To and from padded channels, as around the model's first convolution. */
function padding(dtype: 'f16' | 'bf16' | 'f32', rows: number, channels: number): Lowered[] {
  return [
    lowerPadChannels({ dtype, rows, from: 3, to: channels }),
    lowerCutChannels({ dtype, rows, from: channels, to: 3 }),
  ]
}

function takes(dtype: DType, rows: number, after: number): Lowered[] {
  const x = type(dtype, rows, after)
  return [lower('gather', [x, type('i32', 300)], { axis: 0 }), lower('argMax', [x], { axis: 1 })]
}

function adds(dtype: FloatDType, rows: number): Lowered[] {
  return [300, 30_000].map((count) =>
    lower('scatterAdd', [type(dtype, count, 3), type('i32', count)], { axis: 0, shape: [rows, 3] }),
  )
}

function poolings(dtype: FloatDType, images: number, channels: number, window: number): Lowered[] {
  const params = { window: [window, window], stride: [2, 2], padding: same } as const
  const x = type(dtype, images, 40, 40, channels)
  const y = type(dtype, ...(abstractEvaluate('maxPool2d', [x], params)[0]?.shape ?? []))
  return [
    lower('maxPool2d', [x], params),
    lower('avgPool2d', [x], params),
    lower('maxPool2dPick', [x, x], params),
    lower('maxPool2dGrad', [x, y], params),
    lower('avgPool2dGrad', [y], { ...params, inputShape: x.shape }),
  ]
}

type Triple = readonly [number, number, number]

function product(dtype: FloatDType, batch: number, [m, n, k]: Triple, left: boolean, right: boolean): Lowered[] {
  const a = left ? type(dtype, batch, k, m) : type(dtype, batch, m, k)
  const b = right ? type(dtype, batch, n, k) : type(dtype, batch, k, n)
  return [lower('dot', [a, b], { batch: [[0], [0]], contract: [[left ? 1 : 2], [right ? 2 : 1]] })]
}

function convolutions(dtype: FloatDType, images: number, [group, outGroup, groups]: Triple): Lowered[] {
  const params = { stride: [2, 2], padding: same, dilation: [1, 1], groups } as const
  const x = type(dtype, images, 20, 20, group * groups)
  const w = type(dtype, outGroup * groups, 3, 3, group)
  const y = type(dtype, ...(abstractEvaluate('conv2d', [x, w], params)[0]?.shape ?? []))
  return [
    lower('conv2d', [x, w], params),
    lower('conv2dInputGrad', [y, w], { ...params, inputShape: x.shape }),
    lower('conv2dFilterGrad', [x, y], { ...params, filterShape: w.shape }),
  ]
}
