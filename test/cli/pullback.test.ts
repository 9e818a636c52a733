// The command `pullback` and the first example of the README.
import { describe, expect, it } from 'vitest'
import { start } from './programs.ts'

describe('pullback', () => {
  it('doctor says what is there and, with exit 1, what is missing', async () => {
    const { code, stdout } = await start('src/cli.ts', ['doctor'])
    expect(stdout).toContain(`node       ${process.version}`)
    expect(stdout).toMatch(/^ {2}reference +reference interpreter/m)
    expect(code).toBe(/^! /m.test(stdout) ? 1 : 0)
    expect(stdout.includes('missing: cpu')).toBe(/^! cpu /m.test(stdout))
  })

  it('doctor tells of each CUDA library where it is, or that it was not found, and whether CUDA can be used', async () => {
    const { stdout } = await start('src/cli.ts', ['doctor'])
    for (const library of ['driver', 'NVRTC', 'cuBLASLt', 'cuDNN'])
      expect(stdout).toMatch(new RegExp(`${library}: +\\S`))
    expect(stdout).toMatch(/CUDA can(not)? be used/)
  })

  it('knows no other command: exit 2', async () => {
    const { code, stderr } = await start('src/cli.ts', ['dance'])
    expect(code).toBe(2)
    expect(stderr).toMatch(/^usage: pullback /)
  })
})

describe('quickstart', () => {
  it('finds the line', async () => {
    expect(await start('examples/quickstart.ts', [])).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^y = 2\.000 x \+ 1\.000/) as string,
    })
  })
})
