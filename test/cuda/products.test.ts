// Small products together: the kernel gives the rounded sums whatever its extents and the order of threads, one launch gives what
// many did, a plan has them where they may be and nowhere else, and a device computes the same with and without them.
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { traceFlat } from '../../src/autograd/trace.ts'
import { type Plan, compileProgram, dotExtents } from '../../src/compile/index.ts'
import { fuseSteps } from '../../src/cuda/fusions/arrange.ts'
import type { Products } from '../../src/cuda/fusions/fusion.ts'
import { productsCandidate } from '../../src/cuda/fusions/product-tasks.ts'
import { transposedProduct } from '../../src/cuda/kernels/transposed.ts'
import type { DotEquation } from '../../src/cuda/matmul/index.ts'
import { cudaOptions, cudaPrelude } from '../../src/cuda/prelude.ts'
import type { Candidate } from '../../src/cuda/work.ts'
import { bindOne, setDefaultDevice } from '../../src/tensor/dispatch.ts'
import { decode, encode, roundTo } from '../../src/tensor/half.ts'
import * as ops from '../../src/tensor/ops/index.ts'
import type { TensorType } from '../../src/tensor/program.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import { at, range, zip } from '../../src/tensor/shape.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { simulatedGpu } from '../support/simulated.ts'
import { type Flat, expected, fusingDevice, rounding, values, worst } from './fusions-harness.ts'
import { HostKernels } from './grouped-host.ts'
import { assemblerUsage, nvrtcOrAbsent } from './print-nvrtc.ts'

type Half = 'f16' | 'bf16'

/** A^T B of [k, m] and [k, n]. */
interface Extents {
  readonly m: number
  readonly n: number
  readonly k: number
}

const transposed = { batch: [[], []], contract: [[0], [0]] } as const

function equationOf(dtype: Half, { m, n, k }: Extents): DotEquation {
  const typed = (id: number, shape: readonly number[]) => ({ id, type: { dtype, shape } })
  const [inputs, outputs] = [[typed(0, [k, m]), typed(1, [k, n])], [typed(2, [m, n])]]
  return { primitive: 'dot', params: transposed, inputs, outputs } as unknown as DotEquation
}

/** Products with operands of their own: inputs two by two, then results. */
function groupOf(dtype: Half, list: readonly Extents[]): Products {
  const products = list.map((extents, index) => {
    const places = [2 * index, 2 * index + 1, 2 * list.length + index]
    return {
      equation: equationOf(dtype, extents),
      wires: places.map((place) => ({ kind: 'operand', index: place }) as const),
    }
  })
  const typesOf = (pick: 'inputs' | 'outputs'): TensorType[] =>
    products.flatMap(({ equation }) => equation[pick].map(({ type }) => type))
  return { kind: 'products', products, inputs: typesOf('inputs'), outputs: typesOf('outputs') }
}

function alone(dtype: Half, extents: Extents): Candidate {
  const launch = transposedProduct(dotExtents(equationOf(dtype, extents)))
  if (launch === undefined) throw new Error('expected a kernel')
  return { id: 'own', works: [launch], scratchBytes: 0 }
}

/** Small integers: every sum of 100 products is exact in f32. */
function integers(count: number, salt: number): readonly number[] {
  return range(count).map((i) => ((i * 7 + (i >> 4) * 3 + salt * 5) % 9) - 4)
}

const bitsOf = (dtype: Half, list: readonly number[]): Uint16Array => encode(dtype, list) as Uint16Array

/** The exact sums, rounded once. */
function exact(dtype: Half, { m, n, k }: Extents, a: readonly number[], b: readonly number[]): readonly number[] {
  return range(m * n).map((index) => {
    const [i, j] = [Math.floor(index / n), index % n]
    return roundTo(
      dtype,
      range(k).reduce((sum, d) => sum + at(a, d * m + i) * at(b, d * n + j), 0),
    )
  })
}

const list: readonly Extents[] = [
  { m: 64, n: 64, k: 32 },
  { m: 16, n: 136, k: 33 },
  { m: 72, n: 8, k: 1 },
  { m: 8, n: 24, k: 100 },
]
const eights = fc.integer({ min: 1, max: 18 }).map((count) => 8 * count)
const someExtents = fc.record({ m: eights, n: eights, k: fc.integer({ min: 1, max: 100 }) })

