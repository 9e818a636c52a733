// Machine code on disk: nothing is compiled twice, whatever it depends on is part of its name, what is broken is made again.
import {
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Nvrtc } from '../../src/cuda/ffi/nvrtc.ts'
import { CudaError } from '../../src/cuda/ffi/status.ts'
import { Cleanup } from '../../src/cuda/runtime/cleanup.ts'
import { Cubins } from '../../src/cuda/runtime/cubins.ts'
import { Modules } from '../../src/cuda/runtime/modules.ts'
import { FakeGpu } from './fake-gpu.ts'

describe('machine code on disk', () => {
  let folder = ''
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'pullback-cubins-'))
  })
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  const hex = (image: Uint8Array): string => Buffer.from(image).toString('hex')
  const target = { architecture: 'sm_90', versions: [13_000, 13_000] }
  const sources = ['a', 'b', 'c'].map((name) => ({ name, text: `kernel ${name}` }))

  function compiler() {
    const compiled: string[] = []
    const options: string[][] = []
    const living = new Set<bigint>()
    const wrong = new Set<bigint>()
    const nvrtc = {
      createProgram: (source: string, name: string) => {
        compiled.push(name)
        const program = BigInt(compiled.length)
        living.add(program)
        if (source.includes('wrong')) wrong.add(program)
        return program
      },
      compileProgram: (program: bigint, flags: readonly string[]) => {
        if (wrong.has(program))
          throw new CudaError('NVRTC', 'nvrtcCompileProgram', 6, { name: 'NVRTC_ERROR_COMPILATION', text: '' })
        options.push([...flags])
      },
      programLog: () => 'x.cu(1): warning: w\nx.cu(3): error: expected a ";"\n',
      cubin: (program: bigint) => new TextEncoder().encode(`code ${program} ${'x'.repeat(100)}`),
      destroyProgram: (program: bigint) => void living.delete(program),
    } as unknown as Nvrtc
    return { nvrtc, compiled, options, living }
  }

  it('is made once for each source, for the architecture, by itself, and leaves no program open', () => {
    const { nvrtc, compiled, options, living } = compiler()
    const told: string[] = []
    const first = new Cubins(nvrtc, folder, target)
    const images = first.get(sources, (built, total) => told.push(`${built}/${total}`))
    const again = new Cubins(nvrtc, folder, target)
    expect(again.get([...sources].reverse()).map(hex)).toEqual(images.map(hex).reverse())
    expect(compiled).toEqual(['a.cu', 'b.cu', 'c.cu'])
    expect(options[0]).toContain('--gpu-architecture=sm_90')
    expect(told).toEqual(['1/3', '2/3', '3/3'])
    expect([first.counts, again.counts]).toEqual([
      { found: 0, built: 3 },
      { found: 3, built: 0 },
    ])
    expect(living.size).toBe(0)
  })

  it('is told apart by text, architecture and versions', () => {
    const { nvrtc, compiled } = compiler()
    const get = (of: typeof target, text = 'kernel a'): unknown =>
      new Cubins(nvrtc, folder, of).get([{ name: 'a', text }])
    get(target)
    get({ ...target, architecture: 'sm_100' })
    get({ ...target, versions: [13_000, 13_010] })
    get({ ...target, versions: [12_090, 13_000] })
    get(target, 'kernel a, changed')
    get(target)
    expect(compiled).toHaveLength(5)
  })

  it('is made again where the file is broken, and never half written', () => {
    const { nvrtc, compiled } = compiler()
    const get = (): readonly Uint8Array[] => new Cubins(nvrtc, folder, target).get(sources)
    get()
    const files = readdirSync(folder)
    expect(files).toHaveLength(3)
    const [one, two, three] = files.map((name) => join(folder, name)) as [string, string, string]
    truncateSync(one, 50)
    const bytes = readFileSync(two)
    bytes[60] = (bytes[60] ?? 0) ^ 1
    writeFileSync(two, bytes)
    truncateSync(three, 0)
    get()
    expect(compiled).toHaveLength(6)
    get()
    expect(compiled).toHaveLength(6)
    expect(readdirSync(folder).sort()).toEqual(files.sort())
    expect(statSync(one).mode & 0o077).toBe(0)
  })

  it('makes room once, before the first kernel is compiled, and is younger for being used', () => {
    const { nvrtc, compiled } = compiler()
    const room: number[] = []
    const cubins = (): Cubins => new Cubins(nvrtc, folder, target, () => room.push(compiled.length))
    const first = cubins()
    first.get(sources.slice(0, 1))
    first.get(sources)
    expect(room).toEqual([0])
    const used = (): number[] => readdirSync(folder).map((name) => statSync(join(folder, name)).mtimeMs)
    for (const name of readdirSync(folder)) utimesSync(join(folder, name), 1, 1)
    cubins().get(sources)
    expect(room).toEqual([0])
    expect(Math.min(...used())).toBeGreaterThan(1000)
  })

  it('is not needed: a folder that cannot be written costs time only', () => {
    const { nvrtc, compiled } = compiler()
    writeFileSync(join(folder, 'file'), '')
    const cubins = new Cubins(nvrtc, join(folder, 'file', 'cubin'), target)
    expect(cubins.get(sources)).toHaveLength(3)
    expect(compiled).toHaveLength(3)
  })

  it('tells what NVRTC refused, by name and in its words', () => {
    const { nvrtc, living } = compiler()
    const cubins = new Cubins(nvrtc, folder, target)
    expect(() => cubins.get([...sources, { name: 'bad', text: 'wrong' }])).toThrow(
      /^\[cuda\] NVRTC refused the kernel bad:\nx\.cu\(3\): error: expected a ";"$/,
    )
    expect(living.size).toBe(0)
  })

  it('is loaded once by name, and asks for shared memory only where more is wanted', () => {
    const gpu = new FakeGpu()
    const cleanup = new Cleanup()
    const cubins = {
      get: (list: readonly { name: string }[]) => list.map(({ name }) => new TextEncoder().encode(name)),
    }
    const modules = new Modules(gpu.driver(), cubins, cleanup)
    modules.load(sources)
    modules.load([...sources, ...sources])
    expect(modules.count).toBe(3)
    expect(() => modules.load([{ name: 'a', text: 'another' }])).toThrow(/two kernels are named a/)
    expect(() => modules.kernel('d')).toThrow(/was not loaded/)
    const kernel = modules.kernel('a', 1000)
    expect(modules.kernel('a', 100_000)).toBe(kernel)
    modules.kernel('a', 50_000)
    expect(gpu.log).toEqual(['MAX_DYNAMIC_SHARED_SIZE_BYTES 100000'])
    cleanup.release()
    expect(gpu.held()).toEqual({})
  })
})
