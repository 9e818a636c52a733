// PULLBACK_LOG in the programs: what it tells goes to stderr, so that --json stays one object.
import { expect, it } from 'vitest'
import { start } from './programs.ts'

const missing = [
  'test/cli/toy-classify.ts',
  ['--arch', 'toy', '--device', 'reference', '--image', 'no-such.jpg'],
] as const

it('info tells of devices and traces on stderr alone', async () => {
  const { code, stdout, stderr } = await start('examples/quickstart.ts', [], { environment: { PULLBACK_LOG: 'info' } })
  expect({ code, stdout }).toEqual({
    code: 0,
    stdout: expect.stringMatching(/^y = 2\.000 x \+ 1\.000[^\n]*\n$/) as string,
  })
  expect(stderr).toMatch(/^\[device\] .*\n/)
  expect(stderr).toMatch(/^\[.*\] traced \d+ equations in \d+ ms$/m)
})

it('debug adds the stack to the sentence about an error, and nothing else does', async () => {
  const usual = await start(...missing)
  expect(usual).toMatchObject({ code: 1, stderr: expect.stringMatching(/^\[data\] .*no-such\.jpg.*\n$/) as string })
  const { stderr } = await start(...missing, { environment: { PULLBACK_LOG: 'debug' } })
  expect(stderr).toContain(usual.stderr.trimEnd())
  expect(stderr).toMatch(/^ {4}at /m)
})
