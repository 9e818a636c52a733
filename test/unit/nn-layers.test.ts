// Layers: shapes and dtypes they give, names of their parameters, state as a value, and errors that say what to do.
import { beforeAll, describe, expect, test } from 'vitest'
import { autocast } from '../../src/autograd/index.ts'
import {
  type Layer,
  type Parameter,
  activations,
  avgPool2d,
  batchNorm,
  conv2d,
  dropout,
  flatten,
  globalAvgPool,
  identity,
  leakyRelu,
  linear,
  maxPool2d,
  relu,
  residual,
  serial,
  squeezeExcite,
} from '../../src/nn/index.ts'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'
import { cast, tensor } from '../../src/tensor/ops/index.ts'
import { key } from '../../src/tensor/random.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { type Tree, flatten as leaves } from '../../src/tensor/tree.ts'

beforeAll(() => {
  setDefaultDevice(referenceDevice())
})

const train = { training: true }
const evaluate = { training: false }

function paths(tree: Tree<Parameter> | Tree<Tensor>): readonly string[] {
  return leaves(tree as Tree<Tensor>).structure.paths
}

/** Numbers from -1 to 1 that repeat nothing for a while. */
function ramp(shape: readonly number[]): Tensor {
  const size = shape.reduce((a, b) => a * b, 1)
  return tensor(
    Float32Array.from({ length: size }, (_, i) => Math.sin(i * 1.7)),
    { shape },
  )
}

const image = [2, 6, 6, 4]
const each: readonly (readonly [string, Layer, readonly number[]])[] = [
  ['conv2d', conv2d({ features: 8, kernel: 3, stride: 2, padding: 1, groups: 2 }), [2, 3, 3, 8]],
  ['conv2d, dilated', conv2d({ features: 3, kernel: [3, 1], dilation: 2, bias: false }), [2, 2, 6, 3]],
  ['batchNorm', batchNorm(), image],
  ['relu', relu(), image],
  ['leakyRelu', leakyRelu(0.2), image],
  ['maxPool2d', maxPool2d(3, { stride: 2, padding: 1 }), [2, 3, 3, 4]],
  ['avgPool2d', avgPool2d(2), [2, 3, 3, 4]],
  ['globalAvgPool', globalAvgPool(), [2, 4]],
  ['flatten', flatten(), [2, 144]],
  ['linear', linear(5), [2, 6, 6, 5]],
  ['squeezeExcite', squeezeExcite(2), image],
  ['dropout', dropout(0.5), image],
  ['identity', identity(), image],
  ['residual', residual(conv2d({ features: 4, kernel: 3, padding: 1 })), image],
]

describe.each(each)('%s', (_name, layer, outputShape) => {
  test('the description tells the shape of the output, and of every parameter and statistic', () => {
    const described = layer.describe(image)
    const { params, state } = layer.init(1, image)
    expect(described.outputShape).toEqual(outputShape)
    for (const [tree, values] of [
      [described.params, params],
      [described.state, state],
    ] as const) {
      expect(paths(tree)).toEqual(paths(values))
      const shapes = leaves<Parameter>(tree).leaves.map(({ shape }) => shape)
      expect(leaves<Tensor>(values).leaves.map(({ shape }) => shape)).toEqual(shapes)
    }
    const [y, next] = layer.apply(params, state, ramp(image), { ...train, key: key(3) })
    expect(y.shape).toEqual(outputShape)
    expect(paths(next)).toEqual(paths(state))
  })

  test('a 16-bit input under autocast gives a 16-bit output, and f32 statistics', () => {
    const { params, state } = layer.init(1, image)
    const apply = autocast((x: Tensor) => layer.apply(params, state, x, { ...train, key: key(3) }), { compute: 'f16' })
    const [y, next] = apply(cast(ramp(image), 'f16'))
    expect(y.dtype).toBe('f16')
    expect(leaves<Tensor>(next).leaves.every(({ dtype }) => dtype === 'f32')).toBe(true)
  })
})

describe('batchNorm', () => {
  test('in evaluation the state goes through untouched, and one image does not depend on the others', async () => {
    const layer = batchNorm()
    const { params } = layer.init(0, [2, 3])
    const state = { running_mean: tensor([1, 2, 3]), running_var: tensor([4, 9, 16]) }
    const x = tensor([
      [1, 2, 3],
      [3, 5, 7],
    ])
    const [y, next] = layer.apply(params, state, x, evaluate)
    expect(next).toBe(state)
    const expected = [0, 0, 0, 2 / Math.sqrt(4 + 1e-5), 3 / Math.sqrt(9 + 1e-5), 4 / Math.sqrt(16 + 1e-5)]
    const values = await y.data()
    expected.forEach((value, i) => expect(values[i]).toBeCloseTo(value, 6))
  })

  test('one value per channel in training is an error that says so', () => {
    const layer = batchNorm()
    const { params, state } = layer.init(0, [1, 1, 1, 3])
    expect(() => layer.apply(params, state, ramp([1, 1, 1, 3]), train)).toThrow(
      /\[batchNorm\] expected more than one value per channel.*got 1/,
    )
  })

  test('integers are an error that names cast', () => {
    const layer = batchNorm()
    const { params, state } = layer.init(0, [2, 3])
    expect(() => layer.apply(params, state, cast(ramp([2, 3]), 'i32'), evaluate)).toThrow(/\[batchNorm\].*i32.*cast/)
  })
})

