// The ResNet family: parameter counts and names as published, and any other member in one line.
import { beforeAll, describe, expect, test } from 'vitest'
import { type ArchitectureOptions, type ResNet, architectures, resnet } from '../../src/nn/index.ts'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'
import { tensor } from '../../src/tensor/ops/index.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import { sizeOf } from '../../src/tensor/shape.ts'
import { flatten } from '../../src/tensor/tree.ts'

beforeAll(() => {
  setDefaultDevice(referenceDevice())
})

const image = [1, 224, 224, 3]

function count(model: ResNet): number {
  return flatten(model.describe(image).params).leaves.reduce((total, { shape }) => total + sizeOf(shape), 0)
}

describe('as published', () => {
  test.each([
    ['se-resnext101-32x4d', {}, 48_955_416],
    ['se-resnext101-32x4d', { squeeze: { width: 16 } }, 45_251_128],
    ['resnext101-32x4d', {}, 44_177_704],
    ['resnet50', {}, 25_557_032],
    ['se-resnext50-32x4d', {}, 27_559_896],
    ['se-resnext26-32x4d', {}, 16_790_280],
  ] as const satisfies readonly (readonly [keyof typeof architectures, ArchitectureOptions, number])[])(
    '%s %j has %i parameters',
    (name, options, parameters) => {
      expect(count(architectures[name](options))).toBe(parameters)
    },
  )

  test('names and layouts are those of NVIDIA and PyTorch, filters as [out, h, w, in / groups]', () => {
    const { params, state, outputShape } = architectures['se-resnext101-32x4d']().describe(image)
    const { leaves, structure } = flatten(params)
    const shapes = new Map(structure.paths.map((path, i) => [path, leaves[i]?.shape]))
    expect(shapes.size).toBe(3 * 3 * 33 + 4 * 33 + 4 * 3 + 3 + 2)
    expect(shapes.get('conv1.weight')).toEqual([64, 7, 7, 3])
    expect(shapes.get('layers.2.22.conv2.weight')).toEqual([512, 3, 3, 16])
    expect(shapes.get('layers.3.0.downsample.0.weight')).toEqual([2048, 1, 1, 1024])
    expect(shapes.get('layers.3.0.downsample.1.bias')).toEqual([2048])
    expect(shapes.get('layers.0.2.squeeze.squeeze.weight')).toEqual([16, 256])
    expect(shapes.get('layers.0.2.squeeze.expand.bias')).toEqual([256])
    expect(shapes.get('fc.weight')).toEqual([1000, 2048])
    expect(flatten(state).structure.paths).toContain('layers.3.0.downsample.1.running_var')
    expect(outputShape).toEqual([1, 1000])
  })
})

describe('in one line', () => {
  test('a toy runs, in training and in evaluation', async () => {
    const model = resnet({
      layers: [1, 1],
      widths: 8,
      expansion: 2,
      cardinality: 4,
      squeeze: { ratio: 8 },
      classes: 3,
      stemChannels: 4,
    })
    const { params, state } = model.init(0, [2, 16, 16, 3])
    const x = tensor(
      Float32Array.from({ length: 2 * 16 * 16 * 3 }, (_, i) => Math.sin(i)),
      { shape: [2, 16, 16, 3] },
    )
    for (const training of [true, false]) {
      const [logits] = model.apply(params, state, x, { training })
      expect(logits.shape).toEqual([2, 3])
      expect((await logits.data()).every((value) => Number.isFinite(value))).toBe(true)
    }
  })

  test('options change what they say: depth, widths, classes, and gamma 0 where a block ends', async () => {
    const model = resnet({
      layers: [2, 1],
      widths: [6, 4],
      expansion: 3,
      classes: 7,
      lastBnZeroInit: true,
      stemChannels: 5,
    })
    const { params } = model.init(0, [1, 32, 32, 3])
    expect(params.layers.map((stage) => stage.map(({ conv3 }) => conv3.weight.shape))).toEqual([
      [
        [18, 1, 1, 6],
        [18, 1, 1, 6],
      ],
      [[12, 1, 1, 4]],
    ])
    expect([...(await params.layers[0]![0]!.bn3.weight.data())]).toEqual(new Array(18).fill(0))
    expect([...(await params.layers[0]![0]!.bn2.weight.data())]).toEqual(new Array(6).fill(1))
    expect(params.fc.weight.shape).toEqual([7, 12])
  })

  test('what does not fit', () => {
    expect(() => resnet({ layers: [1, 1], widths: [8], expansion: 2 })).toThrow(/\[resnet\] expected 2 widths/)
    expect(() => resnet({ layers: [1], widths: 12, expansion: 2, cardinality: 8 })).toThrow(
      /cardinality 8 divides, got 12/,
    )
  })
})
