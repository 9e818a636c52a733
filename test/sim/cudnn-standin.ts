// The simulated cuDNN and cuBLASLt by themselves, over a stand-in for the simulated driver that runs work at once: what a test
// of the libraries needs and no more. The whole simulation is library.ts.
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { type NativeLibrary, koffiNative } from '../../src/cuda/ffi/loader.ts'
import type { Stream } from '../../src/cuda/ffi/driver-queues.ts'
import type { DevicePointer } from '../../src/cuda/ffi/values.ts'

const sources = fileURLToPath(new URL('native/', import.meta.url))
const flags = ['-std=c++17', '-O2', '-fPIC', '-fvisibility=hidden', '-Wall', '-Wextra', '-Werror']

/** sim.h in fifty lines: memory is the host's, streams run work at once, one number is the stream. */
const driver = `
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <vector>
#include "sim.h"
namespace {
std::map<uintptr_t, size_t> ranges;
std::set<std::pair<std::string, const void *>> objects;
std::vector<std::string> violations;
std::vector<std::function<void()>> forgetters;
std::vector<std::function<void()>> recorded;
bool capture = false, invalid = false, context = true;
uint64_t run_seed = 1;
double elapsed = 0;
int64_t fails_in = 0, calls = 0;
}
namespace sim {
int enqueue(void *stream, const char *, std::function<void()> work) {
  if (!stream_alive(stream)) return 400;
  if (capture && invalid) return 901;
  if (capture) recorded.push_back(std::move(work));
  else work();
  return 0;
}
void elapse(double microseconds) { elapsed += microseconds; }
bool device_range(const void *p, size_t bytes) {
  auto above = ranges.upper_bound((uintptr_t)p);
  if (above == ranges.begin()) return false;
  --above;
  return (uintptr_t)p + bytes <= above->first + above->second;
}
bool stream_alive(void *stream) { return stream == (void *)0x51; }
bool capturing(void *) { return capture; }
int illegal_during_capture(void *, const char *) { return capture ? (invalid = true, 900) : 0; }
void violation(const char *format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  violations.push_back(text);
}
int fail_now(const char *call) {
  ++calls;
  if (fails_in == 0 || --fails_in > 0) return 0;
  return strncmp(call, "cudnn", 5) == 0 ? 4000 : 14;
}
int context_status() { return context ? 0 : 201; }
void born(const char *kind, const void *handle) { objects.insert({kind, handle}); }
bool dies(const char *kind, const void *handle) { return objects.erase({kind, handle}) != 0; }
bool alive(const char *kind, const void *handle) { return objects.count({kind, handle}) != 0; }
uint64_t seed() { return run_seed; }
uint32_t draw(uint32_t below) { return (uint32_t)(run_seed = run_seed * 6364136223846793005u + 1442695040888963407u) % below; }
void on_reset(std::function<void()> forget) { forgetters.push_back(std::move(forget)); }
}
SIM_EXPORT void *standin_allocate(uint64_t bytes) {
  void *const made = aligned_alloc(256, (bytes + 511) / 256 * 256);
  memset(made, 0xff, bytes);
  ranges[(uintptr_t)made] = bytes;
  return made;
}
SIM_EXPORT void standin_free(void *p) { ranges.erase((uintptr_t)p); free(p); }
SIM_EXPORT void standin_copy(void *to, const void *from, uint64_t bytes) { memcpy(to, from, bytes); }
/* 1 begins a capture, 0 ends it (answers whether it was valid), 2 runs what was recorded, 3 and 4: no context, a context. */
SIM_EXPORT int standin_control(int what) {
  if (what == 1) capture = true, invalid = false, recorded.clear();
  if (what == 0) capture = false;
  if (what == 2) for (auto &work : recorded) work();
  if (what == 3 || what == 4) context = what == 4;
  return invalid ? 0 : 1;
}
SIM_EXPORT void standin_fail(int64_t n) { fails_in = n; }
SIM_EXPORT void standin_reset() {
  for (auto &forget : forgetters) forget();
  objects.clear(), violations.clear(), recorded.clear();
  capture = invalid = false, context = true, fails_in = 0, calls = 0, elapsed = 0;
}
/* Calls, live objects, microseconds, then a violation a line. */
SIM_EXPORT const char *standin_report() {
  static std::string text;
  text = std::to_string(calls) + " " + std::to_string(objects.size()) + " " + std::to_string(elapsed) + "\\n";
  for (auto &line : violations) text += line + "\\n";
  return text.c_str();
}
`

