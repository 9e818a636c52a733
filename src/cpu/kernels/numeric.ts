// How an element type is stored and computed in the printed C; the functions it names are those of prelude.ts.
import type { FloatDType } from '../../tensor/dtype.ts'

/** The C side of an element type: 16-bit types compute in float, f64 in double. */
export interface Numeric {
  readonly dtype: FloatDType
  /** C type in memory. */
  readonly storage: 'float' | 'uint16_t' | 'double'
  /** C type of accumulators and packed operands. */
  readonly compute: 'float' | 'double'
  /** The 32-byte vector of `compute`, and how many elements it has. */
  readonly vector: 'pb_f32x8' | 'pb_f64x4'
  readonly lanes: 8 | 4
  /** Columns of a packed panel: 64 bytes of `compute`. */
  readonly panel: 16 | 8
  readonly storageBytes: 2 | 4 | 8
  readonly computeBytes: 4 | 8
}

const single = { compute: 'float', vector: 'pb_f32x8', lanes: 8, panel: 16, computeBytes: 4 } as const

const table: Readonly<Record<FloatDType, Numeric>> = {
  f32: { dtype: 'f32', storage: 'float', storageBytes: 4, ...single },
  f16: { dtype: 'f16', storage: 'uint16_t', storageBytes: 2, ...single },
  bf16: { dtype: 'bf16', storage: 'uint16_t', storageBytes: 2, ...single },
  f64: {
    dtype: 'f64',
    storage: 'double',
    storageBytes: 8,
    compute: 'double',
    vector: 'pb_f64x4',
    lanes: 4,
    panel: 8,
    computeBytes: 8,
  },
}

/** The C side of an element type. */
export function numericOf(dtype: FloatDType): Numeric {
  return table[dtype]
}
