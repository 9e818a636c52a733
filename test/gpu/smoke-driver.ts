// The smoke test's first steps: the driver and our own kernels, without cuDNN or cuBLASLt. What is compared with what is told
// by each.
import { nameOf } from '../../src/compile/print/name.ts'
import type { PrintedSource } from '../../src/compile/print/index.ts'
import { operand } from '../../src/cuda/kernels/launch.ts'
import { type Bench as Tried, runtimeBench } from '../../src/cuda/tune/index.ts'
import type { DevicePointer } from '../../src/cuda/ffi/values.ts'
import type { KernelLaunch } from '../../src/cuda/work.ts'
import { at, range } from '../../src/tensor/shape.ts'
import { equalBytes } from './part.ts'
import { run } from './prelude.ts'
import { copied, randomBytes } from './prelude-expectations.ts'
import * as kernels from './prelude-kernels.ts'
import type { Bench, SmokeStep } from './smoke.ts'

const threads = 256

/** Adds a number to each of 256 words. */
const addition: PrintedSource = nameOf(
  'pb_smoke_addition',
  (symbol) => `PB_KERNEL(${symbol}, 2, 1) {
  ((uint32_t *)a.p[1])[pb_thread()] = ((const uint32_t *)a.p[0])[pb_thread()] + (uint32_t)a.n[0];
}
`,
)

/** Launches that are one, and the numbers of each: with two pointers each and their first blocks, 31,744 bytes of arguments. */
const [together, numbersEach] = [128, 28]

/** Of each of the launches, one block: a row of words plus the sum of the launch's numbers, the first of which is its row. */
const sums: PrintedSource = nameOf(
  'pb_smoke_sums',
  (
    symbol,
  ) => `PB_KERNEL_MANY(${[symbol, 2 * together, (numbersEach + 1) * together, 2, numbersEach, together].join(', ')}) {
  uint32_t sum = ((const uint32_t *)a.p[0])[pb_thread()];
  for (uint32_t i = 0; i < ${numbersEach}; ++i) sum += (uint32_t)a.n[i];
  ((uint32_t *)a.p[1])[${threads} * (uint32_t)a.n[0] + pb_thread()] = sum;
}
`,
)

/** The kernels of this part of the check, for those who compile them without a GPU. */
export const smokeKernels: readonly PrintedSource[] = [addition, sums]

const numbers = range(together).map((launch) =>
  range(numbersEach).map((i) => (i === 0 ? launch : (launch * 31 + i) % 97)),
)

const bytesOf = (words: Uint32Array): Uint8Array => new Uint8Array(words.buffer, words.byteOffset, words.byteLength)

function summed(words: Uint32Array): Uint32Array {
  return Uint32Array.from(
    numbers.flatMap((list) => {
      const sum = list.reduce((total, number) => total + number, 0)
      return [...words.map((word) => word + sum)]
    }),
  )
}

const manyBytes = 4 * threads * together

/** The launch of `sums` from one operand to another. */
function sumsFrom(from: number, to: number): KernelLaunch {
  const pointers = range(together).flatMap(() => [operand(from), operand(to)])
  const list = [...numbers.flat(), ...range(together)]
  return { kind: 'kernel', source: sums, blocks: together, threads, sharedBytes: 0, pointers, numbers: list }
}

function driver({ device, tell, trying }: Bench): void {
  trying('asking for facts, 64 MB of memory')
  const { session } = device.runtime
  const { driver: calls, gpu } = session
  device.use('smoke', () => {
    const handle = calls.device(gpu.ordinal)
    const { free, total } = calls.memoryInfo()
    tell.note(session.description)
    tell.note(
      `compute mode ${calls.deviceAttribute(handle, 'COMPUTE_MODE')} (0: shared by processes, 3: one process), ${free} of ${total} bytes free, ${gpu.multiprocessors} multiprocessors, ${gpu.sharedBytes} bytes of shared memory for a block, CUDA_MODULE_LOADING ${process.env['CUDA_MODULE_LOADING'] ?? 'not set'}`,
    )
    const bench = runtimeBench(device.runtime, true)
    const address = bench.allocate(64e6)
    bench.fill(address, 0x5a, 64e6)
    equalBytes(tell, 'memory that was filled', bench.read(address, 4096), new Uint8Array(4096).fill(0x5a))
    bench.free(address)
  })
}

