// The part of a C kernel inside of a tile: values hoisted out of the columns, and the loop of vectors over the columns with
// its tail. Tiles and reductions are c.ts's part.
import { at } from '../../tensor/shape.ts'
import type { Kernel, KernelNode } from '../kernel.ts'
import { type RegisterClass, classOf, printCast, printConstant, printExpression } from './expression.ts'
import { type Level, type Levels, closure } from './levels.ts'
import type { Lines } from './lines.ts'
import type { Nest, Placed } from './nest.ts'
import type { Numbers } from './numbers.ts'

/** Lanes of a register in C. */
export const lanes = 8

export const storageTypes = {
  f32: 'float',
  f16: 'uint16_t',
  bf16: 'uint16_t',
  f64: 'double',
  i32: 'int32_t',
  u8: 'uint8_t',
  bool: 'uint8_t',
} as const

export const registerTypes: Readonly<Record<RegisterClass, string>> = { f: 'pbv_f', d: 'pbv_d', i: 'pbv_i', b: 'pbv_b' }

/** What a buffer of a register class is made of. */
export const elementTypes: Readonly<Record<RegisterClass, string>> = {
  f: 'float',
  d: 'double',
  i: 'int32_t',
  b: 'int32_t',
}

/** An access with the names of its strides in the text. */
export interface Named {
  readonly name: string
  readonly placed: Placed
  readonly offset: string
  readonly map: readonly string[]
  readonly reduce: readonly string[]
  /** '' where the stride is 0. */
  readonly row: string
  readonly column: string
  /** '' where the access does not begin again. */
  readonly period: string
}

/** All that printing a kernel's body refers to. */
export interface Scope {
  readonly kernel: Kernel
  readonly nest: Nest
  readonly levels: Levels
  readonly numbers: Numbers
  readonly lines: Lines
  readonly inputs: readonly Named[]
  readonly nodes: readonly (Named | undefined)[]
  readonly stores: readonly Named[]
  readonly reductions: readonly Named[]
}

/** How far the columns loop is: whole vectors, or the m elements left. */
export type Span = 'whole' | 'rest'

/** Declares every node of a level that is the same for all columns. */
export function printHoisted(scope: Scope, level: Exclude<Level, 'point' | 'column'>): void {
  scope.kernel.nodes.forEach((node, index) => {
    if (scope.levels.of[index] === level) declare(scope, index, node, 'whole')
  })
}

/** Fills the buffers of what is dear and the same for all rows. */
export function printBuffers(scope: Scope, capacity: number): void {
  const { buffered } = scope.levels
  if (buffered.size === 0) return
  for (const index of buffered) {
    const type = elementTypes[classOf(at(scope.kernel.nodes, index).dtype)]
    scope.lines.add(`${type} b${index}[${capacity}] __attribute__((aligned(64)));`)
  }
  const nodes = closure(scope.kernel, [...buffered], (index) => isHoisted(scope, index))
  printColumns(scope, 1, (span) => {
    for (const index of nodes) declare(scope, index, at(scope.kernel.nodes, index), span)
    for (const index of buffered)
      scope.lines.add(`pbv_poke_${classOf(at(scope.kernel.nodes, index).dtype)}(b${index} + c, v${index});`)
  })
}

/** The loop over columns with all stores, and `reduce` for the reductions. */
export function printPoints(scope: Scope, unroll: number, reduce: (span: Span) => void): void {
  const { kernel, levels, lines } = scope
  const roots = [...kernel.stores, ...kernel.reductions].map(({ node }) => node)
  const known = (index: number): boolean => isHoisted(scope, index)
  const beyond = (index: number): boolean => known(index) || levels.buffered.has(index)
  const computed = closure(kernel, roots, beyond)
  const read = [...levels.buffered].filter(
    (index) => roots.includes(index) || computed.some((user) => argsOf(at(kernel.nodes, user)).includes(index)),
  )
  printColumns(scope, unroll, (span) => {
    for (const index of read) {
      const register = classOf(at(kernel.nodes, index).dtype)
      lines.add(`const ${registerTypes[register]} v${index} = pbv_peek_${register}(b${index} + c);`)
    }
    for (const index of computed) declare(scope, index, at(kernel.nodes, index), span)
    kernel.stores.forEach(({ node, dtype }, index) => {
      const value = printCast(at(kernel.nodes, node).dtype, dtype, `v${node}`)
      lines.add(printStore(dtype, at(scope.stores, index), value, span))
    })
    reduce(span)
  })
}

