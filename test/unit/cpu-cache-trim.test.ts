// The limit of the kernel cache: what was used longest ago goes, nothing that was used just now, and a kernel that a
// process has loaded keeps running when its library goes.
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { cacheLimit, trimCache } from '../../src/compile/cache-trim.ts'
import { KernelCache } from '../../src/cpu/cache.ts'
import { removeOrphans } from '../../src/cpu/cache-entry.ts'
import { type Compiler, findCompiler } from '../../src/cpu/compiler.ts'
import { cpuDevice } from '../../src/cpu/index.ts'
import type { KernelSource } from '../../src/cpu/kernels/launch.ts'
import { add } from '../../src/tensor/ops/index.ts'
import { fromBits } from '../../src/tensor/ops/create.ts'

const prelude = '#include <stdint.h>\n'
const compiler = findCompiler() as Compiler
const hour = 60 * 60 * 1000
let folder = ''

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pullback-trim-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const source = (name: string): KernelSource => ({
  name,
  text: `void ${name}(void *const *p, const int64_t *n, int64_t part) { *(int64_t *)p[0] = 1; }\n`,
})
const trim = (limit: number): void => trimCache(folder, limit, () => removeOrphans(folder))
const libraries = (): string[] => readdirSync(folder).filter((name) => name.endsWith('.so'))
const entries = (): string[] => readdirSync(folder).filter((name) => name.endsWith('.json'))

/** A file of `bytes` last used so many hours ago. */
function place(name: string, bytes: number, hours: number): string {
  const path = join(folder, name)
  mkdirSync(join(path, '..'), { recursive: true })
  writeFileSync(path, new Uint8Array(bytes))
  age(path, hours)
  return path
}

function age(path: string, hours: number): void {
  const used = new Date(Date.now() - hours * hour)
  utimesSync(path, used, used)
}

describe('a cache beyond its limit', () => {
  it('loses what was used longest ago, and no more than it must', () => {
    for (const [name, hours] of [
      ['aa', 5],
      ['bb', 4],
      ['cc', 3],
      ['dd', 2],
    ] as const) {
      place(`${name}.so`, 1000, hours)
      writeFileSync(join(folder, `${name}.json`), JSON.stringify({ library: `${name}.so`, checksum: name }))
    }
    trim(2000)
    expect(libraries().sort()).toEqual(['cc.so', 'dd.so'])
    expect(entries().sort()).toEqual(['cc.json', 'dd.json'])
    trim(2000)
    expect(libraries()).toHaveLength(2)
  })

  it('keeps what was used within the last hour, whatever the limit', () => {
    place('aa.so', 1000, 0.9)
    place('bb.so', 1000, 1.1)
    trim(0)
    expect(libraries()).toEqual(['aa.so'])
  })

  it('counts parsed preludes and plans, and removes them whole', () => {
    place('prelude-old/prelude.h.gch', 5000, 3)
    age(join(folder, 'prelude-old'), 3)
    place('prelude-new/prelude.h.gch', 5000, 2)
    age(join(folder, 'prelude-new'), 2)
    place('plans/step-1.txt', 500, 4)
    place('plans/step-2.txt', 500, 2)
    trim(6000)
    expect(readdirSync(folder).sort()).toEqual(['plans', 'prelude-new'])
    expect(readdirSync(join(folder, 'plans'))).toEqual(['step-2.txt'])
  })

  it('counts machine code and tuning for GPUs, each file by itself', () => {
    place('cubin/aa.cubin', 1000, 5)
    place('cubin/bb.cubin', 1000, 2)
    place('tuning/tuning-1.json', 1000, 4)
    place('tuning/tuning-2.json', 1000, 3)
    trim(2000)
    expect(readdirSync(join(folder, 'cubin'))).toEqual(['bb.cubin'])
    expect(readdirSync(join(folder, 'tuning'))).toEqual(['tuning-2.json'])
  })

  it('keeps what is not its own, and what crashes left for a day', () => {
    place('notes.txt', 1000, 100)
    place('cuda/kernel.cubin', 1000, 100)
    for (const [name, hours] of [
      ['build-now', 2],
      ['build-old', 25],
    ] as const) {
      place(`${name}/0.c`, 10, hours)
      age(join(folder, name), hours)
    }
    trim(1000)
    expect(readdirSync(folder).sort()).toEqual(['build-now', 'cuda', 'notes.txt'])
  })

  it('is trimmed before a build, never of what the same call found', () => {
    const first = new KernelCache(folder, compiler, prelude)
    first.get([source('a')])
    first.get([source('b')])
    const [a = '', b = ''] = libraries().sort(
      (x, y) => statSync(join(folder, x)).ctimeMs - statSync(join(folder, y)).ctimeMs,
    )
    for (const name of [a, b]) age(join(folder, name), 5)
    const [found] = new KernelCache(folder, compiler, prelude, 0).get([source('b'), source('c')])
    expect(found?.library).toBe(join(folder, b))
    expect(libraries()).toContain(b)
    expect(libraries()).not.toContain(a)
    const again = new KernelCache(folder, compiler, prelude)
    again.get([source('a')])
    expect(again.counts.built).toBe(1)
  })

  it('is left alone where nothing has to be built', () => {
    new KernelCache(folder, compiler, prelude).get([source('a')])
    place('aa.so', 1000, 5)
    new KernelCache(folder, compiler, prelude, 0).get([source('a')])
    expect(existsSync(join(folder, 'aa.so'))).toBe(true)
  })
})

describe('a process whose libraries are removed', () => {
  it('goes on with the kernels it has loaded, and builds others', { timeout: 60_000 }, async () => {
    const device = cpuDevice({ environment: { ...process.env, PULLBACK_CACHE: folder } })
    if (device === undefined) throw new Error('no C compiler: this file needs one')
    const x = fromBits(Float32Array.of(1, 2), [2], 'f32', device)
    await add(x, x).data()
    for (const name of libraries()) age(join(folder, name), 5)
    trim(0)
    expect([...libraries(), ...entries()]).toEqual([])
    if (process.platform === 'linux')
      expect(readFileSync('/proc/self/maps', 'utf8')).toMatch(new RegExp(`${folder}/[0-9a-f]+\\.so \\(deleted\\)`))
    expect([...(await add(x, x).data())]).toEqual([2, 4])
    expect([...(await add(add(x, x), fromBits(Float32Array.of(5), [1], 'f32', device)).data())]).toEqual([7, 9])
    await device.close()
  })
})

describe('PULLBACK_CACHE_LIMIT', () => {
  it.each([
    ['', 2 * 2 ** 30],
    ['0', 0],
    ['1000', 1000],
    ['512K', 512 * 1024],
    ['300m', 300 * 2 ** 20],
    ['4GB', 4 * 2 ** 30],
  ])("'%s' is %d bytes", (text, bytes) => {
    expect(cacheLimit({ PULLBACK_CACHE_LIMIT: text })).toBe(bytes)
  })

  it.each(['two', '-1', '1.5G', '2T'])("'%s' is refused when the device starts", (text) => {
    const environment = { ...process.env, PULLBACK_CACHE_LIMIT: text }
    expect(() => cpuDevice({ environment })).toThrow(
      `[cache] expected PULLBACK_CACHE_LIMIT to be bytes, or a number with K, M or G, got '${text}'. Try 2G.`,
    )
  })
})
