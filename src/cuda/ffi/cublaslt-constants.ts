// Constants and layouts of cuBLASLt that the CUDA device uses, by their names in cublasLt.h less the common prefix. A test
// compares them with the headers.

/** CUDA_R_*: element types. */
export const realTypes = { '32F': 0, '64F': 1, '16F': 2, '16BF': 14, '32I': 10 } as const

/** CUBLAS_COMPUTE_*: what the products are summed in. */
export const computeTypes = { '32F': 68, '32F_PEDANTIC': 69, '32F_FAST_TF32': 77, '64F': 70 } as const

/** CUBLAS_OP_*. */
export const operations = { N: 0, T: 1 } as const

/** CUBLASLT_MATMUL_DESC_*, with the bytes of each value. */
export const matmulAttributes = {
  COMPUTE_TYPE: [0, 4],
  SCALE_TYPE: [1, 4],
  POINTER_MODE: [2, 4],
  TRANSA: [3, 4],
  TRANSB: [4, 4],
  EPILOGUE: [7, 4],
  BIAS_POINTER: [8, 8],
  BIAS_BATCH_STRIDE: [10, 8],
  EPILOGUE_AUX_POINTER: [11, 8],
  EPILOGUE_AUX_LD: [12, 8],
  BIAS_DATA_TYPE: [26, 4],
} as const

/** CUBLASLT_MATRIX_LAYOUT_*, with the bytes of each value. */
export const layoutAttributes = {
  TYPE: [0, 4],
  ORDER: [1, 4],
  ROWS: [2, 8],
  COLS: [3, 8],
  LD: [4, 8],
  BATCH_COUNT: [5, 4],
  STRIDED_BATCH_OFFSET: [6, 8],
} as const

/** CUBLASLT_ORDER_*. */
export const orders = { COL: 0, ROW: 1 } as const

/** CUBLASLT_MATMUL_PREF_*, with the bytes of each value. */
export const preferenceAttributes = {
  SEARCH_MODE: [0, 4],
  MAX_WORKSPACE_BYTES: [1, 8],
  REDUCTION_SCHEME_MASK: [3, 4],
  MIN_ALIGNMENT_A_BYTES: [5, 4],
  MIN_ALIGNMENT_B_BYTES: [6, 4],
  MIN_ALIGNMENT_C_BYTES: [7, 4],
  MIN_ALIGNMENT_D_BYTES: [8, 4],
  IMPL_MASK: [12, 8],
} as const

/** CUBLASLT_REDUCTION_SCHEME_*: how partial sums of a split product are combined, a mask. */
export const reductionSchemes = { NONE: 0, INPLACE: 1, COMPUTE_TYPE: 2, OUTPUT_TYPE: 4, MASK: 7 } as const

/** CUBLASLT_EPILOGUE_*. */
export const epilogues = { DEFAULT: 1, RELU: 2, BIAS: 4, RELU_BIAS: 6, BGRADA: 256, BGRADB: 512 } as const

/** CUBLASLT_ALGO_CONFIG_*, with the bytes of each value. */
export const algorithmAttributes = {
  ID: [0, 4],
  TILE_ID: [1, 4],
  SPLITK_NUM: [2, 4],
  REDUCTION_SCHEME: [3, 4],
  CTA_SWIZZLING: [4, 4],
  CUSTOM_OPTION: [5, 4],
  STAGES_ID: [6, 4],
  INNER_SHAPE_ID: [7, 2],
  CLUSTER_SHAPE_ID: [8, 2],
} as const

/** CUBLASLT_NUMERICAL_IMPL_FLAGS_*. */
export const numericalFlags = {
  FMA: 0x01n,
  HMMA: 0x02n,
  TENSOR_OP_MASK: 0xfen,
  ACCUMULATOR_16F: 0x100n,
  ACCUMULATOR_32F: 0x200n,
  INPUT_TF32: 0x40000n,
} as const

/** CUBLAS_STATUS_*. */
export const cublasStatuses = {
  NOT_INITIALIZED: 1,
  ALLOC_FAILED: 3,
  INVALID_VALUE: 7,
  ARCH_MISMATCH: 8,
  NOT_SUPPORTED: 15,
} as const

/** cublasLtMatmulAlgo_t, in bytes. */
export const algorithmBytes = 64

/** cublasLtMatmulHeuristicResult_t: its bytes, and where its fields lie. */
export const heuristicResult = { bytes: 96, algo: 0, workspaceSize: 64, state: 72, wavesCount: 76 } as const
