// Records what the real libraries answer to the tables into test/golden/{cudnn,cublaslt}-statuses.json:
//   PULLBACK_CUDA_PATH=... npx tsx test/cuda/sequences/record.ts
import { writeFileSync } from 'node:fs'
import { bindCublasLt } from '../../../src/cuda/ffi/cublaslt.ts'
import { blasAnswers } from './cublaslt.ts'
import { realLibraries } from './real.ts'
import { answers, malformed, wellFormed } from './table.ts'

/** JSON with an answer a line. */
function record(file: string, version: number, table: Readonly<Record<string, unknown>>): void {
  const lines = Object.entries(table).map(([name, answer]) => `    ${JSON.stringify(name)}: ${JSON.stringify(answer)}`)
  const text = `{\n  "version": ${version},\n  "answers": {\n${lines.join(',\n')}\n  }\n}\n`
  writeFileSync(new URL(`../../golden/${file}`, import.meta.url), text)
  process.stdout.write(`${file}: ${lines.length} of version ${version}\n`)
}

const libraries = realLibraries()
if (libraries === undefined) throw new Error('the real libraries, or a cuda.h to make a driver of, are not found')
const { cudnn, cublasLt } = libraries
const sequences = [...malformed, ...wellFormed]
record(
  'cudnn-statuses.json',
  cudnn.version(),
  Object.fromEntries(sequences.map((sequence) => [sequence.name, answers(cudnn, sequence)])),
)
record('cublaslt-statuses.json', bindCublasLt(cublasLt).version(), blasAnswers(cublasLt))
