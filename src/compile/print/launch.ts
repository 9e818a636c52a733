// What printing a kernel gives: C functions, what to call them with, and how often. A device compiles the texts, owns the
// memory and spreads the parts.

/** One printed function. Equal names mean equal texts: the name is made from the text's hash. */
export interface PrintedSource {
  readonly name: string
  readonly text: string
}

/** An operand of the step (its inputs first, then its outputs), or bytes of the step's scratch memory. */
export type PlainPointer =
  | { readonly kind: 'operand'; readonly index: number }
  | { readonly kind: 'scratch'; readonly offset: number }

/** The same, or bytes of the counters by which the blocks of a launch know who is the last. */
export type PrintedPointer = PlainPointer | { readonly kind: 'counters'; readonly offset: number }

/** One launch: the function runs once for every part from 0 to parts - 1, in any order and concurrently. */
export interface PrintedLaunch<Pointer = PrintedPointer> {
  readonly source: PrintedSource
  /** Depends on extents only, so that the same bits come from any number of threads. */
  readonly parts: number
  readonly pointers: readonly Pointer[]
  /** Extents, strides, offsets, chunk sizes and constants, in the order in which the text names them. */
  readonly numbers: readonly number[]
}

/** The launches of one kernel, in order, each waiting for the one before. */
export interface PrintedKernel<Pointer = PrintedPointer> {
  readonly launches: readonly PrintedLaunch<Pointer>[]
  readonly scratchBytes: number
  /** Bytes that are zero before a launch, and again behind it; 0 unless said. */
  readonly counterBytes?: number
}
