// The part `prelude`: the PTX bodies of the prelude's functions on the GPU, against their second bodies in C++ where both can
// run there (all bit patterns), and against what the prelude's comments say of them elsewhere.
import type { PrintedSource } from '../../src/compile/print/index.ts'
import { operand } from '../../src/cuda/kernels/launch.ts'
import type { DevicePointer } from '../../src/cuda/ffi/values.ts'
import { type Bench, runtimeBench } from '../../src/cuda/tune/index.ts'
import { at, range } from '../../src/tensor/shape.ts'
import { type Gpu, type Part, type Tell, attempt, equalBytes, sized, withDevice } from './part.ts'
import {
  accessBytes,
  accessed,
  copied,
  productErrors,
  productKinds,
  productOperands,
  randomBytes,
  regionBytes,
  vectorInput,
  vectorOutput,
  vectorRegions,
} from './prelude-expectations.ts'
import * as kernels from './prelude-kernels.ts'
import { type Sweep, preludeSweeps } from './prelude-sweeps.ts'

interface Shape {
  readonly blocks: number
  readonly numbers?: readonly number[]
  readonly shared?: number
}

/** Runs a kernel of 256 threads over some arrays, the last `results` of which it gives back; those begin as 0xa5. */
export function run(
  bench: Bench,
  source: PrintedSource,
  { blocks, numbers = [0], shared = 0 }: Shape,
  inputs: readonly Uint8Array[],
  results: readonly number[],
): readonly Uint8Array[] {
  const addresses: DevicePointer[] = []
  try {
    for (const bytes of [...inputs.map(({ length }) => length), ...results]) addresses.push(bench.allocate(bytes))
    inputs.forEach((input, index) => bench.write(at(addresses, index), input))
    results.forEach((bytes, index) => bench.fill(at(addresses, inputs.length + index), 0xa5, bytes))
    const pointers = range(addresses.length).map(operand)
    const launch = { kind: 'kernel', source, blocks, threads: 256, sharedBytes: shared, pointers, numbers } as const
    const bound = bench.bind({ works: [launch], scratchBytes: 0 }, addresses, undefined)
    try {
      bench.clock.run(() => bound.enqueue())
    } finally {
      bound.release()
    }
    return results.map((bytes, index) => bench.read(at(addresses, inputs.length + index), bytes))
  } finally {
    for (const address of addresses) bench.free(address)
  }
}

