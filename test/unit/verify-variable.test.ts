// PULLBACK_VERIFY: 1 checks what the compiler makes, and nothing else does. Once any value did, also 0.
import { afterEach, describe, expect, it, vi } from 'vitest'
import { compileProgram } from '../../src/compile/index.ts'
import { type Program, variable } from '../../src/tensor/program.ts'

/** A program whose equation says that it gives something else than it does. */
const x = variable({ shape: [4], dtype: 'f32' })
const y = variable({ shape: [4], dtype: 'f64' })
const wrong: Program = {
  inputs: [x],
  equations: [{ primitive: 'neg', inputs: [x], params: {}, outputs: [y] }],
  outputs: [y],
}

afterEach(() => vi.unstubAllEnvs())

describe('PULLBACK_VERIFY', () => {
  const compile = (): unknown => compileProgram(wrong, { optimize: 'none', donate: [] })

  it('checks the compiler where it is 1', () => {
    vi.stubEnv('PULLBACK_VERIFY', '1')
    expect(compile).toThrow(/should give f32\[4\], is declared as f64\[4\]/)
  })

  it.each(['', '0', 'true', undefined])('does not where it is %o', (value) => {
    vi.stubEnv('PULLBACK_VERIFY', value)
    expect(compile).not.toThrow()
  })
})
