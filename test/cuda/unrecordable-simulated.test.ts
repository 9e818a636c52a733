// A library's way that cannot be recorded and was chosen without timing, which would have told: the program goes on, launched step
// by step, one line names what was dropped, and the next program does without it.
import { afterEach, expect, it, vi } from 'vitest'
import { cudaDevice } from '../../src/cuda/index.ts'
import type { Device, Executable } from '../../src/tensor/device.ts'
import * as ops from '../../src/tensor/ops/index.ts'
import type { TensorType } from '../../src/tensor/program.ts'
import { range, sizeOf } from '../../src/tensor/shape.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { setLibraryOption } from '../sim/cudnn-gpu.ts'
import { simulatedGpu } from '../support/simulated.ts'
import { compile } from './device-harness.ts'

const gpu = simulatedGpu()
afterEach(() => vi.restoreAllMocks())

const x: TensorType = { shape: [2, 6, 6, 16], dtype: 'f32' }
const w: TensorType = { shape: [16, 3, 3, 16], dtype: 'f32' }

/** A convolution with so many small works behind it. */
const program =
  (works: number) =>
  ([image, filter]: readonly Tensor[]): readonly Tensor[] => [
    range(works).reduce((y) => ops.minimum(ops.add(y, 1), 1e6), ops.conv2d(image!, filter!, { padding: 1 })),
  ]

function open(): Device {
  const environment = { PULLBACK_CACHE: gpu.folder, PULLBACK_TUNE: 'heuristics' }
  return cudaDevice({ native: gpu.sim.native, machine: gpu.sim.machine, environment, precision: 'ieee' })
}

async function runs(device: Device, executable: Executable): Promise<readonly ArrayLike<number>[]> {
  const values = (type: TensorType, scale: number) =>
    new Float32Array(range(sizeOf(type.shape)).map((i) => Math.round(3 * Math.sin(scale * i + 1))))
  const operands = [device.upload(values(x, 0.37), x), device.upload(values(w, 0.71), w)]
  const found: ArrayLike<number>[] = []
  for (const _ of range(4)) found.push(await device.read(executable.run(operands)[0]!))
  return found
}

it('is dropped by name; values are right, and the next program is recorded', async () => {
  const usual = open()
  const expected = await runs(usual, compile(usual, program(8), [x, w]))
  const [chosen = ''] = Object.values(usual.choices())
  await usual.close()
  const engine = Number(/^cudnn:engine (\d+)/.exec(chosen)?.[1])
  expect(engine).toBeGreaterThan(0)

  setLibraryOption(gpu.sim, 'uncapturable engine', engine)
  const warned = vi.spyOn(process.stderr, 'write').mockReturnValue(true)
  const device = open()
  try {
    const first = compile(device, program(8), [x, w])
    expect(await runs(device, first)).toEqual(expected)
    expect(String(first)).toContain('launched one by one')
    const lines = warned.mock.calls.map(([text]) => String(text)).join('')
    expect(lines.trimEnd().split('\n')).toHaveLength(1)
    expect(lines).toContain(`train is launched step by step from here on`)
    expect(lines).toContain(`engine ${engine}`)

    const second = compile(device, program(9), [x, w])
    await runs(device, second)
    expect(String(second)).toContain('recorded 1 times')
    expect(Object.values(device.choices())).not.toContain(chosen)
  } finally {
    await device.close()
  }
  gpu.expectNothingLeft()
})
