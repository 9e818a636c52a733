// The cache of compiled kernels: nothing is built twice, whatever group it was built with; broken entries are built again;
// processes do not disturb each other; other users' folders are refused; what the compiler says reaches the user.
import { execFile } from 'node:child_process'
import {
  chmodSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { cacheFolder } from '../../src/compile/cache-folder.ts'
import { KernelCache } from '../../src/cpu/cache.ts'
import { type Compiler, findCompiler } from '../../src/cpu/compiler.ts'
import { cpuDevice } from '../../src/cpu/index.ts'
import type { KernelSource } from '../../src/cpu/kernels/launch.ts'

const prelude = '#include <stdint.h>\n'
const compiler = findCompiler() as Compiler
let folder = ''

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pullback-cache-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

function source(name: string, value = 1): KernelSource {
  return {
    name,
    text: `void ${name}(void *const *p, const int64_t *n, int64_t part) { *(int64_t *)p[0] = ${value}; }\n`,
  }
}

function libraries(): string[] {
  return readdirSync(folder).filter((name) => name.endsWith('.so'))
}

describe('the kernel cache', () => {
  it('builds what is missing, together, and never a kernel twice', () => {
    const first = new KernelCache(folder, compiler, prelude)
    first.get([source('a'), source('b'), source('c')])
    expect(first.counts).toMatchObject({ found: 0, built: 3 })
    const second = new KernelCache(folder, compiler, prelude)
    const places = second.get([source('d'), source('b'), source('a')])
    expect(second.counts).toMatchObject({ found: 2, built: 1, libraries: 1 })
    expect(places.map(({ name }) => name)).toEqual(['d', 'b', 'a'])
    second.get([source('a'), source('b'), source('c'), source('d')])
    expect(second.counts).toMatchObject({ found: 6, built: 1 })
  })

  it('tells texts, preludes and compilers apart', () => {
    new KernelCache(folder, compiler, prelude).get([source('a', 1)])
    const others = [
      new KernelCache(folder, compiler, `${prelude}#include <string.h>\n`),
      new KernelCache(folder, { ...compiler, fingerprint: 'another processor' }, prelude),
    ]
    for (const cache of others) cache.get([source('a', 1)])
    expect(others.map(({ counts }) => counts.built)).toEqual([1, 1])
    const same = new KernelCache(folder, compiler, prelude)
    same.get([source('a', 2)])
    expect(same.counts.built).toBe(1)
  })

  it.each([
    ['cut off', (path: string) => truncateSync(path, 1000)],
    ['changed', (path: string) => writeFileSync(path, readFileSync(path).fill(7, 200, 300))],
    ['removed', (path: string) => rmSync(path)],
  ])('builds again what was %s', (_how, damage) => {
    new KernelCache(folder, compiler, prelude).get([source('a')])
    const [library] = libraries()
    damage(join(folder, library!))
    const cache = new KernelCache(folder, compiler, prelude)
    const [built] = cache.get([source('a')])
    expect(cache.counts.built).toBe(1)
    expect(statSync(built!.library).size).toBeGreaterThan(1000)
  })

  it('builds again where an entry is half a file or points outside', () => {
    new KernelCache(folder, compiler, prelude).get([source('a')])
    const entry = join(folder, readdirSync(folder).find((name) => name.endsWith('.json'))!)
    for (const text of ['{"libra', '{"library":"../evil.so","checksum":"0"}', '[]']) {
      writeFileSync(entry, text)
      const cache = new KernelCache(folder, compiler, prelude)
      cache.get([source('a')])
      expect(cache.counts.built, text).toBe(1)
    }
  })

  it('does without the parsed prelude if that is broken', () => {
    new KernelCache(folder, compiler, prelude).get([source('a')])
    const header = readdirSync(folder).find((name) => name.startsWith('prelude-'))!
    truncateSync(join(folder, header, 'prelude.h.gch'), 100)
    const cache = new KernelCache(folder, compiler, prelude)
    expect(cache.get([source('b')])).toHaveLength(1)
  })

  it('leaves nothing half done behind', () => {
    new KernelCache(folder, compiler, prelude).get([source('a'), source('b')])
    expect(readdirSync(folder).filter((name) => name.startsWith('build-'))).toEqual([])
  })

  it('says what the compiler says', () => {
    const cache = new KernelCache(folder, compiler, prelude)
    expect(() => cache.get([{ name: 'bad', text: 'void bad(void) { nonsense; }' }])).toThrow(
      expect.objectContaining({ code: 'compiler', message: expect.stringMatching(/error.*nonsense/) as string }),
    )
    expect(readdirSync(folder).filter((name) => name.startsWith('build-'))).toEqual([])
  })

  it('serves several processes at once', async () => {
    const script = join(folder, 'build.mts')
    writeFileSync(
      script,
      `import { KernelCache } from '${process.cwd()}/src/cpu/cache.ts'
       import { findCompiler } from '${process.cwd()}/src/cpu/compiler.ts'
       const text = (name) => 'void ' + name + '(void *const *p, const int64_t *n, int64_t part) { }'
       const cache = new KernelCache('${folder}', findCompiler(), ${JSON.stringify(prelude)})
       for (let i = 0; i < 4; i++) cache.get(['a', 'b', 'c'].map((c) => ({ name: c + i, text: text(c + i) })))`,
    )
    const run = promisify(execFile)
    await Promise.all([1, 2, 3].map(() => run('node_modules/.bin/tsx', [script])))
    const cache = new KernelCache(folder, compiler, prelude)
    cache.get(
      Array.from({ length: 4 }, (_, i) => ({
        ...source(`a${i}`),
        text: `void a${i}(void *const *p, const int64_t *n, int64_t part) { }`,
      })),
    )
    expect(cache.counts).toMatchObject({ found: 4, built: 0 })
  })
})

describe('the cache folder', () => {
  it('is made for its user alone', () => {
    const path = cacheFolder({ PULLBACK_CACHE: join(folder, 'deep', 'cache') })
    expect(statSync(path).mode & 0o777).toBe(0o700)
    expect(cacheFolder({ XDG_CACHE_HOME: folder })).toBe(join(folder, 'pullback'))
  })

  it('is refused if others may write to it', () => {
    chmodSync(folder, 0o777)
    expect(() => cacheFolder({ PULLBACK_CACHE: folder })).toThrow(/other users may write/)
  })

  it('is one for this process alone where the usual one cannot be made', () => {
    writeFileSync(join(folder, 'file'), '')
    const path = cacheFolder({ XDG_CACHE_HOME: join(folder, 'file') })
    expect(statSync(path).mode & 0o777).toBe(0o700)
    rmSync(path, { recursive: true })
  })
})

describe('the compiler', () => {
  it('is the one CC names, with arguments', () => {
    expect(findCompiler({ ...process.env, CC: 'cc -pipe' })?.command).toEqual(['cc', '-pipe'])
    expect(findCompiler({ ...process.env, CC: 'no-such-compiler' })).toBeUndefined()
  })

  it('is missed without a word: there is no device then', () => {
    expect(cpuDevice({ environment: { ...process.env, CC: 'no-such-compiler' } })).toBeUndefined()
  })
})
