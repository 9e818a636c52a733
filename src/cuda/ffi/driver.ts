// Prototypes of the CUDA driver API: initialization, devices, the primary context, modules and launches. Memory is in
// driver-memory.ts; streams, events and graphs in driver-queues.ts.
import { deviceAttributes, functionAttributes } from './driver-constants.ts'
import { type MemoryCalls, bindMemory } from './driver-memory.ts'
import { type QueueCalls, type Stream, bindQueues } from './driver-queues.ts'
import type { Native, NativeLibrary } from './loader.ts'
import { type Check, checker, statusBinder } from './status.ts'
import type { DevicePointer, Handle, HostPointer, Out } from './values.ts'
import { count, int, made, outParameter, pointer, positive, text, typed, unsigned, untilNul } from './values.ts'

/** A GPU, as the driver numbers it. */
export type Gpu = number & { readonly gpu: unique symbol }
/** A CUcontext. */
export type Context = Handle<'context'>
/** A CUmodule. */
export type Module = Handle<'module'>
/** A CUfunction. */
export type Kernel = Handle<'kernel'>

/** Three extents of a grid or of a block. */
export type Extents = readonly [x: number, y: number, z: number]

/** Where a kernel runs, and where its arguments lie. */
export interface Launch {
  readonly kernel: Kernel
  readonly grid: Extents
  readonly block: Extents
  /** Dynamic shared memory in bytes. */
  readonly shared: number
  readonly stream: Stream
  /** An array of addresses, one for each argument; both arrays only have to live until the call returns. */
  readonly parameters: HostPointer
}

/** The driver API's calls that need no stream. Every one throws a CudaError that names the call and the status. */
export interface DeviceCalls {
  init(): void
  /** The newest CUDA version the driver supports, as 1000 * major + 10 * minor. Needs no `init`. */
  version(): number
  deviceCount(): number
  device(ordinal: number): Gpu
  deviceName(device: Gpu): string
  /** 16 bytes that name this GPU, as hexadecimal digits. */
  deviceUuid(device: Gpu): string
  /** Bytes of memory on the device. */
  deviceMemory(device: Gpu): number
  deviceAttribute(device: Gpu, attribute: keyof typeof deviceAttributes): number
  retainPrimaryContext(device: Gpu): Context
  releasePrimaryContext(device: Gpu): void
  setPrimaryContextFlags(device: Gpu, flags: number): void
  setCurrentContext(context: Context | undefined): void
  /** Blocks until the current context is idle. */
  synchronizeContext(): void
  loadModule(image: Uint8Array): Module
  unloadModule(module: Module): void
  kernel(module: Module, name: string): Kernel
  /** The address and bytes of a module's global variable. */
  global(module: Module, name: string): { readonly address: DevicePointer; readonly bytes: number }
  kernelAttribute(kernel: Kernel, attribute: keyof typeof functionAttributes): number
  setKernelAttribute(kernel: Kernel, attribute: keyof typeof functionAttributes, value: number): void
  /** How many blocks of `threads` fit on a multiprocessor at once. */
  occupancy(kernel: Kernel, threads: number, shared: number): number
  launch(launch: Launch): void
}

/** The driver API. */
export type Driver = DeviceCalls & MemoryCalls & QueueCalls

/** Binds libcuda. Nothing is called yet. */
export function bindDriver(native: Native, library: NativeLibrary): Driver {
  const check = driverCheck(native, library)
  const out = outParameter()
  return {
    ...bindDevices(library, check, out),
    ...bindContexts(library, check, out),
    ...bindModules(library, check, out),
    ...bindMemory(library, check, out),
    ...bindQueues(library, check, out),
  }
}

function driverCheck(native: Native, library: NativeLibrary): Check {
  const cell = new BigUint64Array(1)
  const name = library.func('cuGetErrorName', 'int', ['int', 'void *'])
  const string = library.func('cuGetErrorString', 'int', ['int', 'void *'])
  const ask = (call: typeof name, status: number, otherwise: string): string => {
    cell.fill(0n)
    const answered = call(status, cell) === 0
    const address = cell[0] ?? 0n
    return answered && address !== 0n ? native.text(address) : otherwise
  }
  return checker('driver', (status) => ({
    name: ask(name, status, 'a status this driver does not know'),
    text: ask(string, status, ''),
  }))
}

type Devices = 'init' | 'version' | 'deviceCount' | 'device' | 'deviceName' | 'deviceUuid' | 'deviceMemory'