function kernel({ device, tell, trying }: Bench): void {
  trying('NVRTC, one kernel, one launch')
  device.use('smoke', () => {
    const given = Uint32Array.from(range(threads), (i) => i * 65_537)
    const bench = runtimeBench(device.runtime, false)
    const [found] = run(bench, addition, { blocks: 1, numbers: [7] }, [bytesOf(given)], [4 * threads])
    equalBytes(tell, 'one launch', found, bytesOf(given.map((word) => word + 7)))
  })
}

function manyArguments({ device, tell, trying }: Bench): void {
  trying('a launch with 31 KB of arguments (CUDA 12.1 and newer)')
  device.use('smoke', () => {
    const given = Uint32Array.from(range(threads), (i) => i * 65_537)
    const bench = runtimeBench(device.runtime, false)
    withMemory(bench, [4 * threads, manyBytes], (addresses) => {
      bench.write(at(addresses, 0), bytesOf(given))
      const bound = bench.bind({ works: [sumsFrom(0, 1)], scratchBytes: 0 }, addresses, undefined)
      bench.clock.run(() => bound.enqueue())
      bound.release()
      equalBytes(
        tell,
        'a launch with 31 KB of arguments',
        bench.read(at(addresses, 1), manyBytes),
        bytesOf(summed(given)),
      )
    })
  })
}

/** Device memory while it is used; what is not given back after a failure goes with the process. */
function withMemory(bench: Tried, sizes: readonly number[], use: (addresses: readonly DevicePointer[]) => void): void {
  const addresses = sizes.map((bytes) => bench.allocate(bytes))
  use(addresses)
  for (const address of addresses) bench.free(address)
}

function sharedMemory({ gpu, device, tell, trying }: Bench): void {
  const bytes = device.runtime.session.gpu.sharedBytes
  trying(`${bytes} bytes of dynamic shared memory, asynchronous copies`)
  device.use('smoke', () => {
    const given = randomBytes(gpu.seed, 32 * threads)
    const bench = runtimeBench(device.runtime, false)
    const [found] = run(bench, kernels.copies, { blocks: 1, shared: bytes }, [given], [given.length])
    equalBytes(tell, `a block with ${bytes} bytes of shared memory`, found, copied(given))
  })
}

/** Two kernels of which the second reads what the first wrote, recorded, and replayed with other words. */
function graph({ device, tell, trying }: Bench): void {
  trying('a recorded graph of two kernels, one with 31 KB of arguments')
  device.use('smoke', () => {
    const bench = runtimeBench(device.runtime, true)
    withMemory(bench, [4 * threads, 4 * threads, manyBytes], (addresses) => {
      const pointers = [operand(0), operand(1)]
      const works = [
        { kind: 'kernel', source: addition, blocks: 1, threads, sharedBytes: 0, pointers, numbers: [7] } as const,
        sumsFrom(1, 2),
      ]
      const bound = bench.bind({ works, scratchBytes: 0 }, addresses, undefined)
      bench.clock.run(() => bound.enqueue()) // a kernel may be loaded at its first launch, which is not to be recorded
      const recording = bench.clock.record(() => bound.enqueue())
      for (const replay of [1, 2]) {
        const given = Uint32Array.from(range(threads), (i) => i * replay)
        bench.write(at(addresses, 0), bytesOf(given))
        bench.fill(at(addresses, 2), 0, manyBytes)
        const microseconds = recording.time()
        const expected = bytesOf(summed(given.map((word) => word + 7)))
        equalBytes(tell, `replay ${replay} of a graph`, bench.read(at(addresses, 2), manyBytes), expected)
        if (!(microseconds >= 0)) throw new Error(`events say that a replay took ${microseconds} microseconds`)
      }
      recording.release()
      bound.release()
    })
  })
}

/** An array that takes several pieces of pinned memory, up and down again, by polling and blocking. */
async function transfers({ gpu, device, tell, trying }: Bench): Promise<void> {
  trying('copies by way of pinned memory')
  const data = randomBytes(gpu.seed + 1, 9 * 2 ** 20 + 3)
  const storage = device.upload(data, { dtype: 'u8', shape: [data.length] })
  equalBytes(tell, 'an array there and back', (await device.read(storage)) as Uint8Array, data)
  equalBytes(tell, 'the same, blocking', device.readSync(storage) as Uint8Array, data)
  device.release(storage)
}

export const driverSteps: readonly SmokeStep[] = [
  { name: 'driver', small: true, run: driver },
  { name: 'kernel', small: true, run: kernel },
  { name: 'arguments', small: true, run: manyArguments },
  { name: 'shared memory', small: true, run: sharedMemory },
  { name: 'graph', small: true, run: graph },
  { name: 'transfers', small: true, run: transfers },
]