/** What tests tell the stand-in, and hear from it. */
export interface Standin {
  readonly library: NativeLibrary
  readonly stream: Stream
  allocate(bytes: number): DevicePointer
  free(pointer: DevicePointer): void
  write(to: DevicePointer, from: NodeJS.TypedArray): void
  read(into: NodeJS.TypedArray, from: DevicePointer): void
  /** Whether work is recorded instead of run; ending tells whether the recording is valid. */
  capture(on: boolean): boolean
  /** Runs what was recorded. */
  replay(): void
  context(there: boolean): void
  failAt(call: number): void
  /** A switch of cudnn-libraries.h; answers its old value. */
  option(which: 'tf32' | 'uncapturable engine' | 'refusing engine', value: number): number
  report(): { readonly calls: number; readonly live: number; readonly microseconds: number; readonly violations: readonly string[] }
  reset(): void
}

const options = { tf32: 0, 'uncapturable engine': 1, 'refusing engine': 2 } as const

/** Builds it if need be (half a minute), and loads it. */
export async function standin(): Promise<Standin> {
  const library = koffiNative().load(await build())
  const func = (name: string, result: 'void' | 'void *' | 'int' | 'int64_t' | 'const char *', ...parameters: ('void *' | 'uint64_t' | 'int64_t' | 'int')[]) =>
    library.func(name, result, parameters)
  const allocate = func('standin_allocate', 'void *', 'uint64_t')
  const free = func('standin_free', 'void', 'void *')
  const copy = func('standin_copy', 'void', 'void *', 'void *', 'uint64_t')
  const control = func('standin_control', 'int', 'int')
  const fail = func('standin_fail', 'void', 'int64_t')
  const option = func('sim_library_option', 'int64_t', 'int', 'int64_t')
  const report = func('standin_report', 'const char *')
  const reset = func('standin_reset', 'void')
  return {
    library,
    stream: 0x51n as Stream,
    allocate: (bytes) => allocate(bytes) as DevicePointer,
    free: (pointer) => void free(pointer),
    write: (to, from) => void copy(to, from, from.byteLength),
    read: (into, from) => void copy(into, from, into.byteLength),
    capture: (on) => control(on ? 1 : 0) === 1,
    replay: () => void control(2),
    context: (there) => void control(there ? 4 : 3),
    failAt: (call) => void fail(call),
    option: (which, value) => Number(option(options[which], value)),
    report: () => parse(String(report())),
    reset: () => void reset(),
  }
}

function parse(text: string): ReturnType<Standin['report']> {
  const [first = '', ...violations] = text.trimEnd().split('\n')
  const [calls = 0, live = 0, microseconds = 0] = first.split(' ').map(Number)
  return { calls, live, microseconds, violations }
}

/** The library's path, built once per content. */
async function build(): Promise<string> {
  const names = readdirSync(sources).filter((name) => /^(cudnn|cublaslt).*|^sim\.h$/.test(name))
  const hash = createHash('sha256').update(JSON.stringify([flags, driver]))
  for (const name of names.sort()) hash.update(name).update(readFileSync(join(sources, name)))
  const root = join(tmpdir(), `pullback-sim-${userInfo().uid}`)
  mkdirSync(root, { recursive: true, mode: 0o700 })
  const target = join(root, `standin-${hash.digest('hex').slice(0, 24)}.so`)
  if (existsSync(target)) return target
  const work = mkdtempSync(join(root, 'standin-'))
  try {
    writeFileSync(join(work, 'driver.cpp'), driver)
    const units = [join(work, 'driver.cpp'), ...names.filter((name) => name.endsWith('.cpp')).map((name) => join(sources, name))]
    const objects = units.map((_, index) => join(work, `${index}.o`))
    const jobs = units.map((unit, index) => [...flags, '-I', sources, '-c', unit, '-o', objects[index] ?? '']).values()
    const worker = async (): Promise<void> => {
      for (const job of jobs) await promisify(execFile)('g++', job)
    }
    await Promise.all([worker(), worker()])
    await promisify(execFile)('g++', ['-shared', ...objects, '-o', join(work, 'out.so')])
    renameSync(join(work, 'out.so'), target)
    return target
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}
