// What the files of the simulated cuBLASLt share: descriptors and algorithms. cublaslt.cpp is the entry points,
// cublaslt-algorithms.cpp what fits a problem, cublaslt-matmul.cpp the product.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "cudnn-numbers.h"

namespace simblas {

enum Status : int {
  SUCCESS = 0,
  NOT_INITIALIZED = 1,
  ALLOC_FAILED = 3,
  INVALID_VALUE = 7,
  ARCH_MISMATCH = 8,
  EXECUTION_FAILED = 13,
  INTERNAL_ERROR = 14,
  NOT_SUPPORTED = 15,
};

/** CUDA_R_*. */
enum Real : int { R_32F = 0, R_64F = 1, R_16F = 2, R_32I = 10, R_16BF = 14 };
/** CUBLAS_COMPUTE_*. */
enum Compute : int { COMPUTE_32F = 68, COMPUTE_32F_PEDANTIC = 69, COMPUTE_64F = 70, COMPUTE_32F_FAST_TF32 = 77 };
enum Epilogue : int { EPILOGUE_DEFAULT = 1, EPILOGUE_RELU = 2, EPILOGUE_BIAS = 4, EPILOGUE_RELU_BIAS = 6 };
/** CUBLASLT_REDUCTION_SCHEME_*. */
enum Scheme : int { SCHEME_NONE = 0, SCHEME_INPLACE = 1, SCHEME_COMPUTE_TYPE = 2, SCHEME_OUTPUT_TYPE = 4 };

struct Matmul {
  int32_t compute = COMPUTE_32F, scale = R_32F, pointer_mode = 0, transpose_a = 0, transpose_b = 0,
          epilogue = EPILOGUE_DEFAULT;
  int32_t bias_type = -1;
  int64_t bias = 0, bias_stride = 0, auxiliary = 0, auxiliary_leading = 0;
};

struct Layout {
  int32_t type = 0, order = 0, batch = 1;
  int64_t rows = 0, columns = 0, leading = 0, batch_stride = 0;

  /** Elements from the first to the end of the last one of all batches. */
  int64_t extent() const;
};

struct Preference {
  int32_t search = 0;
  int64_t workspace = 0;
  uint32_t schemes = 7, alignment_a = 256, alignment_b = 256, alignment_c = 256, alignment_d = 256;
  uint64_t implementations = ~uint64_t(0);
};

struct Problem {
  Matmul matmul;
  Layout a, b, c, d;

  int64_t m() const { return d.rows; }
  int64_t n() const { return d.columns; }
  int64_t k() const { return matmul.transpose_a ? a.rows : a.columns; }
  int64_t batch() const { return d.batch; }
};

/** The 64 bytes of cublasLtMatmulAlgo_t as this simulation writes them. `seal` is over all the others. */
struct Algorithm {
  uint32_t magic = 0;
  int32_t id = 0, tile = 0, stages = 0, split = 1, scheme = 0, swizzle = 0, custom = 0;
  uint16_t inner = 0, cluster = 0;
  /** What it is good for: the types and the alignment that vector access needs. */
  int32_t type = 0, compute = 0, alignment = 0, transposes = 0;
  uint32_t reserved[2] = {};
  uint32_t seal = 0;
};
static_assert(sizeof(Algorithm) == 64, "cublasLtMatmulAlgo_t has 64 bytes");

simnum::Type number_type(int type);
bool known_type(int type);

/** Whether a problem can be asked for: 0, INVALID_VALUE, or NOT_SUPPORTED. */
int check_problem(const Problem &problem);
/** Algorithms for a problem within a preference, best first. */
std::vector<Algorithm> propose(const Problem &problem, const Preference &preference);
/** Whether bytes that came back are an algorithm for this problem. */
int check_algorithm(const Problem &problem, const Algorithm &algorithm);
int64_t workspace_of(const Problem &problem, const Algorithm &algorithm);
float waves_of(const Problem &problem, const Algorithm &algorithm);
double microseconds_of(const Problem &problem, const Algorithm &algorithm);

/** Addresses and factors of one product. */
struct Operands {
  double alpha, beta;
  const void *a, *b, *c;
  void *d;
};

/** d = epilogue(alpha op(a) op(b) + beta c), summed in f64 in ascending order and rounded once. */
void multiply(const Problem &problem, const Algorithm &algorithm, const Operands &operands, uint64_t run);

/** Checks a product and puts it on a stream. `workspace_bytes` is what the caller has. */
int launch(const Problem &problem, const Algorithm &algorithm, const Operands &operands, void *workspace,
           int64_t workspace_bytes, void *stream);

} // namespace simblas
