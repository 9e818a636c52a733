// What a batch is, and what every source of batches offers; where batches come from is batches.ts and synthetic.ts.

/** Images and labels of one step, on the host. Normalisation, cast and mixing happen in the compiled step. */
export interface Batch {
  /** `[batchSize, size, size, 3]`, 8-bit RGB, row-major. */
  readonly images: Uint8Array
  /** `[batchSize]`, indices into the classes; 0 in padding rows. */
  readonly labels: Int32Array
  /** `[batchSize]`: 1 for a row that counts, 0 for padding (and for an unreadable image at evaluation). */
  readonly weights: Float32Array
  /** Rows that count: the sum of `weights`. */
  readonly count: number
  readonly batchSize: number
  /** Pixels of an image's side. */
  readonly size: number
}

/** Batches in order, made ahead of the consumer; each iteration starts anew. */
export interface BatchStream extends AsyncIterable<Batch> {
  /** How many batches an iteration gives. */
  readonly length: number
}
