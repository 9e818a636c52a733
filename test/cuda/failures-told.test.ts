// What is said of failures that users meet: who holds the memory where a device cannot be opened, which of cuDNN's plans fail
// rather than are refused, and who is to blame where a fused way is compared with separate steps.
import { describe, expect, it } from 'vitest'
import { convFromRecipe, isRefusal, propertiesSession } from '../../src/cuda/conv/index.ts'
import { CudaError } from '../../src/cuda/ffi/status.ts'
import { besideSeparate } from '../../src/cuda/fusions/acceptance.ts'
import type { Bench } from '../../src/cuda/tune/index.ts'
import { tellOnce } from '../../src/cuda/told.ts'
import type { Candidate, Lowered } from '../../src/cuda/work.ts'
import { fakeCudnn } from './conv-fake.ts'
import { all, problem } from './conv-samples.ts'

const status = { name: 'NAME', text: '' }

describe('a device that cannot be opened for want of memory', () => {
  it.each([
    ['driver', 'cuDevicePrimaryCtxRetain', 2],
    ['cuDNN', 'cudnnCreate', 4004],
    ['cuDNN', 'cudnnCreate', 1001],
    ['cuDNN', 'cudnnCreate', 4000],
    ['cuBLASLt', 'cublasLtCreate', 3],
    ['cuBLASLt', 'cublasLtCreate', 1],
    ['cuBLASLt', 'cublasLtCreate', 14],
  ] as const)('%s: %s with status %i names other processes and nvidia-smi', (library, call, number) => {
    const { message } = new CudaError(library, call, number, status)
    expect(message).toMatch(/[oO]ther processes hold (the|its) memory.* nvidia-smi/)
    expect(message).not.toMatch(/smaller batch|report it/)
  })

  it('later calls speak of the batch, pinned memory of the machine, and the rest is as it was', () => {
    expect(new CudaError('driver', 'cuMemAlloc_v2', 2, status).message).toMatch(/smaller batch.*nvidia-smi/)
    expect(new CudaError('driver', 'cuMemHostAlloc', 2, status).message).toMatch(/This machine has no memory left/)
    expect(new CudaError('cuDNN', 'cudnnCreate', 1002, status).message).toMatch(/different cuDNN versions/)
    expect(new CudaError('cuDNN', 'cudnnBackendFinalize', 4000, status).message).toMatch(/report it/)
  })
})

describe('a plan that cuDNN does not make', () => {
  const statuses = [2000, 3000, 3007, 4000, 5000]
  const engines = { A: [...statuses.map((code, engine) => ({ engine, status: code })), { engine: 9 }] }

  it('is told where it is a failure and no refusal, and the others are candidates all the same', () => {
    const failed: string[] = []
    const dropped: string[] = []
    const session = propertiesSession(fakeCudnn(engines).cudnn, '{}')
    const found = all(session, problem, {
      dropped: (id) => dropped.push(id),
      failed: (id, error) => failed.push(`${id}: ${error.status}`),
    })
    expect(found.map(({ id }) => id)).toEqual(['cudnn:engine 9'])
    expect(failed).toEqual(['cudnn:engine 0: 2000', 'cudnn:engine 3: 4000', 'cudnn:engine 4: 5000'])
    expect(dropped.length).toBe(statuses.length)
  })

  it('likewise where it was chosen before', () => {
    const session = propertiesSession(fakeCudnn({ A: [{ engine: 1 }] }).cudnn, '{}')
    const [candidate] = all(session, problem)
    for (const [code, expected] of [
      [4000, ['cudnn:engine 1']],
      [3000, []],
    ] as const) {
      const failed: string[] = []
      const refusing = { ...session, cudnn: { ...session.cudnn, finalize: fails(code) } }
      const again = convFromRecipe(refusing, problem, candidate?.recipe ?? '', { failed: (id) => failed.push(id) })
      expect(again).toBeUndefined()
      expect(failed).toEqual(expected)
    }
  })

  it('is told once for each engine and status, however many convolutions meet it', () => {
    const notes: string[] = []
    const tell = tellOnce((sentence) => notes.push(sentence))
    const error = (code: number) => new CudaError('cuDNN', 'cudnnBackendFinalize', code, status)
    for (const code of [4000, 4000, 2000]) tell('cudnn:engine 3', error(code))
    tell('cudnn:engine 4', error(4000))
    expect(notes.length).toBe(3)
    expect(notes[0]).toMatch(/^cuDNN failed to plan cudnn:engine 3, which is left out: cudnnBackendFinalize .*4000/)
  })

  it('is refused by the statuses of 3000 and no others', () => {
    const refusals = [1001, 2000, 2999, 3000, 3014, 4000, 5000].filter((code) =>
      isRefusal(new CudaError('cuDNN', 'x', code, status)),
    )
    expect(refusals).toEqual([3000, 3014])
    expect(isRefusal(new CudaError('driver', 'x', 3000, status))).toBe(false)
  })
})

function fails(code: number): () => never {
  return () => {
    throw new CudaError('cuDNN', 'cudnnBackendFinalize', code, status)
  }
}

describe('a fused way that is compared with separate steps', () => {
  const candidate = (id: string, releases: string[]): Candidate => ({
    ...{ id, scratchBytes: 0, works: [] },
    release: () => void releases.push(id),
  })
  const bench = (failing: string, call: 'bind' | 'enqueue', error: Error): Bench =>
    ({
      bind: (lowered: Lowered) => {
        const fail = (where: string): void => {
          if (lowered.id === failing && where === call) throw error
        }
        fail('bind')
        return { enqueue: () => fail('enqueue'), release: () => undefined }
      },
    }) as unknown as Bench
  const broken = new CudaError('cuDNN', 'cudnnBackendExecute', 5000, status)
  const asked = (failing: string, call: 'bind' | 'enqueue', error: Error, released: string[] = []) =>
    besideSeparate({ id: 'separate', make: () => candidate('separate', released) }, 'it', (on, mine, theirs) => {
      for (const one of [mine, theirs]) on.bind(one, [], undefined).enqueue()
      return undefined
    })(bench(failing, call, error), candidate('fused', released))

  it.each(['bind', 'enqueue'] as const)('is not blamed for what they fail at: %s', (call) => {
    const released: string[] = []
    expect(asked('separate', call, broken, released)).toMatch(/^the separate steps .* failed: .*cudnnBackendExecute/)
    expect(() => asked('fused', call, broken, released)).toThrow(broken)
    expect(asked('neither', call, broken, released)).toBeUndefined()
    expect(released).toEqual(['separate', 'separate', 'separate'])
  })

  it('nor where they cannot be made', () => {
    const make = fails(4000)
    const said = besideSeparate(
      { id: 'separate', make },
      'it',
      () => undefined,
    )(bench('', 'bind', broken), candidate('fused', []))
    expect(said).toMatch(/^the separate steps .* failed: /)
  })

  it('a lack of memory is nobody’s fault, and a lost GPU everybody’s', () => {
    const memory = new CudaError('driver', 'cuMemAlloc_v2', 2, status)
    expect(asked('separate', 'bind', memory)).toBe('there is no memory to try it')
    const lost = new CudaError('driver', 'cuLaunchKernel', 700, status)
    expect(() => asked('separate', 'enqueue', lost)).toThrow(lost)
  })
})
