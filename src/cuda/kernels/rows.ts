// Chains of row-wise steps as one kernel: products of 16-bit types on Tensor Cores and the pointwise steps around them, such as
// the squeeze and excitation of a block. What is understood of a chain is rows-plan.ts's part; the choice is the tuner's.
//
// What a block of 8 rows costs, for C channels reduced to R: it reads both matrices, 4 C R bytes, from the second cache, each
// once, and values inside the chain never leave the multiprocessor. At 256 rows:
//
//   C, R       8 rows: blocks, MB of matrices in all    16 rows              what one multiprocessor takes in
//   256, 16    32, 0.5                                  16, 0.25             16 KB
//   1024, 64   32, 8                                    16, 4                256 KB
//   2048, 128  32, 32                                   16, 16               1 MB
//
// One wave each way, and the last column, which is what the kernel waits for, is the same: more rows a block only make the
// pointwise steps longer. Fewer blocks would pay off where matrices of all blocks together fill the second cache's lanes.
import { Lines } from '../../compile/print/lines.ts'
import { nameOf } from '../../compile/print/name.ts'
import { Numbers } from '../../compile/print/numbers.ts'
import { bytesOf } from '../../tensor/dtype.ts'
import { at, range } from '../../tensor/shape.ts'
import { warpPrelude } from '../prelude-warps.ts'
import type { RowChain } from '../row-chain.ts'
import type { Candidate } from '../work.ts'
import { ceilDiv, operand } from './launch.ts'
import { type RowsScope, printMap } from './rows-map.ts'
import { type DotStep, type RowStep, type RowValue, type RowsPlan, type SharedPlace, planRows } from './rows-plan.ts'
import { blockRows, rowThreads, rowsText } from './rows-text.ts'

/** Bytes that a launch's argument may have on every GPU and driver. */
const mostArgumentBytes = 4096

/**
 * A chain as one launch; operands are the chain's inputs, then its outputs, aligned to 16 bytes. Products are of f16 or bf16
 * with a matrix that comes from outside of the chain, with f32 sums in an order that extents alone decide, rounded once to the
 * product's dtype (f32 stays); pointwise steps have the bits of their own kernels. The same input gives the same bits.
 * Undefined for every chain that is not understood, or whose rows do not fit into shared memory.
 */
export function rowsCandidate(chain: RowChain): Candidate | undefined {
  const plan = planRows(chain)
  if (plan === undefined) return undefined
  const pointers = range(chain.inputs.length + chain.outputs.length).map(operand)
  const blocks = ceilDiv(plan.rows, blockRows)
  const { body, numbers } = printBody(plan, blocks)
  if (8 * (pointers.length + numbers.length) > mostArgumentBytes || blocks >= 2 ** 31) return undefined
  const source = nameOf('pb_rows', (symbol) => {
    const head = `PB_KERNEL_SHARING(${symbol}, ${pointers.length}, ${numbers.length}, ${rowThreads}, 1)`
    return [warpPrelude, rowsText, `${head} {\n${body}}\n`].join('')
  })
  const { sharedBytes } = plan
  const launch = { kind: 'kernel', source, blocks, threads: rowThreads, sharedBytes, pointers, numbers } as const
  return { id: 'own:rows', works: [launch], scratchBytes: 0 }
}

function printBody(plan: RowsPlan, blocks: number): { readonly body: string; readonly numbers: readonly number[] } {
  const { values, steps, rows } = plan
  const scope: RowsScope = { lines: new Lines(), numbers: new Numbers(), values }
  const { lines, numbers } = scope
  const rowsName = numbers.add('rows', rows)
  lines.add(`const pb_rows_place place = {(int64_t)pb_block() * ${blockRows}, ${rowsName}};`)
  const blocksName = numbers.add('blocks', blocks)
  printOpening(scope, steps, 0)
  for (const step of steps)
    if (step.kind === 'dot') {
      const elements = numbers.add('elements', step.n * step.k)
      lines.add(`pb_rows_ahead(a.p[${step.matrix}], ${elements}, (int)${blocksName});`)
    }
  steps.forEach((step, i) => {
    if (i > 0) lines.add('pb_barrier();')
    printStep(scope, step, i)
    if (step.kind === 'dot') printOpening(scope, steps, i + 1)
  })
  const declarations = numbers.declarations().map((line) => `  ${line}\n`)
  return {
    body: ['  const int64_t *const n = a.n;\n', ...declarations, lines.toString()].join(''),
    numbers: numbers.values,
  }
}

