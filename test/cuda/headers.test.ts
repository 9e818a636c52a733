// The bindings against NVIDIA's headers: constants and layouts by a C file of static assertions, prototypes by a C++ file
// that compares every parameter's kind. A compiler error is a wrong binding.
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import * as blas from '../../src/cuda/ffi/cublaslt-constants.ts'
import { bindCublasLt } from '../../src/cuda/ffi/cublaslt.ts'
import * as dnn from '../../src/cuda/ffi/cudnn-constants.ts'
import { bindCudnn } from '../../src/cuda/ffi/cudnn.ts'
import * as drv from '../../src/cuda/ffi/driver-constants.ts'
import { bindDriver } from '../../src/cuda/ffi/driver.ts'
import type { NativeType } from '../../src/cuda/ffi/loader.ts'
import { bindNvrtc, nvrtcErrors } from '../../src/cuda/ffi/nvrtc.ts'
import { type Bound, fakeNative } from './fakes.ts'
import { absent, headerFolders } from './wheels.ts'

type Value = number | bigint | readonly [number, number]

const tables: readonly (readonly [prefix: string, table: Readonly<Record<string, Value>>, suffix?: string])[] = [
  ['CU_DEVICE_ATTRIBUTE_', drv.deviceAttributes],
  ['CU_FUNC_ATTRIBUTE_', drv.functionAttributes],
  ['CUDA_ERROR_', drv.driverErrors],
  ['CU_', drv.driverFlags],
  ['NVRTC_ERROR_', nvrtcErrors],
  ['CUDA_R_', blas.realTypes],
  ['CUBLAS_COMPUTE_', blas.computeTypes],
  ['CUBLAS_OP_', blas.operations],
  ['CUBLASLT_MATMUL_DESC_', blas.matmulAttributes],
  ['CUBLASLT_MATRIX_LAYOUT_', blas.layoutAttributes],
  ['CUBLASLT_ORDER_', blas.orders],
  ['CUBLASLT_MATMUL_PREF_', blas.preferenceAttributes],
  ['CUBLASLT_REDUCTION_SCHEME_', blas.reductionSchemes],
  ['CUBLASLT_EPILOGUE_', blas.epilogues],
  ['CUBLASLT_ALGO_CONFIG_', blas.algorithmAttributes],
  ['CUBLASLT_NUMERICAL_IMPL_FLAGS_', blas.numericalFlags],
  ['CUBLAS_STATUS_', blas.cublasStatuses],
  ['CUDNN_BACKEND_', dnn.descriptorTypes, '_DESCRIPTOR'],
  ['CUDNN_ATTR_', dnn.attributes],
  ['CUDNN_TYPE_', dnn.attributeTypes],
  ['CUDNN_DATA_', dnn.dataTypes],
  ['CUDNN_POINTWISE_', dnn.pointwiseModes],
  ['CUDNN_', dnn.convolutionModes],
  ['CUDNN_REDUCE_TENSOR_', dnn.reductions],
  ['CUDNN_GENSTATS_', dnn.statisticsModes],
  ['CUDNN_HEUR_MODE_', dnn.heuristicModes],
  ['CUDNN_NUMERICAL_NOTE_', dnn.numericalNotes],
  ['CUDNN_BEHAVIOR_NOTE_', dnn.behaviorNotes],
  ['CUDNN_STATUS_', dnn.cudnnStatuses],
]

/** The headers of 16-bit floats need libcu++, which the wheels lack; their types only have to exist. */
const includes = `#define __CUDA_FP16_H__
#define __CUDA_BF16_H__
typedef struct { unsigned short bits; } __half, __nv_bfloat16;
#include <stddef.h>
#include <cuda.h>
#include <nvrtc.h>
#include <cublasLt.h>
#include <cudnn.h>
`
/** Searched last: a header that only a wheel of its own brings. */
const standIns = fileURLToPath(new URL('headers', import.meta.url))

/** What the compiler says of a source, empty where it is content. */
function complaints(language: 'c' | 'c++', source: string, folders: readonly string[]): string {
  const flags = [language === 'c' ? '-std=gnu11' : '-std=gnu++17', '-x', language, '-fsyntax-only', '-w']
  const compiler = language === 'c' ? 'cc' : 'c++'
  const search = [...folders.flatMap((folder) => ['-isystem', folder]), '-idirafter', standIns]
  const result = spawnSync(compiler, [...flags, ...search, '-'], {
    input: source,
    encoding: 'utf8',
  })
  if (result.error !== undefined) throw result.error
  return result.status === 0 ? '' : result.stderr
}

