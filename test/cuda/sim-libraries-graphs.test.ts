// Fused graphs and engines that are not to be taken in the simulated cuDNN: by descriptors as the tables of sequences make
// them, against plain loops in float64.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { bytesOf } from '../../src/tensor/dtype.ts'
import { roundTo } from '../../src/tensor/half.ts'
import { at, range } from '../../src/tensor/shape.ts'
import { type LibraryGpu, libraryGpu } from '../sim/cudnn-gpu.ts'
import { type Fusion, fusedSteps, fusionsOf } from './sequences/graphs.ts'
import { convolution, convolve, device, tensor } from './sequences/parts.ts'
import { type Step, assemble, statusOf } from './sequences/sequence.ts'
import { type Planned, execute, plansOf } from './sim-libraries-plans.ts'
import { difference, eighths } from './sim-libraries-values.ts'

let gpu: LibraryGpu
beforeEach(async () => {
  gpu = await libraryGpu()
}, 600_000)
afterEach(() => {
  expect(gpu.close().violations).toEqual([])
})

/** The extents of the fusions' tensors: pixels, input channels, output channels. */
const extents = { batch: 2, size: 5, channels: 16, outputs: 24 }
const { batch: n, size, channels: c, outputs: k } = extents
const pixels = n * size * size
const f16 = (value: number): number => roundTo('f16', value)
const relu = (value: number): number => Math.max(0, value)

/** rows x inner times (columns x inner, or inner x columns) as a 1x1 convolution multiplies. */
function product(
  a: readonly number[],
  b: readonly number[],
  rows: number,
  inner: number,
  columns: number,
  turned: boolean,
) {
  const out: number[] = []
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) {
      let sum = 0
      for (let i = 0; i < inner; i++)
        sum += at(a, row * inner + i) * at(b, turned ? i * columns + column : column * inner + i)
      out.push(sum)
    }
  return out
}

const x = eighths(1, pixels * c)
const w = eighths(2, k * c)
const dy = eighths(3, pixels * k)

/** What each fusion computes: its operands and results by identifier, of f16 but for the vectors and sums. */
interface Expectation {
  readonly operands: Readonly<Record<number, readonly number[]>>
  readonly results: Readonly<Record<number, readonly number[]>>
  readonly vectors: readonly number[]
}

const perOutput = eighths(4, k)
const perInput = eighths(5, c)
const other = eighths(6, c)
const residual = eighths(7, pixels * k)
const forward = product(x, w, pixels, c, k, false)
const backward = product(dy, w, pixels, k, c, true)
const old = eighths(8, pixels * c)
const factors = eighths(9, k)
const biases = eighths(10, k)
const gates = eighths(11, n * k)

const channelSums = (values: readonly number[], channels: number, term = (value: number) => value) =>
  range(channels).map((channel) => {
    let sum = 0
    for (let i = channel; i < values.length; i += channels) sum += term(at(values, i))
    return sum
  })

const prologue = x.map((value, i) => f16(relu(value * at(perInput, i % c) + at(other, i % c))))
const masked = backward.map((value, i) => f16(at(old, i) > 0 ? value : 0))

