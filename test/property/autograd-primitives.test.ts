// The laws of the vjp rules, one primitive at a time, in f64 on the reference device: difference quotients of first and
// second order, <J u, v> = <u, J' v> (both in checkGrads), and a derivative of zero where the table says zero.
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { checkGrads } from '../../src/autograd/check-grads.ts'
import { verifyPrograms } from '../../src/autograd/trace.ts'
import { vjp } from '../../src/autograd/vjp.ts'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'
import { onesLike } from '../../src/tensor/ops/index.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import { runs } from '../runs.ts'
import { type Case, lawList } from '../support/primitive-cases.ts'

beforeAll(() => {
  setDefaultDevice(referenceDevice())
  verifyPrograms(true)
})

const shown = (cases: fc.Arbitrary<Case>): fc.Arbitrary<Case> =>
  cases.map((one) => ({ ...one, [fc.toStringMethod]: () => one.show }))

const byDifferences = lawList.filter(([, law]) => law.derivative === 'differences')
const byZero = lawList.filter(([, law]) => law.derivative === 'zero')

describe('vjp rules', () => {
  test.each(byDifferences)('%s agrees with differences, first and second order', async (_primitive, { cases }) => {
    const property = fc.asyncProperty(shown(cases), async ({ f, operands }) => {
      await checkGrads(f, operands(), { order: 2 })
    })
    await fc.assert(property, { numRuns: runs(12) })
  })

  test.each(byZero)('%s has a derivative of exactly zero', async (_primitive, { cases }) => {
    const property = fc.asyncProperty(shown(cases), async ({ f, operands }) => {
      const [outputs, pullback] = vjp(f, ...operands())
      const elements = await Promise.all(pullback(outputs.map(onesLike)).map((g) => g.data()))
      for (const list of elements) expect([...list].every((g) => g === 0)).toBe(true)
    })
    await fc.assert(property, { numRuns: runs(5) })
  })
})