function constants(): string {
  const { bytes, ...fields } = blas.heuristicResult
  const lines = tables.flatMap(([prefix, table, suffix = '']) =>
    Object.entries(table).map(([name, value]) => {
      const full = `${prefix}${name}${suffix}`
      return `_Static_assert((long long)(${full}) == ${String(typeof value === 'object' ? value[0] : value)}LL, "${full}");`
    }),
  )
  const layouts = Object.entries(fields).map(
    ([field, at]) => `_Static_assert(offsetof(cublasLtMatmulHeuristicResult_t, ${field}) == ${at}, "${field}");`,
  )
  const sizes = [
    ['cublasLtMatmulHeuristicResult_t', bytes],
    ['cublasLtMatmulAlgo_t', blas.algorithmBytes],
    ['CUuuid', 16],
    ['CUdeviceptr', 8],
    ['size_t', 8],
    ['cudnnBackendAttributeName_t', 4],
  ].map(([type, size]) => `_Static_assert(sizeof(${type}) == ${size}, "${type}");`)
  return [includes, ...lines, ...layouts, ...sizes].join('\n')
}

/** A letter for each C type that is told apart: pointers, integers by width and sign (an enum counts as an int). */
const kinds: Readonly<Record<NativeType, string>> = {
  void: 'v',
  'void *': 'p',
  'const char *': 'p',
  'const char **': 'p',
  int: 'i',
  'unsigned int': 'u',
  uint8_t: 'b',
  int64_t: 'l',
  uint64_t: 'L',
  size_t: 'L',
}

const kindOf = `
#include <type_traits>
template <class T> constexpr char kind() {
  if (std::is_void<T>::value) return 'v';
  if (std::is_pointer<T>::value) return 'p';
  if (std::is_enum<T>::value) return 'i';
  if constexpr (std::is_integral<T>::value) {
    if (sizeof(T) == 1) return 'b';
    if (sizeof(T) == 4) return std::is_signed<T>::value ? 'i' : 'u';
    if (sizeof(T) == 8) return std::is_signed<T>::value ? 'l' : 'L';
  }
  return '?';
}
template <class R, class... A> constexpr bool same(R (*)(A...), const char *text) {
  const char all[] = {kind<R>(), kind<A>()..., 0};
  int at = 0;
  for (; all[at] && all[at] == text[at]; at++) {}
  return all[at] == text[at];
}
`

/** Every prototype that the bindings ask the libraries for. */
function prototypes(): readonly Bound[] {
  const { native, bound } = fakeNative()
  bindDriver(native, native.load('cuda'))
  bindNvrtc(native.load('nvrtc'))
  bindCublasLt(native.load('cublasLt'))
  bindCudnn(native.load('cudnn'))
  return bound
}

/** cuda.h 13 declares cuEventElapsedTime by its second version only; the first, with the same parameters, is still exported. */
const declaredAs: Readonly<Record<string, string>> = { cuEventElapsedTime: 'cuEventElapsedTime_v2' }

function signatures(bound: readonly Bound[]): string {
  const lines = bound.map(({ name, result, parameters }) => {
    const letters = [result, ...parameters].map((type) => kinds[type]).join('')
    return `static_assert(same(&${declaredAs[name] ?? name}, "${letters}"), "${name}");`
  })
  return [includes, kindOf, ...lines].join('\n')
}

const folders = headerFolders()
if (folders === undefined) absent('the bindings are not compared with headers, because there are none')

describe.skipIf(folders === undefined)('the headers', () => {
  const where = folders ?? []

  test('constants, enum values and layouts are as declared', () => {
    expect(complaints('c', constants(), where)).toBe('')
  })

  test('every prototype has the kinds of parameters that are declared', () => {
    const bound = prototypes()
    expect(bound.length).toBeGreaterThan(80)
    expect(complaints('c++', signatures(bound), where)).toBe('')
  })

  test('a wrong constant or parameter would be seen', () => {
    expect(complaints('c', constants().replace('== 903LL', '== 904LL'), where)).toContain('CUDNN_ATTR_TENSOR_STRIDES')
    const bound: Bound[] = [
      { path: '', name: 'cuMemAlloc_v2', result: 'int', parameters: ['void *', 'unsigned int'] },
      { path: '', name: 'cuMemsetD8Async', result: 'int', parameters: ['uint64_t', 'uint8_t', 'size_t'] },
    ]
    const said = complaints('c++', signatures(bound), where)
    expect(said).toContain('cuMemAlloc_v2')
    expect(said).toContain('cuMemsetD8Async')
  })
})
