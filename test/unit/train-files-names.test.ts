// Names, layouts and widths of weights people hold: timm's and NVIDIA's, to and from ours.
import { join } from 'node:path'
import fc from 'fast-check'
import { getFloat16 } from 'fp16'
import { describe, expect, it } from 'vitest'
import {
  exportWeight,
  importWeight,
  oihwToOhwi,
  ohwiToOihw,
  parameterPath,
  readSafetensors,
  recogniseNaming,
  squeezeWidth,
  toFloat32,
} from '../../src/train/files/index.ts'
import type { FileDType, FileTensor } from '../../src/train/files/index.ts'

const bytesOf = (view: ArrayBufferView): Uint8Array => new Uint8Array(view.buffer, view.byteOffset, view.byteLength)
const file = (dtype: FileDType, shape: readonly number[], view: ArrayBufferView): FileTensor => ({
  dtype,
  shape,
  data: bytesOf(view),
})

describe('parameterPath', () => {
  const cases = [
    ['conv1.weight', 'conv1.weight'],
    ['bn1.running_var', 'bn1.running_var'],
    ['fc.bias', 'fc.bias'],
    ['layer1.0.conv1.weight', 'layers.0.0.conv1.weight'],
    ['layer3.22.bn3.running_mean', 'layers.2.22.bn3.running_mean'],
    ['layer4.0.downsample.1.weight', 'layers.3.0.downsample.1.weight'],
    ['layer1.2.se.fc1.weight', 'layers.0.2.squeeze.squeeze.weight'],
    ['layer1.2.se.fc2.bias', 'layers.0.2.squeeze.expand.bias'],
    ['layers.2.22.squeeze.expand.weight', 'layers.2.22.squeeze.expand.weight'],
    ['layer2.3.squeeze.squeeze.bias', 'layers.1.3.squeeze.squeeze.bias'],
    ['module.layers.0.0.conv2.weight', 'layers.0.0.conv2.weight'],
    ['module.layer2.0.downsample.0.weight', 'layers.1.0.downsample.0.weight'],
    ['head.weight', 'head.weight'],
    ['layer0.0.conv1.weight', 'layer0.0.conv1.weight'],
    ['bn1.num_batches_tracked', undefined],
    ['module.layers.0.0.bn2.num_batches_tracked', undefined],
  ] as const
  it.each(cases)('%s -> %s', (name, path) => {
    expect(parameterPath(name)).toBe(path)
  })
})

describe('real files', () => {
  // Written by timm under its own names; the other by PyTorch under NVIDIA's. Compared on each stage's first block.
  it("timm's and NVIDIA's weights of the same topology get the same paths", async () => {
    const golden = join(import.meta.dirname, '../golden')
    const timm = (await readSafetensors(join(golden, 'timm-small.safetensors'))).tensors
    const nvidia = (await readSafetensors(join(golden, 'seresnext-small-nvidia.safetensors'))).tensors
    expect(recogniseNaming(timm.keys())).toBe('timm')
    expect(recogniseNaming(nvidia.keys())).toBe('nvidia')
    const pathsOf = (names: Iterable<string>) => [...names].map(parameterPath).filter((path) => path !== undefined)
    const isBlock = (path: string) => /^layers\.\d\.0\./.test(path) && !path.includes('downsample')
    const stages = (names: Iterable<string>) => pathsOf(names).filter(isBlock).toSorted()
    expect(stages(timm.keys())).toEqual(stages(nvidia.keys()))
    const [, tensor] = [...timm].find(([name]) => name === 'layer1.0.conv2.weight') ?? []
    const weight = tensor && importWeight('layer1.0.conv2.weight', tensor)
    expect(weight?.shape).toEqual([tensor?.shape[0], 3, 3, 1])
  })
})

describe('recogniseNaming', () => {
  it('tells timm, NVIDIA and NVIDIA 20.06 apart', () => {
    expect(recogniseNaming(['conv1.weight', 'layer1.0.conv1.weight', 'layer1.0.se.fc1.weight'])).toBe('timm')
    expect(recogniseNaming(['conv1.weight', 'layer1.0.conv1.weight'])).toBe('timm')
    expect(recogniseNaming(['module.layer1.0.squeeze.squeeze.weight'])).toBe('nvidia-20.06')
    expect(recogniseNaming(['module.layers.0.0.conv1.weight', 'fc.weight'])).toBe('nvidia')
  })
})

