// Prints the register-blocked heart of every contraction: a tile of rows x one panel of columns, held in registers while
// it walks a block of the reduced axis. Filling its operands is left to the kernels around it.
import type { Numeric } from './numeric.ts'

/** Rows of A that every block size must divide into: the tile is 6 rows of two 32-byte vectors, or 12 of one of 64. */
export const tileRows = 12

/** Where A's element (row r, step k) lies: `r * pitch + k`, or `k * pitch + r`. */
export type Order = 'row-major' | 'step-major'

interface Tile {
  readonly rows: number
  readonly vectors: number
  readonly vector: string
  readonly lanes: number
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index)
}

function body(tile: Tile, numeric: Numeric, order: Order, pitch: number | string): string {
  const { rows, vectors, vector, lanes } = tile
  const width = rows * vectors
  const name = (r: number, v: number) => `c${r}_${v}`
  const cells = range(width).map((i) => [Math.floor(i / vectors), i % vectors] as const)
  const suffix = vector.slice(3)
  const at = (r: number) => (order === 'row-major' ? `a[${r} * ${pitch}]` : `a[${r}]`)
  const place = (r: number, v: number) => `c + ${r * numeric.panel + v * lanes}`
  const columns = range(vectors)
  return `
  ${vector} ${cells.map(([r, v]) => name(r, v)).join(', ')};
  if (first) { ${cells.map(([r, v]) => `${name(r, v)} =`).join(' ')} pb_splat_${suffix}(0); }
  else {
    ${cells.map(([r, v]) => `${name(r, v)} = pb_read_${suffix}(${place(r, v)});`).join(' ')}
  }
  #pragma GCC unroll 4
  for (int64_t k = 0; k < depth; ++k) {
    const ${vector} ${columns.map((v) => `b${v} = pb_read_${suffix}(b + ${v * lanes})`).join(', ')};
    ${vector} x;
    ${range(rows)
      .map((r) => {
        const steps = columns.map((v) => `${name(r, v)} = pb_fma_${suffix}(x, b${v}, ${name(r, v)});`)
        return `x = pb_splat_${suffix}(${at(r)}); ${steps.join(' ')}`
      })
      .join('\n    ')}
    a += ${order === 'row-major' ? '1' : String(pitch)};
    b += bPitch;
  }
  ${cells.map(([r, v]) => `pb_write_${suffix}(${place(r, v)}, ${name(r, v)});`).join(' ')}`
}

/**
 * C function `name(depth, a, b, c, first)`: c[rows][panel] (+)= sum over k of A[row][k] * b[k * bPitch + column].
 *
 * `first` starts from zero instead of from c. PB_TILE rows are computed; `pitch` and `bPitch` are compile-time constants.
 */
export function printMicrokernel(
  name: string,
  numeric: Numeric,
  order: Order,
  pitch: number | string,
  bPitch: number,
): string {
  const { compute, vector, lanes, panel } = numeric
  const wide = compute === 'float' ? 'pb_f32x16' : 'pb_f64x8'
  return `
static __attribute__((noinline)) void ${name}(int64_t depth, const ${compute} *restrict a, const ${compute} *restrict b, ${compute} *restrict c, int first) {
  enum { bPitch = ${bPitch} };
#if defined(PB_WIDE)${body({ rows: 12, vectors: 1, vector: wide, lanes: panel }, numeric, order, pitch)}
#else${body({ rows: 6, vectors: 2, vector, lanes }, numeric, order, pitch)}
#endif
}
`
}