function bindDevices(library: NativeLibrary, check: Check, out: Out): Pick<DeviceCalls, Devices | 'deviceAttribute'> {
  const bind = statusBinder(library, check)
  const init = bind('cuInit', 'unsigned int')
  const version = bind('cuDriverGetVersion', 'void *')
  const deviceCount = bind('cuDeviceGetCount', 'void *')
  const device = bind('cuDeviceGet', 'void *', 'int')
  const name = bind('cuDeviceGetName', 'void *', 'int', 'int')
  const uuid = bind('cuDeviceGetUuid_v2', 'void *', 'int')
  const memory = bind('cuDeviceTotalMem_v2', 'void *', 'int')
  const attribute = bind('cuDeviceGetAttribute', 'void *', 'int', 'int')
  return {
    init: () => init(0),
    version: () => (version(out.clear()), out.int()),
    deviceCount: () => (deviceCount(out.clear()), out.int()),
    device: (ordinal) => (device(out.clear(), int(ordinal)), out.int() as Gpu),
    deviceName: (gpu) => {
      const buffer = new Uint8Array(256)
      name(buffer, buffer.length, int(gpu))
      return untilNul(buffer)
    },
    deviceUuid: (gpu) => {
      const buffer = new Uint8Array(16)
      uuid(buffer, int(gpu))
      return Buffer.from(buffer).toString('hex')
    },
    deviceMemory: (gpu) => (memory(out.clear(), int(gpu)), out.size()),
    deviceAttribute: (gpu, key) => (attribute(out.clear(), deviceAttributes[key], int(gpu)), out.int()),
  }
}

type Contexts = 'retainPrimaryContext' | 'releasePrimaryContext' | 'setPrimaryContextFlags' | 'setCurrentContext'

function bindContexts(
  library: NativeLibrary,
  check: Check,
  out: Out,
): Pick<DeviceCalls, Contexts | 'synchronizeContext'> {
  const bind = statusBinder(library, check)
  const retain = bind('cuDevicePrimaryCtxRetain', 'void *', 'int')
  const release = bind('cuDevicePrimaryCtxRelease_v2', 'int')
  const setFlags = bind('cuDevicePrimaryCtxSetFlags_v2', 'int', 'unsigned int')
  const setCurrent = bind('cuCtxSetCurrent', 'void *')
  const synchronize = bind('cuCtxSynchronize')
  return {
    retainPrimaryContext: (gpu) => (retain(out.clear(), int(gpu)), out.handle('cuDevicePrimaryCtxRetain')),
    releasePrimaryContext: (gpu) => release(int(gpu)),
    setPrimaryContextFlags: (gpu, flags) => setFlags(int(gpu), unsigned(flags)),
    setCurrentContext: (context) => setCurrent(context === undefined ? null : pointer(context)),
    synchronizeContext: () => synchronize(),
  }
}

type Modules = 'loadModule' | 'unloadModule' | 'kernel' | 'global' | 'kernelAttribute' | 'setKernelAttribute'

function bindModules(
  library: NativeLibrary,
  check: Check,
  out: Out,
): Pick<DeviceCalls, Modules | 'occupancy' | 'launch'> {
  const bind = statusBinder(library, check)
  const load = bind('cuModuleLoadData', 'void *', 'void *')
  const unload = bind('cuModuleUnload', 'void *')
  const kernel = bind('cuModuleGetFunction', 'void *', 'void *', 'const char *')
  const global = bind('cuModuleGetGlobal_v2', 'void *', 'void *', 'void *', 'const char *')
  const attribute = bind('cuFuncGetAttribute', 'void *', 'int', 'void *')
  const setAttribute = bind('cuFuncSetAttribute', 'void *', 'int', 'int')
  const occupancy = bind('cuOccupancyMaxActiveBlocksPerMultiprocessor', 'void *', 'void *', 'int', 'size_t')
  const u = 'unsigned int'
  const launch = bind('cuLaunchKernel', 'void *', u, u, u, u, u, u, u, 'void *', 'void *', 'void *')
  return {
    loadModule: (image) => (load(out.clear(), typed(image, 1)), out.handle('cuModuleLoadData')),
    unloadModule: (module) => unload(pointer(module)),
    kernel: (module, name) => (
      kernel(out.clear(), pointer(module), text(name)), out.handle(`cuModuleGetFunction(${name})`)
    ),
    global: (module, name) => {
      const address = new BigUint64Array(1)
      global(address, out.clear(), pointer(module), text(name))
      return { address: made(`cuModuleGetGlobal_v2(${name})`, address[0]), bytes: out.size() }
    },
    kernelAttribute: (handle, key) => (attribute(out.clear(), functionAttributes[key], pointer(handle)), out.int()),
    setKernelAttribute: (handle, key, value) => setAttribute(pointer(handle), functionAttributes[key], int(value)),
    occupancy: (handle, threads, shared) => (
      occupancy(out.clear(), pointer(handle), int(positive(threads)), count(shared)), out.int()
    ),
    launch: ({ kernel: handle, grid, block, shared, stream, parameters }) =>
      launch(
        pointer(handle),
        extent(grid[0]),
        extent(grid[1]),
        extent(grid[2]),
        extent(block[0]),
        extent(block[1]),
        extent(block[2]),
        unsigned(shared),
        pointer(stream),
        pointer(parameters),
        null,
      ),
  }
}

function extent(value: number): number {
  return unsigned(positive(value))
}
