// The CUDA device on a made-up GPU: its steps are evaluated in TypeScript, so that all but the kernels' texts is the real thing.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Access, KernelStep, LibraryStep, Step } from '../../src/compile/index.ts'
import { CudaDevice, type DeviceSettings } from '../../src/cuda/device.ts'
import type { CudaStep } from '../../src/cuda/fusions/fusion.ts'
import type { Probe } from '../../src/cuda/discovery-probe.ts'
import type { CublasLt } from '../../src/cuda/ffi/cublaslt.ts'
import type { Cudnn } from '../../src/cuda/ffi/cudnn.ts'
import type { Nvrtc } from '../../src/cuda/ffi/nvrtc.ts'
import { openRuntime } from '../../src/cuda/runtime/index.ts'
import type { Lowered } from '../../src/cuda/work.ts'
import { type DType, type StorageArray, bytesOf, storageView } from '../../src/tensor/dtype.ts'
import { decode, encode } from '../../src/tensor/half.ts'
import { interpret } from '../../src/tensor/reference/interpreter.ts'
import { type Equation, type TensorType, variable } from '../../src/tensor/program.ts'
import { at, range, sizeOf, zip } from '../../src/tensor/shape.ts'
import { runKernel } from '../support/plan-evaluator.ts'
import { FakeGpu } from './fake-gpu.ts'

/** What a test may choose. */
export interface FakeDeviceOptions extends Partial<Pick<DeviceSettings, 'graphs' | 'separate'>> {
  readonly gpu?: FakeGpu
}

function plainStep(step: CudaStep): Step {
  if (step.kind === 'fused') throw new Error('steps are fused for no made-up GPU')
  return step
}

/** A device on a fresh GPU, or on the one given. */
export function fakeDevice({ gpu = new FakeGpu(), graphs = true, separate = false }: FakeDeviceOptions = {}) {
  const made: { device?: CudaDevice } = {}
  const owners = (): string => made.device?.owners() ?? ''
  const environment = { PULLBACK_CACHE: cache() }
  const runtime = openRuntime(fakeProbe(gpu), gpu.native(), { ordinal: 0, environment, separate, owners })
  const lowering = { lower: (step: CudaStep) => lowerFake(gpu, plainStep(step)) }
  const device = new CudaDevice(runtime, { lowering, graphs, separate, fusions: false })
  made.device = device
  return { gpu, device }
}

const folders: string[] = []

/** One folder for the machine code that no one needs, gone when the process ends. */
function cache(): string {
  const [known] = folders
  if (known !== undefined) return known
  const folder = mkdtempSync(join(tmpdir(), 'pullback-fake-gpu-'))
  folders.push(folder)
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  return folder
}

function fakeProbe(gpu: FakeGpu): Probe {
  const names = new Map<bigint, string>()
  const libraries = {
    driver: gpu.driver(),
    nvrtc: gpu.counted({
      createProgram: (_: string, name: string) => {
        const program = gpu.make('program')
        names.set(program, name.replace(/\.cu$/, ''))
        return program
      },
      compileProgram: () => undefined,
      cubin: (program: bigint) => new TextEncoder().encode(names.get(program)),
      destroyProgram: (program: bigint) => gpu.destroy('program', program),
    }) as unknown as Nvrtc,
    cublasLt: gpu.counted({
      create: () => gpu.make('cublasLt'),
      destroy: (handle: bigint) => gpu.destroy('cublasLt', handle),
    }) as unknown as CublasLt,
    cudnn: gpu.counted({
      create: () => gpu.make('cudnn'),
      destroy: (handle: bigint) => gpu.destroy('cudnn', handle),
    }) as unknown as Cudnn,
  }
  const versions = { nvrtc: { version: 13_000, architectures: [80, 90, 100], path: '/fake' } }
  return { discovery: undefined as never, libraries, versions, problems: [] }
}

let steps = 0

