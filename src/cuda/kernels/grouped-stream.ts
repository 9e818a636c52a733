// CUDA C of what the three directions of a grouped convolution share: which part of the images a block takes, and how rows
// get from device memory into a ring of stages in shared memory. What is done with the rows is grouped-rows.ts's part and
// grouped-filter.ts's.

/**
 * The numbers of a launch, in this order. The source is the tensor whose rows reach over neighbours. Units are what a warp
 * computes together: target pixels, or for the input gradient of stride 2 squares of four. A tile is `octets` times 8 columns
 * of units of each of `tile_images` images (a group), and a strip is a band of `rows` rows of it, down which a block walks.
 * A block takes one tile, one band and 64 channels, of every `lanes`th group. A row of the ring has the tile's source
 * columns, `span` for each image, in `pitch` bytes.
 */
export const extentNames = [
  'images',
  'channels',
  'source_height',
  'source_width',
  'target_height',
  'target_width',
  'unit_height',
  'octets',
  'tile_images',
  'span',
  'pitch',
  'rows',
  'bands',
  'tiles',
  'groups',
  'lanes',
] as const

const extents = `
struct pb_extents { int ${extentNames.join(', ')}; };
PB_INLINE pb_extents pb_extents_of(const int64_t *n) {
  return {${extentNames.map((_, i) => `(int)n[${i}]`).join(', ')}};
}
/* What a block takes: its first channel, its units' first column and first row, its number of rows, its first group. */
struct pb_strip { int channel, column, row, rows, group; };
PB_INLINE pb_strip pb_strip_of(const pb_extents &e) {
  const int slabs = (e.channels + 63) / 64, b = (int)pb_block(), t = b / slabs, band = t / e.tiles, row = band % e.bands * e.rows;
  return {b % slabs * 64, t % e.tiles * 8 * e.octets, row, PB_MIN(e.rows, e.unit_height - row), band / e.bands};
}
`

/**
 * A stream of rows into the ring: 128 bytes (64 channels) for each column. A column's 16-byte chunks are exchanged by its
 * last three bits, so that eight neighbouring columns' same chunks lie in different banks; where every second column is
 * wanted at a time (SPLIT), the even columns come first. Units' columns and rows begin at SCALE times their own, minus LEFT,
 * and ROWS rows are a stage. Each thread brings the same PIECES 16-byte pieces of every row.
 */
const stream = `
template <bool SPLIT> PB_INLINE int pb_column_place(int column, int octets) {
  return SPLIT ? (column & 1 ? 8 * octets + 1 : 0) + column / 2 : column;
}
/* Where in a row of a stage the chunk of a column lies, in bytes. */
PB_INLINE int pb_chunk_place(int column, int chunk) { return column * 128 + ((chunk ^ (column & 7)) << 4); }
template <int PIECES, int ROWS, int SCALE, int LEFT, bool SPLIT> struct pb_stream {
  const uint16_t *next;
  int offset[PIECES];
  /* The image in the tile, above the place in 16 bytes; if the piece is outside the tensor 255; all ones if there is none. */
  uint32_t piece[PIECES];
};
template <int PIECES, int ROWS, int SCALE, int LEFT, bool SPLIT>
PB_INLINE void pb_stream_open(pb_stream<PIECES, ROWS, SCALE, LEFT, SPLIT> &s, const pb_extents &e, const pb_strip &strip,
    int threads, int span, int height, int width) {
  const int chunk = pb_thread() & 7;
  PB_UNROLL
  for (int i = 0; i < PIECES; ++i) {
    const int item = ((int)pb_thread() + i * threads) / 8, image = item / span, column = item % span;
    const int place = pb_chunk_place(image * span + pb_column_place<SPLIT>(column, e.octets), chunk);
    const int own = strip.column * SCALE + column - LEFT;
    const bool inside = own >= 0 && own < width && strip.channel + 8 * chunk < e.channels;
    s.piece[i] = image < e.tile_images ? (uint32_t)((inside ? image : 255) << 16 | place >> 4) : 0xffffffffu;
    s.offset[i] = (image * height * width + column - LEFT) * e.channels + 8 * chunk;
  }
}
/* The rows of a group's images come next. */
template <int PIECES, int ROWS, int SCALE, int LEFT, bool SPLIT>
PB_INLINE void pb_stream_begin(pb_stream<PIECES, ROWS, SCALE, LEFT, SPLIT> &s, const pb_extents &e, const pb_strip &strip,
    const void *tensor, int group, int height, int width) {
  const int64_t row = (int64_t)group * e.tile_images * height + strip.row * SCALE - LEFT;
  s.next = (const uint16_t *)tensor + (row * width + strip.column * SCALE) * e.channels + strip.channel;
}
/* Asks for stage \`j\` of \`images\` images; rows from \`limit\` on are zeros. */
template <int PIECES, int ROWS, int SCALE, int LEFT, bool SPLIT>
PB_INLINE void pb_stream_copy(pb_stream<PIECES, ROWS, SCALE, LEFT, SPLIT> &s, const pb_extents &e, const pb_strip &strip,
    pb_shared_address stage, int j, int images, int limit, int width) {
  PB_UNROLL
  for (int r = 0; r < ROWS; ++r) {
    const int row = (strip.row + j) * SCALE - LEFT + r, within = row >= 0 && row < limit ? PB_MIN(images, 255) : 0;
    PB_UNROLL
    for (int i = 0; i < PIECES; ++i) {
      pb_async_copy_16(stage + r * e.pitch + (s.piece[i] & 0xffffu) * 16, s.next + s.offset[i], s.piece[i] != 0xffffffffu,
        (int)(s.piece[i] >> 16) < within);
    }
    s.next += width * e.channels;
  }
}
`