describe.each<Half>(['f16', 'bf16'])('products of %s', (dtype) => {
  const together = productsCandidate(groupOf(dtype, list))
  let kernels: HostKernels
  beforeAll(() => {
    kernels = new HostKernels([alone(dtype, at(list, 0)), together])
  }, 120_000)
  afterAll(() => kernels.close())

  it('are the rounded sums, whatever the extents and the order of blocks and threads', () => {
    fc.assert(
      fc.property(someExtents, fc.nat(100), (extents, seed) => {
        const { m, n, k } = extents
        const [a, b] = [integers(k * m, 1), integers(k * n, 2)]
        const found = kernels.run(alone(dtype, extents), [bitsOf(dtype, a), bitsOf(dtype, b)], m * n, seed)
        expect([...decode(dtype, found)]).toEqual(exact(dtype, extents, a, b))
      }),
      { numRuns: 12 },
    )
  })

  it('let what is not finite through where it belongs, and nowhere else', () => {
    const extents = { m: 16, n: 8, k: 40 }
    const [a, b] = [[...integers(640, 1)], [...integers(320, 2)]]
    a[39 * 16 + 3] = Number.NaN
    a[5 * 16 + 9] = Infinity
    b[5 * 8 + 2] = 0
    b[5 * 8 + 4] = 1
    const found = decode(dtype, kernels.run(alone(dtype, extents), [bitsOf(dtype, a), bitsOf(dtype, b)], 128))
    range(128).forEach((index) => {
      const [i, j] = [Math.floor(index / 8), index % 8]
      if (i === 3 || (i === 9 && j === 2)) expect(found[index]).toBeNaN()
      else if (i === 9 && j === 4) expect(found[index]).toBe(Infinity)
      else if (i !== 9) expect(found[index]).toBe(at(exact(dtype, extents, a, b), index))
    })
  })

  it('are one launch with the bits of each by itself', () => {
    expect(together.works.length).toBe(1)
    const operands = list.map(({ m, n, k }, index) => [integers(k * m, index), integers(k * n, index + 7)] as const)
    const inputs = operands.flat().map((operand) => bitsOf(dtype, operand))
    for (const seed of [0, 5]) {
      const found = kernels.runAll(
        together,
        inputs,
        list.map(({ m, n }) => 2 * m * n),
        seed,
      )
      zip(list, zip(operands, found)).forEach(([extents, [[a, b], bytes]]) => {
        const result = decode(dtype, new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2))
        expect([...result]).toEqual(exact(dtype, extents, a, b))
      })
    }
  })
})

it('there is a kernel only for rows of whole 16 bytes of 16-bit elements, transposed on the left', () => {
  const extents = { dtype: 'f16', batch: 1, m: 16, n: 16, k: 4, transposeA: true, transposeB: false } as const
  expect(transposedProduct(extents)).toBeDefined()
  const others = [{ m: 12 }, { n: 4 }, { k: 0 }, { batch: 2 }, { transposeA: false }, { transposeB: true }] as const
  for (const other of others) expect(transposedProduct({ ...extents, ...other })).toBeUndefined()
  expect(transposedProduct({ ...extents, dtype: 'f32' })).toBeUndefined()
})

const nvrtc = nvrtcOrAbsent('products together are not compiled')

it.skipIf(nvrtc === undefined).each(['sm_80', 'sm_90', 'sm_100'])('products compile for %s without spills', (gpu) => {
  const sources = (['f16', 'bf16'] as const).flatMap((dtype) =>
    [alone(dtype, at(list, 0)), productsCandidate(groupOf(dtype, list))].flatMap(({ works }) =>
      works.flatMap((work) => (work.kind === 'kernel' ? [work.source.text] : [])),
    ),
  )
  const options = [...cudaOptions, `--gpu-architecture=${gpu}`, '--ptxas-options=-v']
  const compiled = nvrtc?.compile([cudaPrelude, ...sources].join('\n'), options)
  expect(compiled?.status, compiled?.log.slice(0, 2000)).toBe(0)
  const usage = assemblerUsage(compiled?.log ?? '')
  console.log(`${gpu}: ${usage.map(({ name, registers }) => `${name} ${registers} registers`).join(', ')}`)
  expect(usage.length).toBe(4)
  for (const { registers, spilled } of usage) {
    expect(spilled).toBe(0)
    expect(registers).toBeLessThanOrEqual(128)
  }
})

