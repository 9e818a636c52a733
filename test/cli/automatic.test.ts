// What is used where nobody chose a device: a GPU where all it needs is there, else the CPU and one line that says why.
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { buildMilliseconds, simulation } from '../sim/library.ts'
import { start } from './programs.ts'

let folder = ''
let environment: Readonly<Record<string, string>> = {}
beforeAll(async () => {
  ;({ environment } = await simulation())
  folder = await mkdtemp(join(tmpdir(), 'pullback-automatic-'))
}, buildMilliseconds)
afterAll(() => rm(folder, { recursive: true, force: true }))

const answer = { code: 0, stdout: expect.stringMatching(/^y = 2\.000 x \+ 1\.000[^\n]*\n$/) as string }

it('a GPU with all that it needs', { timeout: 60_000 }, async () => {
  const more = { PULLBACK_CACHE: join(folder, 'cache'), PULLBACK_LOG: 'info' }
  const { stderr, ...ended } = await start('examples/quickstart.ts', [], { environment: { ...environment, ...more } })
  expect(ended).toEqual(answer)
  expect(stderr).toMatch(/^\[device\] cuda:0: /m)
})

it('the CPU where a library is broken, and one line at the usual level that names it', {
  timeout: 60_000,
}, async () => {
  const broken = join(folder, 'broken')
  await symlinks(environment['PULLBACK_CUDA_PATH'] ?? '', broken, 'libcudnn.so.9')
  const { stderr, ...ended } = await start('examples/quickstart.ts', [], {
    environment: { ...environment, PULLBACK_CUDA_PATH: broken },
  })
  expect(ended).toEqual(answer)
  expect(stderr).toMatch(/^\[device\] no GPU is used: [^\n]*libcudnn[^\n]*\n$/)
  expect(stderr).toContain(broken)
})

/** A folder like another, in which one file is empty. */
async function symlinks(from: string, to: string, empty: string): Promise<void> {
  await mkdir(to)
  for (const name of await readdir(from))
    if (name === empty) await writeFile(join(to, name), '')
    else await symlink(join(from, name), join(to, name))
}
