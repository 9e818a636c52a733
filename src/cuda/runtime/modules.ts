// Kernels in the GPU's memory: one module for each source, loaded once and kept until the device is closed.
import type { PrintedSource } from '../../compile/print/index.ts'
import { InternalError } from '../../tensor/errors.ts'
import { zip } from '../../tensor/shape.ts'
import type { DeviceCalls, Kernel } from '../ffi/driver.ts'
import type { Cleanup } from './cleanup.ts'
import type { BuildProgress, Cubins } from './cubins.ts'

/** Dynamic shared memory a kernel may have without asking, in bytes. */
const sharedWithoutAsking = 48 * 1024

type ModuleCalls = Pick<DeviceCalls, 'loadModule' | 'unloadModule' | 'kernel' | 'setKernelAttribute'>

interface Loaded {
  readonly text: string
  readonly kernel: Kernel
  /** What it may use of dynamic shared memory. */
  shared: number
}

/** The kernels that are loaded, by name. */
export class Modules {
  readonly #loaded = new Map<string, Loaded>()

  constructor(
    private readonly driver: ModuleCalls,
    readonly cubins: Pick<Cubins, 'get'>,
    private readonly cleanup: Cleanup,
  ) {}

  /** How many kernels are loaded. */
  get count(): number {
    return this.#loaded.size
  }

  /** Compiles what is missing, all together, and loads it. Equal names must have equal texts. */
  load(sources: readonly PrintedSource[], progress?: BuildProgress): void {
    const missing = new Map<string, PrintedSource>()
    for (const source of sources) {
      const known = this.#loaded.get(source.name) ?? missing.get(source.name)
      if (known === undefined) missing.set(source.name, source)
      else if (known.text !== source.text) throw new InternalError(`two kernels are named ${source.name}`)
    }
    const list = [...missing.values()]
    for (const [{ name, text }, image] of zip(list, this.cubins.get(list, progress))) {
      const module = this.driver.loadModule(image)
      this.cleanup.later(() => this.driver.unloadModule(module))
      this.#loaded.set(name, { text, kernel: this.driver.kernel(module, name), shared: sharedWithoutAsking })
    }
  }

  /** A loaded kernel that may use so many bytes of dynamic shared memory. */
  kernel(name: string, sharedBytes = 0): Kernel {
    const found = this.#loaded.get(name)
    if (found === undefined) throw new InternalError(`kernel ${name} was not loaded`)
    if (sharedBytes > found.shared) {
      this.driver.setKernelAttribute(found.kernel, 'MAX_DYNAMIC_SHARED_SIZE_BYTES', sharedBytes)
      found.shared = sharedBytes
    }
    return found.kernel
  }
}