/** A^T B. */
const dotTN = (a: Tensor, b: Tensor): Tensor => bindOne('dot', [a, b], transposed)

function planOf(f: Flat, types: readonly TensorType[]): Plan {
  setDefaultDevice(referenceDevice())
  return compileProgram(traceFlat(f, types, 'test', { keepCalls: false }).program, { optimize: 'fuse', donate: [] })
}

/** The sizes of the groups of products in a plan. */
function groups(plan: Plan): readonly number[] {
  return fuseSteps(plan, true).steps.flatMap((step) =>
    step.kind === 'fused' && step.fusion.kind === 'products' ? [step.fusion.products.length] : [],
  )
}

const square = (dtype: 'f16' | 'f32' = 'f16', extent = 16): TensorType => ({ dtype, shape: [extent, extent] })

describe('products in a plan', () => {
  const three: Flat = ([a, b]) => [dotTN(a!, b!), dotTN(b!, a!), dotTN(a!, a!)]

  it('are together where nobody needs them in between', () => {
    expect(groups(planOf(three, [square(), square()]))).toEqual([3])
  })

  it.each<readonly [string, Flat, readonly TensorType[], readonly number[]]>([
    ['of f32', three, [square('f32'), square('f32')], []],
    ['whose rows are not whole runs', three, [square('f16', 12), square('f16', 12)], []],
    ['that need each other', ([a, b]) => [dotTN(dotTN(a!, b!), b!)], [square(), square()], []],
    ['that are large', three, [square('f16', 1024), square('f16', 1024)], []],
    ['of which there is one', ([a, b]) => [dotTN(a!, b!)], [square(), square()], []],
    [
      'that others need before the last',
      ([a, b]) => {
        const first = dotTN(a!, b!)
        const second = dotTN(b!, ops.exp(first))
        return [first, second, dotTN(a!, ops.exp(second))]
      },
      [square(), square()],
      [],
    ],
    ['of two kinds', ([a, b]) => [ops.matmul(a!, b!), dotTN(a!, b!), dotTN(b!, a!)], [square(), square()], [2]],
  ])('are not, if they are products %s', (_, f, types, wanted) => {
    expect(groups(planOf(f, types))).toEqual(wanted)
  })

  it('come in groups whose operands are little memory', () => {
    const types = range(11).map((): TensorType => ({ dtype: 'f16', shape: [119_000, 16] }))
    const product: Flat = (inputs) => range(10).map((k) => dotTN(at(inputs, k), at(inputs, k + 1)))
    expect(groups(planOf(product, types))).toEqual([8, 2])
  })
})

describe('on the simulated GPU', () => {
  const gpu = simulatedGpu()

  it.each(['always', 'tuned', 'never'] as const)(
    'are what the reference gives where fusions are %s',
    async (fusions) => {
      const types: readonly TensorType[] = [
        { dtype: 'f16', shape: [20, 24] },
        { dtype: 'f16', shape: [20, 40] },
      ]
      const f: Flat = ([a, b]) => {
        const small = dotTN(a!, b!)
        const other = dotTN(ops.mul(b!, 2), a!)
        return [small, ops.sum(ops.cast(other, 'f32')), other]
      }
      const { device, contractions } = fusingDevice(gpu.sim, gpu.folder, { fusions })
      const found = await values(device, f, types)
      const chosen = Object.entries(contractions.tuner.chosen()).map(([key, id]) => `${key}: ${id}`)
      expect(chosen.filter((line) => /^2 products together.*own:products/.test(line)).length).toBe(
        fusions === 'never' ? 0 : 1,
      )
      expect(worst(found, await expected(f, types))).toBeLessThan(2 * (rounding.f16 ?? 0))
      await device.close()
      expect(gpu.sim.report().violations).toEqual([])
    },
  )
})
