// PTX stands in the prelude and nowhere else, so that each piece of it has a second body in C++ beside it.
import { readFileSync, readdirSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const source = fileURLToPath(new URL('../../src', import.meta.url))

test('only the prelude has inline assembly', () => {
  const files = ['cuda', 'compile'].flatMap((folder) =>
    readdirSync(join(source, folder), { recursive: true, encoding: 'utf8' }).map((name) => join(source, folder, name)),
  )
  const withAssembly = files.filter((file) => file.endsWith('.ts') && /\basm\b/.test(readFileSync(file, 'utf8')))
  expect(withAssembly.length).toBeGreaterThan(1)
  expect(withAssembly.map((file) => basename(file)).filter((name) => !name.startsWith('prelude'))).toEqual([])
})
