// What a lowered contraction is: a short list of launches of printed C kernels, and the scratch memory they share.
// Compiling the sources, owning the memory and spreading the parts over threads is left to the runtime.

/** One C function, `void name(void *const *p, const int64_t *n, int64_t part)`. Equal names mean equal texts. */
export interface KernelSource {
  readonly name: string
  readonly text: string
}

/** An operand of the step by its place (inputs first, then the output), or a region of its scratch memory in bytes. */
export type PointerRef =
  | { readonly kind: 'operand'; readonly index: number }
  | { readonly kind: 'scratch'; readonly offset: number }

/**
 * One launch: `source` is called once for every part in 0..parts-1, in any order and on any threads.
 *
 * `parts` depends on extents alone, never on the number of cores, so that every machine gives the same bits.
 */
export interface Launch {
  readonly source: KernelSource
  readonly parts: number
  readonly pointers: readonly PointerRef[]
  readonly numbers: readonly number[]
}

/** The launches of one step, in order, with a barrier between them. Scratch begins on a 64-byte boundary. */
export interface Lowered {
  readonly launches: readonly Launch[]
  readonly scratchBytes: number
}

/** The operand at a place. */
export function operand(index: number): PointerRef {
  return { kind: 'operand', index }
}

/** Hands out scratch regions one behind the other, each on a 64-byte boundary. */
export class Scratch {
  #bytes = 0

  /** Reserves a region. */
  take(bytes: number): PointerRef {
    const offset = this.#bytes
    this.#bytes += Math.ceil(bytes / 64) * 64
    return { kind: 'scratch', offset }
  }

  /** All that was reserved. */
  get bytes(): number {
    return this.#bytes
  }
}

/** The integer quotient rounded up. */
export function ceilDiv(a: number, b: number): number {
  return Math.ceil(a / b)
}

/** The C lines that name a kernel's int64 arguments `n[0], n[1], ...`; what follows them is a table at `n + names.length`. */
export function printArguments(names: readonly string[]): string {
  return names.map((name, index) => `const int64_t ${name} = n[${index}]; (void)${name};`).join('\n  ')
}

/** The values for `printArguments` in the same order. */
export function listArguments<Name extends string>(
  names: readonly Name[],
  values: Readonly<Record<Name, number>>,
): number[] {
  return names.map((name) => values[name])
}
