// What a user may ask of a GPU, over the simulated CUDA: IEEE products instead of TF32, and sums in any order.
import { join } from 'node:path'
import { afterEach, expect, it, vi } from 'vitest'
import { type CudaOptions, cudaDevice } from '../../src/cuda/index.ts'
import type { TensorType } from '../../src/tensor/program.ts'
import * as ops from '../../src/tensor/ops/index.ts'
import { range, sizeOf } from '../../src/tensor/shape.ts'
import { setLibraryOption } from '../sim/cudnn-gpu.ts'
import { simulatedGpu } from '../support/simulated.ts'
import { compile } from './device-harness.ts'

const gpu = simulatedGpu()
afterEach(() => vi.restoreAllMocks())

const x: TensorType = { shape: [2, 6, 6, 16], dtype: 'f32' }
const w: TensorType = { shape: [16, 3, 3, 16], dtype: 'f32' }

interface Told {
  readonly first: ArrayLike<number>
  readonly second: ArrayLike<number>
  readonly choices: string
  readonly details: string
  readonly warnings: string
}

/** One convolution, run twice by the way that wins when all are timed and verified. */
async function convolve(options: Pick<CudaOptions, 'precision' | 'deterministic'>, cache: string): Promise<Told> {
  const warned = vi.spyOn(process.stderr, 'write').mockReturnValue(true)
  const environment = { PULLBACK_CACHE: join(gpu.folder, cache), PULLBACK_VERIFY: '1' }
  const device = cudaDevice({ native: gpu.sim.native, machine: gpu.sim.machine, environment, ...options })
  try {
    const conv = compile(device, ([image, filter]) => [ops.conv2d(image!, filter!, { padding: 1 })], [x, w])
    const values = (type: TensorType, scale: number) =>
      new Float32Array(range(sizeOf(type.shape)).map((i) => Math.sin(scale * i + 1)))
    const operands = [device.upload(values(x, 0.37), x), device.upload(values(w, 0.71), w)]
    const run = () => device.read(conv.run(operands)[0]!)
    const [first, second] = [await run(), await run()]
    const details = Object.values(device.details()).join('\n')
    const warnings = warned.mock.calls.map(([text]) => String(text)).join('')
    return { first, second, choices: Object.values(device.choices()).join(' '), details, warnings }
  } finally {
    await device.close()
  }
}

it('TF32 is what f32 gets, IEEE what one can have instead: other values, and it says so', async () => {
  setLibraryOption(gpu.sim, 'tf32', 1)
  const [tf32, ieee] = [await convolve({}, 'tf32'), await convolve({ precision: 'ieee' }, 'ieee')]
  expect(tf32.details).toContain('f32 rounded to TF32')
  expect(ieee.details).toContain('f32 as IEEE says')
  const apart = range(tf32.first.length).map((i) => Math.abs(tf32.first[i]! - ieee.first[i]!))
  expect(Math.max(...apart)).toBeGreaterThan(1e-5)
  expect(Math.max(...apart)).toBeLessThan(0.1)
})

it('without determinism an engine that adds in any order may win, is not dropped when it is verified, and gives other bits', async () => {
  const free = await convolve({ deterministic: false }, 'free')
  const fixed = await convolve({}, 'fixed')
  expect(free.choices).not.toEqual(fixed.choices)
  expect(free.warnings).toBe('')
  expect(free.second).not.toEqual(free.first)
  expect(fixed.second).toEqual(fixed.first)
})

it('what was chosen without determinism is not taken where it is asked for, though the cache has it', async () => {
  const free = await convolve({ deterministic: false }, 'both')
  const fixed = await convolve({}, 'both')
  expect(fixed.choices).not.toEqual(free.choices)
  expect(fixed.second).toEqual(fixed.first)
  expect(fixed.warnings).toBe('') // each has its own
  expect((await convolve({ deterministic: false }, 'both')).choices).toEqual(free.choices)
})
