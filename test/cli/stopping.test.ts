// Two signals in a row: the first lets the step in progress end, the second ends the process at once.
import { describe, expect, it } from 'vitest'
import { findCompiler } from '../../src/cpu/compiler.ts'
import { start } from './programs.ts'

const compiled = findCompiler() !== undefined
if (!compiled) console.warn('no C compiler found: what a second signal does to native work is not tested')

describe('a second signal', () => {
  it.runIf(compiled).each([
    ['SIGINT', 'SIGINT', 130],
    ['SIGTERM', 'SIGINT', 130],
    ['SIGINT', 'SIGTERM', 143],
  ] as const)('%s, %s: exits %d in the middle of native work', { timeout: 60_000 }, async (first, second, code) => {
    const send = [
      { signal: first, when: /queued/ },
      { signal: second, when: /finishing/ },
    ]
    const { stdout, ...ended } = await start('test/cli/toy-busy.ts', [], { send })
    expect(ended).toEqual({ code, stderr: '' })
    expect(stdout).toBe(`queued\n${first}: finishing\n`)
  })
})
