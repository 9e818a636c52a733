// How own kernels become launches: their numbers by name, the width of indices, digits of a thread's number, regions of
// scratch memory. What the kernels compute is their own files' part.
import { blockThreads, type PrintedPointer } from '../../compile/print/index.ts'
import { nameOf } from '../../compile/print/name.ts'
import { type DType, bytesOf } from '../../tensor/dtype.ts'
import { InternalError } from '../../tensor/errors.ts'
import type { KernelLaunch, Lowered } from '../work.ts'

/** The C type of indices, offsets and extents in a kernel. */
export type Index = 'int32_t' | 'int64_t'

/** Threads that give every processor of a large GPU enough to do, in blocks. */
export const fullBlocks = 528

/** Nothing to do. */
export const nothing: Lowered = { works: [], scratchBytes: 0 }

/** 32 bits where every one of `extents` leaves room for a block's threads past the end. */
export function indexFor(...extents: readonly number[]): Index {
  return extents.every((extent) => extent < 2 ** 30) ? 'int32_t' : 'int64_t'
}

/** Elements that one thread moves at once: 16 bytes, less where `extent` elements do not divide into them. */
export function widthOf(dtype: DType, extent: number): number {
  return [8, 4, 2].find((width) => width * bytesOf(dtype) <= 16 && extent % width === 0) ?? 1
}

/** The integer quotient rounded up. */
export function ceilDiv(a: number, b: number): number {
  return Math.ceil(a / b)
}

/** The smallest power of two that is not below `count`. */
export function powerFrom(count: number): number {
  return 2 ** Math.max(0, Math.ceil(Math.log2(count)))
}

/** An operand of the step: its inputs first, then its output. */
export function operand(index: number): PrintedPointer {
  return { kind: 'operand', index }
}

/** Bytes of the step's scratch memory from `offset` on. */
export function scratch(offset: number): PrintedPointer {
  return { kind: 'scratch', offset }
}

/** A kernel of ours and what it is started with. */
export interface Own {
  /** What it does, as the beginning of its name: `maxPool2d_f16`. */
  readonly name: string
  readonly index: Index
  readonly blocks: number
  readonly pointers: readonly PrintedPointer[]
  /** By the names under which the text knows them, as constants of type `index`. */
  readonly numbers: Readonly<Record<string, number>>
  /** Statements; pointers are `a.p[0]`, `a.p[1]`, ... */
  readonly body: string
}

/** The launch of an own kernel. The text depends on structure alone: numbers are arguments. */
export function launchOf({ name, index, blocks, pointers, numbers, body }: Own): KernelLaunch {
  if (blocks >= 2 ** 31) throw new InternalError(`${name} in ${blocks} blocks`)
  const names = Object.keys(numbers)
  const declarations = names.map((number, i) => `  const ${index} ${number} = (${index})a.n[${i}];\n`).join('')
  const lines = body.trim().replaceAll(/\n\s*(?=\n)/g, '')
  const print = (symbol: string): string =>
    `PB_KERNEL(${symbol}, ${pointers.length}, ${names.length}) {\n${declarations}  ${lines}\n}\n`
  return {
    kind: 'kernel',
    source: nameOf(`pb_${name}`, print),
    blocks,
    threads: blockThreads,
    sharedBytes: 0,
    pointers,
    numbers: Object.values(numbers),
  }
}

/** A kernel of `threads` threads that know nothing of each other; `thread` is their number. */
export function mapLaunch(own: Omit<Own, 'blocks'>, threads: number): KernelLaunch {
  const { index, numbers, body } = own
  return launchOf({
    ...own,
    blocks: ceilDiv(threads, blockThreads),
    numbers: { ...numbers, threads },
    body: `const ${index} thread = (${index})pb_block() * ${blockThreads} + (${index})pb_thread();
  if (thread >= threads) return;
  ${body.trim()}`,
  })
}

/**
 * Declarations of the digits of a number, fastest first, each with the name of its extent; the last digit, which has no
 * extent, keeps the rest.
 */
export function printDigits(
  index: Index,
  number: string,
  digits: Readonly<Record<string, string>>,
  last: string,
): string {
  let rest = number
  const lines = Object.entries(digits).map(([name, extent]) => {
    const line = `const ${index} ${name}_rest = ${rest} / ${extent}, ${name} = ${rest} - ${name}_rest * ${extent};`
    rest = `${name}_rest`
    return line
  })
  return [...lines, `const ${index} ${last} = ${rest};`].join('\n  ')
}