/** A kernel step as a launch, a library step as a call; both evaluate the step. */
function lowerFake(gpu: FakeGpu, step: Step): Lowered {
  steps += 1
  const count = step.inputs.length + step.outputs.length
  const run = step.kind === 'kernel' ? kernelRun(gpu, step) : libraryRun(gpu, step)
  if (step.kind === 'library')
    return {
      works: [
        {
          kind: 'call',
          label: 'evaluate',
          enqueue: (stream, operands) => void gpu.enqueue(stream, () => run(operands)),
        },
      ],
      scratchBytes: 0,
    }
  const name = `fake_${steps}`
  gpu.kernels.set(name, {
    words: count + 2,
    run: (words) => {
      gpu.bytes(at(words, count), 64).fill(0xaa) // what is in the scratch memory is nobody's
      run(words.slice(0, count))
    },
  })
  const pointers = range(count).map((index) => ({ kind: 'operand', index }) as const)
  const scratch = { kind: 'scratch', offset: 256 } as const
  const launch = { source: { name, text: name }, blocks: 1, threads: 256, sharedBytes: 0 }
  const alone = { kind: 'call', label: 'nothing', enqueue: () => undefined } as const // is not launched with others
  return {
    works: [{ kind: 'kernel', ...launch, pointers: [...pointers, scratch], numbers: [7] }, alone],
    scratchBytes: 512,
  }
}

function kernelRun(gpu: FakeGpu, step: KernelStep): (operands: readonly bigint[]) => void {
  const { kernel } = step
  const last = ({ strides, offset }: Access): number =>
    zip(strides, kernel.axes).reduce((end, [stride, { extent }]) => end + Math.max(0, stride * (extent - 1)), offset)
  const operands = (kernel.epilogue?.inputs ?? []).filter(({ reduction }) => reduction === undefined)
  const inputs = [...kernel.inputs, ...operands].map((input) => ({ dtype: input.dtype, count: last(input) + 1 }))
  const results = [...kernel.stores, ...kernel.reductions, ...(kernel.epilogue?.stores ?? [])]
  const outputs = step.outputs.map((_, index) => {
    const mine = results.filter(({ output }) => output === index)
    return { dtype: at(mine, 0).dtype, count: Math.max(...mine.map(last)) + 1 }
  })
  return (operands) => {
    const read = inputs.map(({ dtype, count }, i) => [...decode(dtype, load(gpu, at(operands, i), dtype, count))])
    const write = outputs.map(({ dtype, count }, i) => [
      ...decode(dtype, load(gpu, at(operands, inputs.length + i), dtype, count)),
    ])
    runKernel(kernel, read, write)
    outputs.forEach(({ dtype }, i) => store(gpu, at(operands, inputs.length + i), encode(dtype, at(write, i))))
  }
}

function libraryRun(gpu: FakeGpu, { equation }: LibraryStep): (operands: readonly bigint[]) => void {
  const inputs = equation.inputs.map(({ type }) => variable(type))
  const program = { inputs, equations: [{ ...equation, inputs } as Equation], outputs: equation.outputs }
  const elements = ({ dtype, shape }: TensorType, address: bigint): Float64Array =>
    new Float64Array(decode(dtype, load(gpu, address, dtype, sizeOf(shape))))
  return (operands) => {
    const values = inputs.map(({ type }, i) => ({ type, data: elements(type, at(operands, i)) }))
    interpret(program, values).forEach(({ type, data }, i) =>
      store(gpu, at(operands, inputs.length + i), encode(type.dtype, data)),
    )
  }
}

function load(gpu: FakeGpu, address: bigint, dtype: DType, count: number): StorageArray {
  const bytes = gpu.bytes(address, count * bytesOf(dtype)).slice()
  return storageView(dtype, bytes.buffer, 0, count)
}

function store(gpu: FakeGpu, address: bigint, array: StorageArray): void {
  gpu.bytes(address, array.byteLength).set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength))
}