const words = (bytes: Uint8Array): Uint32Array => new Uint32Array(bytes.slice().buffer)
const bytesOfArray = ({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array =>
  new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength)

/** All patterns on a GPU; elsewhere every so-maniest, which an odd step spreads over all of them. */
function sweep(gpu: Gpu, bench: Bench, tell: Tell, { name, source, patterns }: Sweep): void {
  const blocks = sized(gpu, 1056, 2)
  const count = Math.min(patterns, sized(gpu, patterns, 2 ** 17))
  const [step, threads] = [count === patterns ? 1 : 2654435761, 256 * blocks]
  const [found, firsts] = run(
    bench,
    source,
    { blocks, numbers: [count, step, threads] },
    [],
    [4 * threads, 4 * threads],
  )
  const differing = words(found ?? new Uint8Array())
  const worst = differing.reduce((sum, n) => sum + n, 0)
  const where = differing.findIndex((n) => n > 0)
  const first = where < 0 ? undefined : at(words(firsts ?? new Uint8Array()), where)
  tell.compared({
    ...{ name: `${name}, patterns that differ`, cases: count, worst, tolerance: 0 },
    ...(first === undefined ? {} : { where: `one of them is 0x${first.toString(16).padStart(8, '0')}` }),
  })
}

/** Kernels that count for themselves. */
function counted(bench: Bench, tell: Tell, name: string, source: PrintedSource, blocks: number, shared = 0): void {
  const [found] = run(bench, source, { blocks, shared }, [], [4 * 256 * blocks])
  const wrong = words(found ?? new Uint8Array())
  const worst = wrong.reduce((sum, n) => sum + n, 0)
  const where = wrong.findIndex((n) => n > 0)
  const place = where < 0 ? {} : { where: `in thread ${where % 256} of block ${Math.floor(where / 256)}` }
  tell.compared({ name, cases: wrong.length, worst, tolerance: 0, ...place })
}

function access(gpu: Gpu, bench: Bench, tell: Tell): void {
  const blocks = sized(gpu, 512, 1)
  const threads = 256 * blocks
  const given = randomBytes(gpu.seed, accessBytes(threads))
  const shape = { blocks, numbers: [threads] }
  const [found] = run(bench, kernels.access, shape, [given], [given.length])
  equalBytes(tell, '16, 8 and 4 bytes at once, bytes that differ', found, accessed(given, threads))
}

function vectors(gpu: Gpu, bench: Bench, tell: Tell): void {
  const blocks = sized(gpu, 32, 1)
  const threads = 256 * blocks
  const given = vectorInput(gpu.seed, threads)
  const shape = { blocks, numbers: [regionBytes(threads)] }
  const [found] = run(bench, kernels.vectors, shape, [given], [given.length])
  const name = `1 to 8 elements of every dtype (${vectorRegions.length} ways), bytes that differ`
  equalBytes(tell, name, found, vectorOutput(given, threads))
}

function copies(gpu: Gpu, bench: Bench, tell: Tell): void {
  const blocks = sized(gpu, 512, 2)
  const given = randomBytes(gpu.seed + 1, 32 * 256 * blocks)
  const shape = { blocks, shared: kernels.copyBytes }
  const [found] = run(bench, kernels.copies, shape, [given], [given.length])
  equalBytes(tell, 'asynchronous copies, bytes that differ', found, copied(given))
}

function products(gpu: Gpu, bench: Bench, tell: Tell, dtype: 'f16' | 'bf16'): void {
  const blocks = sized(gpu, 512, 2)
  const operands = productOperands(dtype, gpu.seed, 8 * blocks)
  const bytes = operands.onto.byteLength
  const inputs = [operands.left, operands.right, operands.onto].map(bytesOfArray)
  const found = run(bench, kernels.products(dtype), { blocks }, inputs, [bytes, bytes])
  for (const [index, depth] of ([16, 8] as const).entries()) {
    const sums = new Float32Array(at(found, index).slice().buffer)
    productErrors(dtype, operands, sums, depth).forEach((worst, kind) =>
      tell.compared({
        name: `mma of ${dtype}, ${depth} deep, ${at(productKinds, kind)}, shares of its bound`,
        ...{ cases: sums.length / productKinds.length, worst, tolerance: 1 },
      }),
    )
  }
}

/** The part with second bodies from another text: a check that cannot fail is none. */
export function preludeOf(sweeps: readonly Sweep[]): Part {
  return {
    says: 'PTX bodies of the prelude against their second bodies and their descriptions (NaN payloads are free)',
    seconds: 50,
    alone: true,
    run: (gpu, tell) =>
      withDevice(gpu, {}, async (device) => {
        const bench = runtimeBench(device.runtime, false)
        const entered = (name: string, body: () => void): Promise<void> =>
          attempt(tell, name, () => device.use(name, body))
        for (const one of sweeps) await entered(one.name, () => sweep(gpu, bench, tell, one))
        await entered('access', () => access(gpu, bench, tell))
        await entered('vectors', () => vectors(gpu, bench, tell))
        const blocks = sized(gpu, 512, 2)
        const list = [
          ['shuffles and transposed words of other lanes', kernels.shuffles, 0],
          ['sums and running counts of blocks that are wrong', kernels.reductions, 0],
          ['fragments from shared memory, words of other places', kernels.fragments, kernels.fragmentBytes],
        ] as const
        for (const [name, source, shared] of list)
          await entered(name, () => counted(bench, tell, name, source, blocks, shared))
        await entered('copies', () => copies(gpu, bench, tell))
        for (const dtype of ['f16', 'bf16'] as const)
          await entered(`mma of ${dtype}`, () => products(gpu, bench, tell, dtype))
      }),
  }
}

export const prelude: Part = preludeOf(preludeSweeps())