const expectations: Readonly<Record<string, Expectation>> = {
  'bias, ReLU': {
    operands: { 1: x, 2: w, 4: perOutput },
    results: { 6: forward.map((value, i) => f16(relu(value + at(perOutput, i % k)))) },
    vectors: [4],
  },
  residual: {
    operands: { 1: x, 2: w, 4: residual },
    results: { 5: forward.map((value, i) => f16(value + at(residual, i))) },
    vectors: [],
  },
  statistics: {
    operands: { 1: x, 2: w },
    results: {
      3: forward.map(f16),
      4: channelSums(forward.map(f16), k).map(Math.fround),
      5: channelSums(forward.map(f16), k, (value) => value * value).map(Math.fround),
    },
    vectors: [4, 5],
  },
  'sum per image': {
    operands: { 1: x, 2: w },
    results: {
      3: forward.map(f16),
      4: range(n).flatMap((image) => {
        const one = forward.slice(image * size * size * k, (image + 1) * size * size * k).map(f16)
        return channelSums(one, k).map(Math.fround)
      }),
    },
    vectors: [4],
  },
  'after scale, bias, ReLU': {
    operands: { 4: x, 2: w, 5: perInput, 6: other },
    results: { 3: product(prologue, w, pixels, c, k, false).map(f16) },
    vectors: [5, 6],
  },
  'batch norm, gate, residual, ReLU': {
    operands: { 1: x, 2: w, 4: perOutput, 5: factors, 6: biases, 7: gates, 8: residual },
    results: {
      9: forward.map((value, i) => {
        const normalized = (value - at(perOutput, i % k)) * at(factors, i % k) + at(biases, i % k)
        const gate = at(gates, Math.floor(i / (size * size * k)) * k + (i % k))
        return f16(relu(normalized * gate + at(residual, i)))
      }),
    },
    vectors: [4, 5, 6],
  },
  'added gradient, ReLU backward': {
    operands: { 2: w, 3: dy, 4: x, 5: old },
    results: { 6: backward.map((value, i) => f16(at(old, i) > 0 ? value + at(x, i) : 0)) },
    vectors: [],
  },
  'ReLU backward': { operands: { 2: w, 3: dy, 4: old }, results: { 5: masked }, vectors: [] },
  'added gradient': {
    operands: { 2: w, 3: dy, 4: old },
    results: { 5: backward.map((value, i) => f16(value + at(old, i))) },
    vectors: [],
  },
  'ReLU backward, sum per channel': {
    operands: { 2: w, 3: dy, 4: old },
    results: { 5: masked, 6: channelSums(masked, c).map(Math.fround) },
    vectors: [6],
  },
}

/** Results by identifier as a plan computes them. */
function compute(planned: Planned, { operands, results, vectors }: Expectation): Record<number, number[]> {
  const dtype = (id: string) => (vectors.includes(Number(id)) ? 'f32' : 'f16')
  const inputs = Object.entries(operands).map(([id, values]) => [Number(id), gpu.upload(dtype(id), values)] as const)
  const outputs = Object.entries(results).map(
    ([id, values]) => [Number(id), gpu.allocate(values.length * bytesOf(dtype(id)))] as const,
  )
  const all = [...inputs, ...outputs]
  const workspace = planned.workspace > 0 ? gpu.allocate(planned.workspace) : 0n
  execute(
    gpu,
    planned,
    all.map(([id]) => id),
    all.map(([, address]) => address),
    workspace,
  )
  return Object.fromEntries(
    outputs.map(([id, address]) => [
      id,
      gpu.download(
        dtype(String(id)),
        address,
        at(
          Object.values(results),
          outputs.findIndex(([other]) => other === id),
        ).length,
      ),
    ]),
  )
}

describe('fused graphs', () => {
  test.each(fusionsOf(extents).flatMap((fusion) => [3, 2].map((mode) => ({ ...fusion, mode }))))(
    '$direction with $name, mode $mode',
    ({ name, operations, mode, ...fusion }: Fusion & { readonly mode: number }) => {
      const expectation = expectations[name]
      if (expectation === undefined) throw new Error(`nothing is expected of ${name}`)
      const plans = plansOf(gpu, fusedSteps(fusion, extents), operations, mode)
      const compiled = mode === 2 ? 81 : fusion.direction === 'FORWARD' ? 62 : 67
      expect([...plans.keys()]).toEqual([...(name === 'statistics' && mode === 3 ? [2] : []), compiled])
      for (const [engine, planned] of plans) {
        const [found, again] = [compute(planned, expectation), compute(planned, expectation)]
        for (const [id, wanted] of Object.entries(expectation.results)) {
          const [once, twice] = [found[Number(id)] ?? [], again[Number(id)] ?? []]
          // Kernels that are compiled for a graph add its sums up with atomics: each time others, as far as f32 tells.
          const unsteady =
            engine === compiled && expectation.vectors.includes(Number(id)) && /sum|statistics/.test(name)
          expect(difference(once, twice) !== undefined, `tensor ${id} varies`).toBe(unsteady)
          const near = wanted.map((value, i) =>
            unsteady && Math.abs(value - at(once, i)) <= 2 ** -22 * Math.abs(value) ? at(once, i) : value,
          )
          expect(difference(once, near), `tensor ${id}`).toBeUndefined()
        }
        planned.release()
      }
    },
  )
})

