// Products tuned on the simulated CUDA: each candidate timed and checked against our own kernel, the winner kept and made
// again, and nothing left when it is over.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { probe } from '../../src/cuda/discovery-probe.ts'
import { plainCandidate } from '../../src/cuda/kernels/index.ts'
import { type DotEquation, type Precision, matmulProblem, matmulTask } from '../../src/cuda/matmul/index.ts'
import { type Runtime, openRuntime } from '../../src/cuda/runtime/index.ts'
import { Tuner, TuningCache, type TuningTask, runtimeBench, tuningIdentity } from '../../src/cuda/tune/index.ts'
import type { FloatDType } from '../../src/tensor/dtype.ts'
import { variable } from '../../src/tensor/program.ts'
import type { Shape } from '../../src/tensor/shape.ts'
import { type Simulation, simulation } from '../sim/library.ts'

let sim: Simulation
const folder = mkdtempSync(join(tmpdir(), 'pullback-matmul-'))
beforeAll(async () => {
  sim = await simulation()
}, 300_000)
beforeEach(() => sim.reset())
afterAll(() => rmSync(folder, { recursive: true }))

function open(): Runtime {
  const environment = { PULLBACK_CACHE: folder }
  const found = probe(sim.machine, sim.native)
  return openRuntime(found, sim.native, { ordinal: 0, environment, separate: false, owners: () => '' })
}

/** A product [b, m, k] x [b, k, n]; an operand is stored the other way round where it is transposed. */
function dot(dtype: FloatDType, [b, m, n, k]: readonly [number, number, number, number], turned: string): DotEquation {
  const left: Shape = turned.startsWith('T') ? [b, k, m] : [b, m, k]
  const right: Shape = turned.endsWith('T') ? [b, n, k] : [b, k, n]
  const contract = [[turned.startsWith('T') ? 1 : 2], [turned.endsWith('T') ? 2 : 1]] as const
  const inputs = [variable({ dtype, shape: left }), variable({ dtype, shape: right })]
  const outputs = [variable({ dtype, shape: [b, m, n] })]
  return { primitive: 'dot', inputs, outputs, params: { batch: [[0], [0]], contract } }
}

function taskOf(runtime: Runtime, equation: DotEquation, precision: Precision): TuningTask {
  return matmulTask(runtime.session, matmulProblem(equation, precision), () => plainCandidate(equation))
}

/** The task without our own kernel among the candidates: it wins small products, and is what the others are checked against. */
function library(task: TuningTask): TuningTask {
  const own = (id: string): boolean => id.startsWith('own:')
  return {
    ...task,
    candidates: function* () {
      for (const candidate of task.candidates()) if (!own(candidate.id)) yield candidate
    },
  }
}

/** A tuner that verifies what it chooses. */
function tunerOf(runtime: Runtime, graphs = true) {
  const notes: string[] = []
  const note = (said: string): void => void notes.push(said)
  const cache = new TuningCache(join(folder, 'tuning'), tuningIdentity(runtime.session, 'test'), note)
  const bench = runtimeBench(runtime, graphs)
  return { tuner: new Tuner({ bench, mode: 'time', verify: true, cache, note }), notes, cache }
}

function expectNothingLeft(): void {
  const { violations, memory, live, pending, retained } = sim.report()
  expect({ violations, memory, pending, retained }).toEqual({ violations: [], memory: [], pending: 0, retained: 0 })
  expect(Object.values(live).reduce((sum, count) => sum + count, 0)).toBe(0)
}