/** `for` whole vectors, `unroll` at a time (the one at hand is k), then for the rest of fewer than that. */
export function printColumns({ lines }: Pick<Scope, 'lines'>, unroll: number, body: (span: Span) => void): void {
  const step = lanes * unroll
  lines.add('at = 0;')
  lines.block(`for (; at + ${step} <= cn; at += ${step})`, () => {
    if (unroll === 1) {
      lines.add('const int64_t c = at, k = 0; (void)k;')
      body('whole')
    } else {
      lines.add(`#pragma GCC unroll ${unroll}`)
      lines.block(`for (int64_t k = 0; k < ${unroll}; ++k)`, () => {
        lines.add(`const int64_t c = at + k * ${lanes};`)
        body('whole')
      })
    }
  })
  lines.block(`for (; at < cn; at += ${lanes})`, () => {
    lines.add(`const int64_t c = at, k = 0, m = PB_MIN(${lanes}, cn - at); (void)k;`)
    body('rest')
  })
}

/** Stores a register at column c of an access. */
export function printStore(dtype: keyof typeof storageTypes, to: Named, value: string, span: Span): string {
  const step = to.column === '' || to.placed.column === 1 ? '1' : to.column
  const place = step === '1' ? `${to.name} + c` : `${to.name} + c * ${step}`
  if (span === 'rest') return `pbv_scatter_part_${dtype}(${place}, ${step}, ${value}, m);`
  return step === '1' ? `pbv_store_${dtype}(${place}, ${value});` : `pbv_scatter_${dtype}(${place}, ${step}, ${value});`
}

function argsOf(node: KernelNode): readonly number[] {
  return 'args' in node ? node.args : []
}

function isHoisted({ levels }: Scope, index: number): boolean {
  return levels.of[index] === 'tile' || levels.of[index] === 'row'
}

function declare(scope: Scope, index: number, node: KernelNode, span: Span): void {
  scope.lines.add(`const ${registerTypes[classOf(node.dtype)]} v${index} = ${valueOf(scope, index, node, span)};`)
}

function valueOf(scope: Scope, index: number, node: KernelNode, span: Span): string {
  if (node.op === 'load') return printLoad(node.dtype, at(scope.inputs, node.input), span)
  if (node.op === 'constant') return printConstant(node.dtype, node.value, scope.numbers)
  const own = scope.nodes[index]
  const position =
    own === undefined
      ? undefined
      : {
          base: own.column === '' ? own.name : `${own.name} + c * ${own.column}`,
          step: own.column === '' ? '0' : own.column,
        }
  const args = argsOf(node).map((arg) => `v${arg}`)
  return printExpression(scope.kernel, node, args, position, scope.numbers)
}

function printLoad(dtype: keyof typeof storageTypes, from: Named, span: Span): string {
  if (from.column === '') return `pbv_spread_${dtype}(${from.name})`
  if (from.period !== '') return `pbv_cycle_${dtype}(${from.name}, ${from.column}, c0 + c, ${from.period})`
  const step = from.placed.column === 1 ? '1' : from.column
  const place = step === '1' ? `${from.name} + c` : `${from.name} + c * ${step}`
  if (span === 'rest') return `pbv_gather_part_${dtype}(${place}, ${step}, m)`
  return step === '1' ? `pbv_load_${dtype}(${place})` : `pbv_gather_${dtype}(${place}, ${step})`
}