describe('engines that are not to be taken', () => {
  const plain = fusedSteps({ direction: 'FORWARD', parts: [] }, extents)
  const expectation: Expectation = { operands: { 1: x, 2: w }, results: { 3: forward.map(f16) }, vectors: [] }

  test('one that is not deterministic gives other bits in each run, the others the same', () => {
    const plans = plansOf(gpu, plain, ['conv'])
    for (const [engine, planned] of plans) {
      if (engine === 30) continue
      const [first, second] = [compute(planned, expectation)[3], compute(planned, expectation)[3]]
      const other = difference(first ?? [], second ?? [])
      if (engine === 20 || engine === 25) expect(other, `engine ${engine}`).toBeDefined()
      else expect(other, `engine ${engine}`).toBeUndefined()
    }
    for (const { release } of plans.values()) release()
  })

  test('one that sums in 16 bits is further off than the last bit', () => {
    const plans = plansOf(gpu, plain, ['conv'])
    const planned = plans.get(25)
    if (planned === undefined) throw new Error('no engine 25')
    const found = compute(planned, expectation)[3] ?? []
    const worst = Math.max(
      ...found.map((value, i) => Math.abs(value - at(forward, i)) / Math.max(1, Math.abs(at(forward, i)))),
    )
    expect(worst).toBeGreaterThan(2 ** -9)
    expect(worst).toBeLessThan(2 ** -3)
    for (const { release } of plans.values()) release()
  })

  test('they are the fastest, and the fallback the slowest', () => {
    const plans = plansOf(gpu, plain, ['conv'])
    const times = [...plans]
      .filter(([engine]) => engine !== 30)
      .map(([engine, planned]) => [engine, gpu.time(() => compute(planned, expectation))] as const)
    const order = times.sort(([, a], [, b]) => a - b).map(([engine]) => engine)
    expect(order[0]).toBe(25)
    expect(order.at(-1)).toBe(0)
    for (const { release } of plans.values()) release()
  })

  test('one cannot be captured; the others replay', () => {
    const plans = plansOf(gpu, plain, ['conv'])
    const addresses = [gpu.upload('f16', x), gpu.upload('f16', w), gpu.allocate(pixels * k * 2)]
    const workspace = gpu.allocate(1 << 24)
    for (const [engine, planned] of plans) {
      if (engine === 30) continue
      gpu.driver.beginCapture(gpu.stream)
      const status = statusOf(() => execute(gpu, planned, [1, 2, 3], addresses, workspace))
      expect(status, `engine ${engine}`).toBe(engine === 46 ? 5001 : 0)
      if (engine === 46) {
        expect(() => gpu.driver.endCapture(gpu.stream)).toThrow(/status 901/)
        continue
      }
      const graph = gpu.driver.endCapture(gpu.stream)
      const executable = gpu.driver.instantiateGraph(graph)
      gpu.driver.fill8(at(addresses, 2), 0xff, pixels * k * 2, gpu.stream)
      gpu.driver.launchGraph(executable, gpu.stream)
      if (engine !== 20 && engine !== 25)
        expect(difference(gpu.download('f16', at(addresses, 2), pixels * k), forward.map(f16))).toBeUndefined()
      gpu.driver.synchronizeStream(gpu.stream)
      gpu.driver.destroyGraphExecutable(executable)
      gpu.driver.destroyGraph(graph)
    }
    for (const { release } of plans.values()) release()
  })
})

describe('what has no plan here', () => {
  test('one and three spatial dimensions are refused: nothing of ours has them', () => {
    const steps = [
      ...tensor('x', { dims: [8, 64, 14], strides: [896, 1, 64], uid: 1 }),
      ...tensor('w', { dims: [64, 64, 1], strides: [64, 1, 64], uid: 2 }),
      ...tensor('y', { dims: [8, 64, 14], strides: [896, 1, 64], uid: 3 }),
      ...convolution('c').map((step): Step => {
        if (step[0] !== 'set' || step[3] !== 'INT64') return step
        return ['set', step[1], step[2], step[3], [step[2] === 'CONVOLUTION_SPATIAL_DIMS' ? 1 : Number(step[4][0])]]
      }),
      ...convolve('conv', 'FORWARD', 'c', ['x', 'w', 'y']),
    ]
    expect([...plansOf(gpu, steps, ['conv']).keys()]).toEqual([])
  })

  test('a device is described by its handle, or by the current one', () => {
    const made = assemble(gpu.cudnn, [
      ['create', 'current', 'DEVICEPROP'],
      ['finalize', 'current'],
    ])
    for (const descriptor of made.values()) gpu.cudnn.destroyDescriptor(descriptor)
    expect(statusOf(() => void assemble(gpu.cudnn, device('d', '{}')))).toBe(2000)
  })
})