/** Asks for the beginning of the next matrix, so that it is there when the steps before its product are done. */
function printOpening({ lines, numbers }: RowsScope, steps: readonly RowStep[], from: number): void {
  const index = steps.findIndex((step, i) => i >= from && step.kind === 'dot')
  const step = steps[index]
  if (step?.kind !== 'dot') return
  const { n, k, shares, size, matrix } = step
  const extents = Object.entries({ matrix_columns: n, depth: k, shares, size }).map(
    ([name, value]) => `(int)${numbers.add(name, value)}`,
  )
  lines.add(`const pb_rows_extents e${index} = {${extents.join(', ')}};`)
  lines.add(`uint32_t w${index}[8][4];`)
  lines.add(`pb_rows_open<${layoutOf(step)}>(w${index}, a.p[${matrix}], e${index});`)
}

function printStep(scope: RowsScope, step: RowStep, index: number): void {
  const { lines, values } = scope
  switch (step.kind) {
    case 'stage':
    case 'keep': {
      const value = at(values, step.value)
      const columns = scope.numbers.add('value_columns', value.columns)
      const target = `a.p[${value.operand}], (int)${columns}, place`
      lines.add(`pb_rows_${step.kind}<pb_${value.dtype}, ${isWide(value)}>(${placeOf(scope, value)}, ${target});`)
      break
    }
    case 'dot':
      printDot(scope, step, index)
      break
    case 'map':
      printMap(scope, step)
      break
    default:
      step satisfies never
  }
  for (const value of made(step)) printClearing(scope, at(values, value))
}

function printDot(scope: RowsScope, step: DotStep, index: number): void {
  const { values, numbers } = scope
  const [from, to] = [at(values, step.from), at(values, step.to)]
  const types = `pb_${from.dtype}, pb_${to.dtype}, ${layoutOf(step)}`
  const partial = `(int)${numbers.add('partial', step.partial)}`
  const shared = [placeOf(scope, from), partial, placeOf(scope, to)].join(', ')
  scope.lines.add(`pb_rows_dot<${types}>(w${index}, a.p[${step.matrix}], e${index}, ${shared});`)
}

/** What is behind the last column of a value that a product reads. */
function printClearing(scope: RowsScope, value: RowValue): void {
  if (!value.multiplied) return
  const columns = `(int)${scope.numbers.add('value_columns', value.columns)}`
  scope.lines.add(`pb_rows_clear(${placeOf(scope, value)}, ${columns});`)
}

function made(step: RowStep): readonly number[] {
  if (step.kind === 'map') return step.outputs
  return step.kind === 'stage' ? [step.value] : step.kind === 'dot' ? [step.to] : []
}

/** Whether the matrix is deep, and whether its rows begin at multiples of 16 bytes. */
function layoutOf({ deep, n, k }: DotStep): string {
  return `${deep}, ${(deep ? k : n) % 8 === 0}`
}

function isWide({ dtype, columns }: RowValue): boolean {
  return (columns * bytesOf(dtype)) % 16 === 0
}

/** A value's place in shared memory, as two arguments. */
function placeOf({ numbers }: RowsScope, { place }: RowValue): string {
  const { offset, pitch }: SharedPlace = place ?? { offset: 0, pitch: 0 }
  if (place === undefined) throw new RangeError('internal: a value without a place in shared memory')
  return `(int)${numbers.add('shared_offset', offset)}, (int)${numbers.add('shared_pitch', pitch)}`
}