describe('layouts', () => {
  it('puts element [o, i, h, w] at [o, h, w, i]', () => {
    const [out, inner, height, width] = [2, 3, 2, 4] as const
    const data = Float32Array.from({ length: 48 }, (_, i) => i)
    const ours = oihwToOhwi(data, [out, inner, height, width])
    for (let o = 0; o < out; o++) {
      for (let i = 0; i < inner; i++) {
        for (let h = 0; h < height; h++) {
          for (let w = 0; w < width; w++) {
            const there = data[((o * inner + i) * height + h) * width + w]
            expect(ours[((o * height + h) * width + w) * inner + i]).toBe(there)
          }
        }
      }
    }
    expect(() => oihwToOhwi(data, [2, 3, 2, 5])).toThrow(/expected 60 filter elements, got 48/)
  })

  it('export undoes import', () => {
    const extent = fc.integer({ min: 1, max: 4 })
    fc.assert(
      fc.property(extent, extent, extent, extent, (out, inner, height, width) => {
        const data = Float32Array.from({ length: out * inner * height * width }, (_, i) => i)
        const there = ohwiToOihw(oihwToOhwi(data, [out, inner, height, width]), [out, height, width, inner])
        expect(there).toEqual(data)
        const weight = importWeight('layer1.0.conv2.weight', file('F32', [out, inner, height, width], data))
        expect(weight?.shape).toEqual([out, height, width, inner])
        expect(weight && exportWeight(weight)).toEqual({
          path: 'layers.0.0.conv2.weight',
          shape: [out, inner, height, width],
          data,
        })
      }),
    )
  })

  it("makes linears of timm's 1x1 squeeze convolutions, and keeps 1x1 filters of convolutions", () => {
    const data = Float32Array.from([1, 2, 3, 4, 5, 6])
    const squeeze = importWeight('layer2.0.se.fc1.weight', file('F32', [2, 3, 1, 1], data))
    expect(squeeze).toEqual({ path: 'layers.1.0.squeeze.squeeze.weight', shape: [2, 3], data })
    expect(importWeight('layer2.0.se.fc2.bias', file('F32', [6], data))?.shape).toEqual([6])
    expect(importWeight('layer2.0.conv1.weight', file('F32', [2, 3, 1, 1], data))?.shape).toEqual([2, 1, 1, 3])
    expect(importWeight('layer2.0.downsample.0.weight', file('F32', [2, 3, 1, 1], data))?.shape).toEqual([2, 1, 1, 3])
    expect(importWeight('bn1.num_batches_tracked', file('I64', [], new BigInt64Array(1)))).toBeUndefined()
  })
})

describe('toFloat32', () => {
  it('widens all 65,536 float16 patterns as the fp16 package does', () => {
    const all = Uint16Array.from({ length: 65536 }, (_, i) => i)
    const got = toFloat32('all', file('F16', [65536], all))
    // Equal as numbers (Object.is: the sign of zero counts, NaN equals NaN).
    const view = new DataView(all.buffer)
    const wrong = Array.from(all).filter((half) => !Object.is(got[half], getFloat16(view, half * 2, true)))
    expect(wrong).toEqual([])
  })

  it('widens all bfloat16 patterns by their bits, rounds float64, shares float32', () => {
    const all = Uint16Array.from({ length: 65536 }, (_, i) => i)
    const got = toFloat32('all', file('BF16', [65536], all))
    const want = new Float32Array(Uint32Array.from(all, (word) => word * 65536).buffer)
    expect(Array.from(all).filter((word) => !Object.is(got[word], want[word]))).toEqual([])
    const doubles = Float64Array.of(0.1, 1 + 2 ** -24, -1e300, 1e-320)
    expect(Array.from(toFloat32('d', file('F64', [4], doubles)))).toEqual([Math.fround(0.1), 1, -Infinity, 0])
    const floats = Float32Array.of(1, 2)
    expect(toFloat32('f', file('F32', [2], floats)).buffer).toBe(floats.buffer)
    expect(() => toFloat32('i', file('I32', [1], new Int32Array(1)))).toThrow(
      /tensor 'i': expected floating-point elements, got I32/,
    )
  })
})

describe('squeezeWidth', () => {
  const model = (width: (channels: number) => number) =>
    [256, 512, 1024, 2048].map(
      (channels, i) => [`layers.${i}.0.squeeze.squeeze.weight`, [width(channels), channels]] as const,
    )
  it('tells the paper from NVIDIA, and a model without squeeze', () => {
    expect(squeezeWidth(model((channels) => channels / 16))).toEqual({ kind: 'ratio', ratio: 16 })
    expect(squeezeWidth(model(() => 16))).toEqual({ kind: 'fixed', width: 16 })
    expect(squeezeWidth([['conv1.weight', [64, 7, 7, 3]]])).toEqual({ kind: 'none' })
    expect(() => squeezeWidth(model((channels) => (channels === 512 ? 7 : 16)))).toThrow(/7 of 512/)
  })
})