/**
 * Batch norm of N channels and the ReLU behind it, each operation rounded as the plan's own kernels round theirs: in front of
 * a convolution the stream's pieces become that in place, where they are inside. What is beside the image stays zero.
 */
const affine = `
/* The mean is \`factor\` times what lies there. */
struct pb_vectors { const float *mean, *scale, *shift; float factor; };
template <int N> struct pb_affine { float mean[N], scale[N], shift[N]; };
template <class T, int N> PB_INLINE uint32_t pb_activate(const pb_affine<N> &v, int k, uint32_t pair) {
  const float low = T::wide((uint16_t)pair), high = T::wide((uint16_t)(pair >> 16));
  return pb_matrix<T>::pack(pb_positive((low - v.mean[k]) * v.scale[k] + v.shift[k]),
    pb_positive((high - v.mean[k + 1]) * v.scale[k + 1] + v.shift[k + 1]));
}
/* Those of two channels, zeros where there are none. */
template <int N> PB_INLINE void pb_affine_load(pb_affine<N> &v, int k, const pb_vectors &from, int channel, bool inside) {
  const float *const sources[3] = {from.mean, from.scale, from.shift};
  float *const places[3] = {v.mean + k, v.scale + k, v.shift + k};
  PB_UNROLL
  for (int i = 0; i < 3; ++i) {
    uint32_t w[2] = {0, 0};
    if (inside) pb_read_8(sources[i] + channel, w);
    places[i][0] = pb_float_of_bits(w[0]);
    places[i][1] = pb_float_of_bits(w[1]);
  }
  v.mean[k] *= from.factor;
  v.mean[k + 1] *= from.factor;
}
/* The eight channels of the thread's pieces. */
PB_INLINE void pb_stream_affine(pb_affine<8> &v, const pb_vectors &from, const pb_extents &e, const pb_strip &strip) {
  const int channel = strip.channel + 8 * (int)(pb_thread() & 7);
  PB_UNROLL
  for (int k = 0; k < 8; k += 2) pb_affine_load(v, k, from, channel + k, channel < e.channels);
}
/* The thread's own pieces of stage \`j\`, for which it must have waited; the parameters are those of pb_stream_copy. */
template <class T, int PIECES, int ROWS, int SCALE, int LEFT, bool SPLIT>
PB_INLINE void pb_stream_activate(const pb_stream<PIECES, ROWS, SCALE, LEFT, SPLIT> &s, const pb_extents &e, const pb_strip &strip,
    pb_shared_address stage, int j, int images, int limit, const pb_affine<8> &v) {
  PB_UNROLL
  for (int r = 0; r < ROWS; ++r) {
    const int row = (strip.row + j) * SCALE - LEFT + r, within = row >= 0 && row < limit ? PB_MIN(images, 255) : 0;
    PB_UNROLL
    for (int i = 0; i < PIECES; ++i) {
      if ((int)(s.piece[i] >> 16) >= within) continue;
      const pb_shared_address at = stage + r * e.pitch + (s.piece[i] & 0xffffu) * 16;
      uint32_t w[4];
      pb_shared_read_16(at, w);
      PB_UNROLL
      for (int k = 0; k < 4; ++k) w[k] = pb_activate<T>(v, 2 * k, w[k]);
      pb_shared_write_16(at, w);
    }
  }
}
`

/** Goes behind the warp prelude; more than once is as good as once. */
export const streamText = `#ifndef PB_GROUPED_STREAM
#define PB_GROUPED_STREAM
${extents}${stream}${affine}#endif
`