describe('a tuned product', () => {
  const cases: readonly [FloatDType, readonly [number, number, number, number], string, Precision][] = [
    ['f16', [1, 24, 40, 64], 'NN', 'ieee'],
    ['f16', [3, 16, 8, 32], 'TN', 'ieee'],
    ['bf16', [1, 33, 7, 20], 'NT', 'ieee'],
    ['f32', [2, 12, 20, 36], 'TT', 'ieee'],
    ['f32', [1, 32, 32, 48], 'NT', 'tf32'],
    ['f64', [2, 5, 6, 17], 'NN', 'ieee'],
    ['f32', [1, 1, 9, 100], 'NN', 'ieee'],
    ['f32', [1, 9, 1, 100], 'TT', 'ieee'],
    ['f16', [1, 8, 8, 0], 'NN', 'ieee'],
    ['f32', [4, 0, 8, 8], 'NN', 'ieee'],
  ]

  test.each(cases)(
    '%s %s %s %s agrees with our own kernel, is not by chance, and leaves nothing',
    (dtype, extents, turned, precision) => {
      const runtime = open()
      const { tuner, notes } = tunerOf(runtime)
      const chosen = tuner.choose(library(taskOf(runtime, dot(dtype, extents, turned), precision)))
      expect(notes).toEqual([])
      expect(chosen.id).toMatch(/^cublaslt:(algorithm .* scheme [02] |zeros$|nothing$)/)
      chosen.release?.()
      runtime.close()
      expectNothingLeft()
    },
  )

  test('is the fastest by the events of the GPU, with and without graphs', () => {
    for (const graphs of [true, false]) {
      const runtime = open()
      const { tuner, cache } = tunerOf(runtime, graphs)
      const task = { ...taskOf(runtime, dot('f16', [1, 64, 64, 64], 'NN'), 'ieee'), key: `timed ${String(graphs)}` }
      const { id, release } = tuner.choose(task)
      release?.()
      const entry = cache.get(task.key)
      expect(entry?.id).toBe(id)
      expect(Object.keys(entry?.others ?? {}).length).toBeGreaterThan(2)
      expect(entry?.microseconds).toBe(Math.min(entry?.microseconds ?? 0, ...Object.values(entry?.others ?? {})))
      runtime.close()
      expectNothingLeft()
    }
  })

  test('is made again by the next process without heuristics, and tuned again where its recipe is refused', () => {
    const extents = [1, 48, 56, 64] as const
    const before = open()
    const first = tunerOf(before)
    const { id } = first.tuner.choose(library(taskOf(before, dot('bf16', extents, 'NN'), 'ieee')))
    const entry = first.cache.get('dot bf16 1x48x56x64 NN')
    before.close()
    sim.reset()

    const runtime = open()
    const { tuner, notes, cache } = tunerOf(runtime)
    expect(tuner.choose(library(taskOf(runtime, dot('bf16', extents, 'NN'), 'ieee'))).id).toBe(id)
    expect(tuner.counts).toMatchObject({ cached: 1, timed: 0 })
    expect(sim.report().counts['cublasLtMatmulAlgoGetHeuristic'] ?? 0).toBe(0)
    // The recipe of another problem: its algorithm does not fit this one.
    const task = library(taskOf(runtime, dot('bf16', extents, 'TN'), 'ieee'))
    cache.set(task.key, { ...entry, id, others: {} })
    expect(tuner.choose(task).id).toMatch(/^cublaslt:/)
    expect(tuner.counts.retuned).toBe(1)
    expect(notes).toEqual([
      `[tune] ${id}, which the tuning cache has for ${task.key}, cannot be used any more: tuning again.`,
    ])
    runtime.close()
  })
})

test('whichever call fails while tuning, an error or another candidate comes of it, and nothing is left', () => {
  for (let nth = 3; nth < 1200; nth += 61) {
    sim.reset()
    const runtime = open()
    const { tuner } = tunerOf(runtime)
    const task = { ...library(taskOf(runtime, dot('f16', [2, 8, 8, 16], 'NN'), 'ieee')), key: `failing ${nth}` }
    sim.failAt(nth)
    try {
      tuner.choose(task).release?.()
    } catch (error) {
      expect(error).toBeInstanceOf(Error)
    }
    sim.failAt(0)
    runtime.session.driver.synchronizeContext() // a wait may have been what failed
    try {
      runtime.close()
    } catch {
      runtime.close()
    }
    expectNothingLeft()
  }
})
