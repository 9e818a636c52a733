// A stand-in for libcuda on a machine without a driver. cuDNN's engines that compile their kernels propose themselves only
// where a driver can be loaded; this one lets them plan, and answers "no device" to everything that would run.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Native } from '../../src/cuda/ffi/loader.ts'

const written = String.raw`
#define _GNU_SOURCE
#include <dlfcn.h>
int cuInit(unsigned flags) { return 100; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuGetErrorString(int error, const char **text) { *text = "a driver without a device"; return 0; }
int cuGetErrorName(int error, const char **text) { *text = "CUDA_ERROR_NO_DEVICE"; return 0; }
static int find(const char *symbol, void **entry) {
  *entry = dlsym(dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD), symbol);
  return *entry ? 0 : 500;
}
int cuGetProcAddress(const char *symbol, void **entry, int version, unsigned long flags) { return find(symbol, entry); }
int cuGetProcAddress_v2(const char *symbol, void **entry, int version, unsigned long flags, void *status) {
  return find(symbol, entry);
}
#define DUMMY(name) int name(void **handle) { *handle = (void *)0x1000; return 0; }
DUMMY(cuLibraryLoadData) DUMMY(cuLibraryGetKernel) DUMMY(cuLibraryGetModule) DUMMY(cuKernelGetFunction)
DUMMY(cuModuleLoadData) DUMMY(cuModuleLoadDataEx) DUMMY(cuModuleGetFunction)
`

/**
 * Builds the stand-in with `cc` and loads it for as long as the process lives; loaded before cuDNN asks for a driver, it is
 * what the loader finds by that name.
 *
 * @param header A cuda.h: every function that it names gets a body.
 */
export function loadStubDriver(native: Native, header: string): void {
  const own = new Set([...written.matchAll(/(?:\bint |DUMMY\()(cu\w+)/g)].map(([, name]) => name))
  const named = new Set(readFileSync(header, 'utf8').match(/\bcu[A-Z]\w*/g) ?? [])
  // What loads compiled code succeeds, so that a plan can be finalized.
  const bodies = [...named]
    .filter((name) => !own.has(name))
    .map((name) => `int ${name}(void) { return ${/^cu(Library|Kernel|Module|Func)/.test(name) ? 0 : 100}; }`)
  const folder = mkdtempSync(join(tmpdir(), 'pullback-driver-'))
  try {
    const [source, target] = [join(folder, 'driver.c'), join(folder, 'libcuda.so.1')]
    writeFileSync(source, [written, ...bodies].join('\n'))
    execFileSync('cc', ['-w', '-shared', '-fPIC', '-Wl,-soname,libcuda.so.1', '-o', target, source, '-ldl'])
    loaded.push(native.load(target))
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** Holds what was loaded. */
const loaded: unknown[] = []
