// The Device contract: what a place where tensors live and programs run must offer. cpu/, cuda/ and the reference
// interpreter implement it; nothing above knows which of them it talks to.
import type { StorageArray } from './dtype.ts'
import type { Program, TensorType } from './program.ts'

/** Memory of a device that holds one tensor's elements, dense and row-major. Opaque; owned by its device. */
export interface Storage {
  readonly device: Device
  readonly type: TensorType
}

/** How much a device may change a program before it runs it. 'none' keeps one step per equation and rounds at each. */
export type OptimizeLevel = 'none' | 'simplify' | 'fuse'

/** How a device is to prepare a program. */
export interface CompileOptions {
  readonly optimize: OptimizeLevel
  /** Indices of inputs whose storage is given up to the executable at each run. */
  readonly donate: readonly number[]
  /** What the program is called in logs and errors. */
  readonly label: string
}

/** A program made ready for a device. */
export interface Executable {
  /**
   * Enqueues one execution; the outputs can be used as inputs at once, reading them waits. Inputs are left alone, but
   * donated ones: their storage belongs to the executable from here on and must not be used or released by the caller.
   * Each output is fresh storage of its own, also where the program gives one value twice or an input as it is.
   */
  run(inputs: readonly Storage[]): readonly Storage[]
  /** The plan as stable text: steps with bytes and flops, arena, inputs and outputs. */
  toString(): string
  /** Frees what the executable owns once everything enqueued has run. */
  release(): void
}

/** Bytes a device holds. */
export interface DeviceMemory {
  /** In tensors and arenas. */
  readonly inUse: number
  /** The most that was in use at once. */
  readonly peak: number
  /** Kept for reuse. */
  readonly cached: number
}

/** How far a device is with making a program ready, which holds the thread that asked for it. */
export interface Preparation {
  /** What is being done: `tuning`, `compiling`. */
  readonly phase: string
  readonly done: number
  readonly total: number
}

/** A place where tensors live and programs run. */
export interface Device {
  /** `cpu`, `cuda:0`, `reference`. */
  readonly name: string
  /** One line about the machine and the libraries in use, for a run's header. */
  readonly description: string
  /** More about it by name, for a run's header: libraries with their paths, how it was tuned. It grows with use. */
  details(): Readonly<Record<string, string>>
  /**
   * Which way was chosen where a device has several whose bits differ, by problem: what a run that is to go on with the
   * same bits hands to `prefer`. What was preferred and did not come up yet is among them.
   */
  choices(): Readonly<Record<string, string>>
  /** Asks that these ways be chosen from here on, where they are to be had; `choices` tells what became of it. */
  prefer(choices: Readonly<Record<string, string>>): void
  /** Tells `listener` from here on how far programs are that are made ready; nobody if undefined. */
  watch(listener: ((state: Preparation) => void) | undefined): void
  /** Copies `data` into fresh storage; `data` may be changed as soon as this returns. */
  upload(data: StorageArray, type: TensorType): Storage
  /** Waits for what was enqueued and copies the elements out; rejects with what went wrong in it. */
  read(storage: Storage): Promise<StorageArray>
  /** The same, blocking: for printing. */
  readSync(storage: Storage): StorageArray
  /** Gives storage back once everything enqueued that uses it has run. */
  release(storage: Storage): void
  /** Makes a program ready to run. */
  compile(program: Program, options: CompileOptions): Executable
  /** Resolves when everything enqueued so far has run. */
  synchronize(): Promise<void>
  /** Bytes in use, at the peak, and kept for reuse. */
  memory(): DeviceMemory
  /** Waits for what was enqueued and frees everything; later use throws. */
  close(): Promise<void>
}
