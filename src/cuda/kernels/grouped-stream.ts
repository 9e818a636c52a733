// CUDA C of what the three directions of a grouped convolution share: which strips of the image a block takes, and how rows
// get from device memory into a ring of stages in shared memory. What is done with the rows is grouped-rows.ts's part and
// grouped-filter.ts's.

/**
 * The numbers of a launch, in this order. Units are what a warp computes together: target pixels, or for the input gradient
 * of stride 2 squares of four of them. A tile is `octets` times 8 columns of as many images as fill the block; a strip is the
 * rows of a band of a tile, through which a block walks from the top; block b takes the 64 channels b % slabs of the strips
 * b / slabs, and of every \`step\`th after it.
 */
export const extentNames = [
  'images',
  'channels',
  'source_height',
  'source_width',
  'target_height',
  'target_width',
  'unit_height',
  'unit_width',
  'octets',
  'rows',
  'bands',
  'tiles',
  'strips',
  'step',
] as const

const extents = `
struct pb_extents { int ${extentNames.join(', ')}; };
PB_INLINE pb_extents pb_extents_of(const int64_t *n) {
  return {${extentNames.map((_, i) => `(int)n[${i}]`).join(', ')}};
}
struct pb_strip { int image, row, column, rows; };
/* A strip of tiles with \`images\` images: its first image, its first unit, its number of units from top to bottom. */
PB_INLINE pb_strip pb_strip_of(const pb_extents &e, int index, int images) {
  const int band = index / e.tiles, group = band / e.bands, row = band % e.bands * e.rows;
  return {group * images, row, index % e.tiles * 8 * e.octets, PB_MIN(e.rows, e.unit_height - row)};
}
`

/**
 * A stream of rows: its stages hold `ROWS` rows of a tile's columns (`span` for each image), 128 bytes (64 channels) for
 * each column. Its 16-byte chunks are exchanged by the column's last three bits, so that eight neighbouring columns' same
 * chunks lie in different banks; where every second column is wanted at a time (SPLIT), the even columns come first.
 * A unit's columns begin at SCALE times its own, minus LEFT.
 */
const stream = `
template <bool SPLIT> PB_INLINE int pb_column_place(int column, int octets) {
  return SPLIT ? (column & 1 ? 8 * octets + 1 : 0) + column / 2 : column;
}
/* Where in a row of a stage the chunk of a column lies, in bytes. */
PB_INLINE int pb_chunk_place(int column, int chunk) { return column * 128 + ((chunk ^ (column & 7)) << 4); }
template <int PIECES, int ROWS, int SCALE, int LEFT, bool SPLIT, int THREADS> struct pb_stream {
  int64_t from[PIECES];
  int into[PIECES], image[PIECES], column[PIECES];
  uint32_t inside;
  int row, limit;
};
template <int PIECES, int ROWS, int SCALE, int LEFT, bool SPLIT, int THREADS>
PB_INLINE void pb_stream_open(pb_stream<PIECES, ROWS, SCALE, LEFT, SPLIT, THREADS> &s, int images, int span, int octets) {
  const int chunk = pb_thread() & 7;
  PB_UNROLL
  for (int i = 0; i < PIECES; ++i) {
    const int item = (int)(pb_thread() >> 3) + i * (THREADS / 8), image = item / span, column = item % span;
    s.image[i] = image;
    s.column[i] = column - LEFT;
    s.into[i] = image < images ? pb_chunk_place(image * span + pb_column_place<SPLIT>(column, octets), chunk) : -1;
  }
}
/* The rows of a strip come next, those at \`limit\` and further as zeros. */
template <int PIECES, int ROWS, int SCALE, int LEFT, bool SPLIT, int THREADS>
PB_INLINE void pb_stream_begin(pb_stream<PIECES, ROWS, SCALE, LEFT, SPLIT, THREADS> &s, const pb_extents &e, const pb_strip &strip,
    int height, int width, int channel, int limit) {
  s.row = strip.row * SCALE - LEFT;
  s.limit = PB_MIN(limit, height);
  s.inside = 0;
  const int own = channel + (pb_thread() & 7) * 8;
  PB_UNROLL
  for (int i = 0; i < PIECES; ++i) {
    const int image = strip.image + s.image[i], column = strip.column * SCALE + s.column[i];
    if (image < e.images && column >= 0 && column < width && own < e.channels) s.inside |= 1u << i;
    s.from[i] = (((int64_t)image * height + s.row) * width + column) * e.channels + own;
  }
}
/* Asks for one stage, whose rows are \`pitch\` bytes apart in shared memory. */
template <int PIECES, int ROWS, int SCALE, int LEFT, bool SPLIT, int THREADS>
PB_INLINE void pb_stream_copy(pb_stream<PIECES, ROWS, SCALE, LEFT, SPLIT, THREADS> &s, const uint16_t *source, uint8_t *stage,
    int pitch, int64_t row_elements) {
  PB_UNROLL
  for (int i = 0; i < PIECES; ++i) {
    PB_UNROLL
    for (int r = 0; r < ROWS; ++r) {
      const bool inside = (s.inside >> i & 1u) && s.row + r >= 0 && s.row + r < s.limit;
      if (s.into[i] >= 0) pb_async_copy_16(stage + r * pitch + s.into[i], inside ? source + s.from[i] : source, inside);
      s.from[i] += row_elements;
    }
  }
  s.row += ROWS;
}
`

/** Goes behind the warp prelude; more than once is as good as once. */
export const streamText: string = `#ifndef PB_GROUPED_STREAM
#define PB_GROUPED_STREAM
${extents}${stream}#endif
`