describe('dropout', () => {
  test('keeps about the share it should, scales what it keeps, and is nothing in evaluation', async () => {
    const x = tensor(new Float32Array(4000).fill(3))
    const [y] = dropout(0.25).apply({}, {}, x, { training: true, key: key(7) })
    const kept = [...(await y.data())].filter((value) => value !== 0)
    expect(kept.every((value) => value === Math.fround(3 * Math.fround(1 / 0.75)))).toBe(true)
    // The standard deviation of the share is 0.0068: this is four of them.
    expect(Math.abs(kept.length / 4000 - 0.75)).toBeLessThan(0.028)
    const [same] = dropout(0.25).apply({}, {}, x, evaluate)
    expect(same).toBe(x)
  })

  test('each dropout of a model draws its own bits, the same for the same key', async () => {
    const model = serial([dropout(0.5), dropout(0.5)])
    const seen = new Map<string, Tensor>()
    const observe = (path: string, y: Tensor): void => void seen.set(path, y)
    const x = tensor(new Float32Array(64).fill(1))
    const draw = async (mode: { path?: string }, seed: number) =>
      [
        ...(await dropout(0.5)
          .apply({}, {}, x, { training: true, key: key(seed), ...mode })[0]
          .data()),
      ].join()
    expect(await draw({ path: '0' }, 1)).toBe(await draw({ path: '0' }, 1))
    expect(await draw({ path: '0' }, 1)).not.toBe(await draw({ path: '1' }, 1))
    expect(await draw({ path: '0' }, 1)).not.toBe(await draw({ path: '0' }, 2))
    model.apply([{}, {}], [{}, {}], x, { training: true, key: key(1), observe })
    expect([...(await seen.get('0')!.data())].join()).toBe(await draw({ path: '0' }, 1))
  })

  test('training without a key is an error', () => {
    expect(() => dropout(0.5).apply({}, {}, ramp([2]), train)).toThrow(/\[dropout\] expected a random key/)
    expect(() => dropout(1)).toThrow(/\[dropout\] expected a rate/)
  })
})

describe('names', () => {
  const block = residual(
    serial({ conv1: conv2d({ features: 4, kernel: 1, bias: false }), bn1: batchNorm(), relu: relu() }),
    serial([conv2d({ features: 4, kernel: 1, bias: false }), batchNorm()]),
    { activation: activations.relu },
  )
  const model = serial({
    stem: conv2d({ features: 3, kernel: 1 }),
    layers: serial([serial([block, block]), block]),
    fc: linear(2),
  })

  test('a parameter is called by its path; what has no parameters is in no tree', () => {
    const { params, state } = model.describe(image)
    const names = [
      'bn1.bias',
      'bn1.weight',
      'conv1.weight',
      'downsample.0.weight',
      'downsample.1.bias',
      'downsample.1.weight',
    ]
    const blocks = ['layers.0.0', 'layers.0.1', 'layers.1'].flatMap((at) => names.map((name) => `${at}.${name}`))
    expect(paths(params)).toEqual(['fc.bias', 'fc.weight', ...blocks, 'stem.bias', 'stem.weight'])
    expect(paths(state)).toContain('layers.0.1.downsample.1.running_var')
  })

  test('types know the names', () => {
    const { params, state } = model.init(0, image)
    // These lines compile only if the types follow the tree.
    const weights: readonly Tensor[] = [params.stem.weight, params.layers[0][1].conv1.weight, params.fc.weight]
    const statistics: Tensor = state.layers[1].bn1.running_mean
    // @ts-expect-error a layer without parameters is in no tree
    const missing: unknown = params.layers[0][0].relu
    expect([weights.length, statistics.shape, missing]).toEqual([3, [4], undefined])
  })

  test('observe sees every named layer in order, children before their parent', () => {
    const { params, state } = model.init(0, image)
    const seen: string[] = []
    model.apply(params, state, ramp(image), { training: true, observe: (path) => seen.push(path) })
    const inBlock = ['conv1', 'bn1', 'relu', 'downsample.0', 'downsample.1', 'downsample', '']
    const of = (at: string): string[] => inBlock.map((name) => (name === '' ? at : `${at}.${name}`))
    expect(seen).toEqual([
      'stem',
      ...of('layers.0.0'),
      ...of('layers.0.1'),
      'layers.0',
      ...of('layers.1'),
      'layers',
      'fc',
    ])
  })

  test('integer names, whose order objects do not keep, are refused', () => {
    expect(() => serial({ '1': relu(), '0': relu() })).toThrow(/\[serial\] the name '0' is an integer/)
  })
})

describe('what does not fit', () => {
  test.each([
    [
      'a shortcut of another size',
      () => residual(conv2d({ features: 3, kernel: 1 })).describe(image),
      /\[residual\] expected a shortcut to 2x6x6x3, got 2x6x6x4/,
    ],
    [
      'channels that groups do not divide',
      () => conv2d({ features: 4, kernel: 1, groups: 3 }).describe(image),
      /\[conv2d\]/,
    ],
    ['a window larger than the image', () => maxPool2d(9).describe(image), /\[maxPool2d\] the window reaches over 9/],
    ['images of rank 2', () => globalAvgPool().describe([2, 3]), /\[globalAvgPool\] expected images/],
    ['a scalar', () => linear(3).describe([]), /\[linear\] expected at least one axis/],
    [
      'other inputs than described',
      () => linear(2).apply(linear(2).init(0, [1, 3]).params, {}, ramp([1, 4]), train),
      /\[linear\] expected 3 inputs \(weight 2x3\), got 1x4/,
    ],
  ])('%s', (_what, act, message) => {
    expect(act).toThrow(message)
  })
})
