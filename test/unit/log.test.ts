// PULLBACK_LOG: each level includes those before it, a wrong one is told once, and the compiled device says what it did.
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest'
import { jit } from '../../src/autograd/index.ts'
import { cpuDevice } from '../../src/cpu/index.ts'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'
import { logLevels, logLine, logs } from '../../src/tensor/log.ts'
import { add, mul, tensor } from '../../src/tensor/ops/index.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'

afterEach(() => {
  vi.unstubAllEnvs()
  vi.restoreAllMocks()
})

/** What is written to stderr from now on. */
function stderr(setting: string): string[] {
  const written: string[] = []
  vi.stubEnv('PULLBACK_LOG', setting)
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => written.push(String(text)) > 0)
  return written
}

describe('PULLBACK_LOG', () => {
  it.each([
    ['error', ['error']],
    ['warn', ['error', 'warn']],
    ['info', ['error', 'warn', 'info']],
    ['debug', ['error', 'warn', 'info', 'debug']],
    ['INFO', ['error', 'warn', 'info']],
    ['', ['error', 'warn']],
  ])('%s', (setting, expected) => {
    const written = stderr(setting)
    for (const level of logLevels) logLine(level, () => level)
    expect(written).toEqual(expected.map((level) => `${level}\n`))
  })

  it('that is no level is told once and taken as warn', () => {
    const written = stderr('verbose')
    expect([logs('warn'), logs('info'), logs('warn')]).toEqual([true, false, true])
    expect(written).toEqual([
      "[log] expected PULLBACK_LOG to be error, warn, info, debug, got 'verbose'. Taken as warn.\n",
    ])
  })

  it('costs nothing where it asks for nothing', () => {
    stderr('warn')
    const text = vi.fn(() => '')
    logLine('info', text)
    expect(text).not.toHaveBeenCalled()
  })
})

describe('the compiled device', () => {
  const folder = mkdtempSync(join(tmpdir(), 'pullback-log-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  /** Runs one operation and one compiled function on a device with a cache of its own; gives what was told. */
  async function told(setting: string): Promise<string[] | undefined> {
    const device = cpuDevice({ environment: { ...process.env, PULLBACK_CACHE: folder } })
    if (device === undefined) {
      console.warn('no C compiler found: what the compiled device tells is not tested')
      return undefined
    }
    const written = stderr(setting)
    setDefaultDevice(device)
    const x = add(tensor([1, 2, 3]), 1)
    const scale = jit((t: Tensor) => add(mul(t, t), 1), { label: 'scale' })
    await scale(x).data()
    await scale(x).data()
    await device.close()
    return written
  }

  it('tells what was traced, compiled and built with info', { timeout: 60_000 }, async () => {
    const lines = await told('info')
    if (lines === undefined) return
    expect(lines.filter((line) => line.startsWith('[add]'))).toEqual([])
    expect(lines.slice(-3)).toEqual([
      expect.stringMatching(/^\[scale\] traced 3 equations in \d+ ms\n$/),
      expect.stringMatching(/^\[cpu\] kernels: 1 built \(1 libraries, \d+ ms\), 0 found in the cache\n$/),
      expect.stringMatching(
        /^\[scale\] compiled for cpu: 1 steps, arena 0\.0 MB, planned in \d+ ms, ready in \d+ ms\n$/,
      ),
    ])
  })

  it('tells nothing by itself', async () => {
    expect((await told('')) ?? []).toEqual([])
  })

  it('tells single operations too with debug, and writes plans', async () => {
    const lines = await told('debug')
    if (lines === undefined) return
    expect(lines.filter((line) => line.startsWith('[add] compiled for cpu: 1 steps'))).toHaveLength(1)
    const path = /^\[scale\] plan written to (.*)\n$/m.exec(lines.join(''))?.[1] ?? ''
    expect(existsSync(path) ? readFileSync(path, 'utf8') : path).toMatch(/^plan: 1 steps \(1 kernels/)
  })
})
