// The tables of calls on the real libraries: what they answer is what was recorded, and so what the simulation is held to.
import { describe, expect, test } from 'vitest'
import { bindCublasLt } from '../../src/cuda/ffi/cublaslt.ts'
import { blasAnswers } from '../cuda/sequences/cublaslt.ts'
import { realLibraries } from '../cuda/sequences/real.ts'
import { type Answers, answers, malformed, recorded, wellFormed } from '../cuda/sequences/table.ts'
import { absent } from '../cuda/wheels.ts'

const libraries = realLibraries()
if (libraries === undefined) absent('the tables of descriptor calls are not played on the real libraries')
const golden = recorded<Answers>('cudnn-statuses.json')
const goldenBlas = recorded<number>('cublaslt-statuses.json')
const version = libraries?.cudnn.version()
const blasVersion = libraries && bindCublasLt(libraries.cublasLt).version()

/** Only the version that was recorded is held to it; of another one, the difference is worth reading. */
const note = (name: string, found: number | undefined, wanted: number) => {
  if (found !== undefined && found !== wanted)
    process.stderr.write(
      `skipped: ${name} ${found} is here, and ${wanted} was recorded (test/cuda/sequences/record.ts)\n`,
    )
}
note('cuDNN', version, golden.version)
note('cuBLASLt', blasVersion, goldenBlas.version)

describe.skipIf(version !== golden.version)('cuDNN', () => {
  test.each([...malformed, ...wellFormed])('$name', (sequence) => {
    if (libraries === undefined) throw new Error('no cuDNN')
    expect(answers(libraries.cudnn, sequence)).toEqual(golden.answers[sequence.name])
  })
})

test.skipIf(blasVersion !== goldenBlas.version)('cuBLASLt', () => {
  if (libraries === undefined) throw new Error('no cuBLASLt')
  expect(blasAnswers(libraries.cublasLt)).toEqual(goldenBlas.answers)
})
