// Calls of the driver and of every library that fail, one at a time, while a program with convolutions and products is lowered,
// launched, recorded, replayed and given back on the simulated GPU: a clear error, nothing left behind, and a device that goes
// on or says that it cannot.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { cudaDevice } from '../../src/cuda/index.ts'
import type { Device } from '../../src/tensor/device.ts'
import { PullbackError } from '../../src/tensor/errors.ts'
import * as ops from '../../src/tensor/ops/index.ts'
import type { TensorType } from '../../src/tensor/program.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { at, range } from '../../src/tensor/shape.ts'
import { type Simulation, buildMilliseconds, simulation } from '../sim/library.ts'
import { type Flat, compile } from './device-harness.ts'

let sim: Simulation
let folder = ''
beforeAll(async () => {
  sim = await simulation()
  folder = mkdtempSync(join(tmpdir(), 'pullback-failures-'))
}, buildMilliseconds)
afterAll(() => {
  sim.reset()
  rmSync(folder, { recursive: true, force: true })
})

const types: readonly TensorType[] = [
  { shape: [2, 4, 4, 8], dtype: 'f16' },
  { shape: [8, 3, 3, 8], dtype: 'f16' },
  { shape: [8, 8], dtype: 'f16' },
]

const relu = (x: Tensor): Tensor => ops.maximum(x, 0)

/** Two convolutions and two products of whole numbers, whose sums are exact however they are computed. */
const network: Flat = ([x, filter, weights]) => {
  const stage = { padding: 1 } as const
  const y = relu(ops.conv2d(x!, filter!, stage))
  const z = relu(ops.sub(ops.conv2d(ops.mul(y, 0.125), filter!, stage), 1))
  const pooled = ops.sum(z, { axes: [1, 2] })
  return [ops.sum(ops.matmul(relu(ops.matmul(ops.cast(pooled, 'f16'), weights!)), weights!))]
}

/** Launches, records and replays; what each run gave. */
async function runs(device: Device): Promise<readonly number[]> {
  const executable = compile(device, network, types)
  try {
    const inputs = types.map((type, index) => {
      const count = type.shape.reduce((size, extent) => size * extent, 1)
      return device.upload(
        Uint16Array.from(range(count), (i) => ((i * (index + 3)) % 5 === 0 ? 0x3c00 : 0)),
        type,
      )
    })
    const sums: number[] = []
    for (const _ of range(3)) {
      const [sum] = executable.run(inputs)
      sums.push(at(await device.read(sum!), 0))
      device.release(sum!)
    }
    for (const input of inputs) device.release(input)
    return sums
  } finally {
    executable.release()
  }
}

/** What became of a try: the sums, unless the device was not opened or was lost. */
interface Tried {
  readonly sums: readonly number[]
  readonly error: unknown
}

/** Runs on a device of its own. Where that fails and the device is not lost, the same device must do it at the second try. */
async function tried(): Promise<Tried> {
  const { native, machine } = sim
  const failures: unknown[] = []
  let sums: readonly number[] = []
  try {
    const device = cudaDevice({
      native,
      machine,
      environment: { PULLBACK_CACHE: folder, PULLBACK_TUNE: 'heuristics' },
    })
    try {
      sums = await runs(device).catch((error: unknown) => {
        failures.push(error)
        return isLost(error) ? [] : runs(device)
      })
    } finally {
      await device.close()
    }
  } catch (error) {
    failures.push(error)
  }
  return { sums, error: failures[0] }
}

/** Whether an error says that the GPU is of no use any more. */
function isLost(error: unknown): boolean {
  return error instanceof Error && error.message.includes('cannot be used any more')
}

/** Every so many calls are tried; all of them took two minutes, and passed. */
const stride = 17

it('each call that fails is a clear error, leaves nothing behind, and spoils no more than it says', {
  timeout: 120_000,
}, async () => {
  sim.reset()
  sim.seed(0)
  const { sums: expected } = await tried() // compiles what is then found on disk
  expect(new Set(expected).size).toBe(1)
  sim.reset()
  await tried()
  const { calls } = sim.report()
  const libraries = new Set<string>()
  for (let failAt = 1; failAt <= calls; failAt += stride) {
    sim.reset()
    sim.failAt(failAt)
    const { sums, error } = await tried()
    const { failed, violations, memory, live, retained } = sim.report()
    const where = `call ${failAt}, ${failed}: ${String(error)}`
    expect({ violations, memory, live, retained }, where).toEqual({
      ...{ violations: [], memory: [], live: {}, retained: 0 },
    })
    if (error !== undefined) expect(error, where).toBeInstanceOf(PullbackError)
    if (error === undefined || sums.length > 0) expect(sums, where).toEqual(expected)
    libraries.add(/^(?:cudnn|cublasLt|cu)/.exec(failed)?.[0] ?? failed)
  }
  expect([...libraries].sort()).toEqual(['cu', 'cublasLt', 'cudnn'])
})

/** Refusals that leave the GPU usable: a wrong argument, no memory, a bad handle, a recording made invalid. */
const harmless = [1, 2, 400, 901]

it.each(harmless)('a call of the driver that answers %i likewise', { timeout: 120_000 }, async (status) => {
  sim.reset()
  sim.seed(0)
  const { sums: expected } = await tried() // compiles what is then found on disk
  sim.reset()
  await tried()
  const { calls } = sim.report()
  let errors = 0
  const first = 1 + stride * harmless.indexOf(status)
  for (let failAt = first; failAt <= calls; failAt += harmless.length * stride) {
    sim.reset()
    sim.failAt(failAt, status)
    const { sums, error } = await tried()
    const { failed, violations, memory, live, retained } = sim.report()
    const where = `call ${failAt}, ${failed}, status ${status}: ${String(error)}`
    expect({ violations, memory, live, retained }, where).toEqual({
      ...{ violations: [], memory: [], live: {}, retained: 0 },
    })
    if (error !== undefined) expect(error, where).toBeInstanceOf(PullbackError)
    if (error === undefined || sums.length > 0) expect(sums, where).toEqual(expected)
    errors += error === undefined ? 0 : 1
  }
  expect(errors).toBeGreaterThan(0)
})

it('a plan that cuDNN fails to make is told once, by name, and left out', { timeout: 120_000 }, async () => {
  sim.reset()
  sim.seed(0)
  const { sums: expected } = await tried()
  const finalized = sim.report().counts['cudnnBackendFinalize'] ?? 0
  const lines: string[] = []
  const written = vi.spyOn(process.stderr, 'write').mockImplementation((text) => lines.push(String(text)) > 0)
  try {
    for (let failAt = 1; failAt <= finalized && lines.length === 0; failAt++) {
      sim.reset()
      sim.failAt(failAt, 4000, 'cudnnBackendFinalize')
      const { sums, error } = await tried()
      if (error === undefined) expect(sums).toEqual(expected)
      expect(sim.report()).toMatchObject({ violations: [], memory: [], live: {} })
    }
  } finally {
    written.mockRestore()
  }
  expect(lines.length).toBe(1)
  expect(lines[0]).toMatch(
    /^pullback: cuDNN failed to plan cudnn:engine \d+.*, which is left out: cudnnBackendFinalize/,
  )
})
