// Runs single kernels on the native runtime: print, compile, load, copy in, run, copy out.
import { cDialect, printKernel } from '../../src/compile/print/index.ts'
import type { Kernel } from '../../src/compile/index.ts'
import { Engine, type EngineOptions } from '../../src/cpu/engine.ts'
import type { Lowered, PointerRef } from '../../src/cpu/kernels/launch.ts'
import { type BoundPointer, makeProgram } from '../../src/cpu/program.ts'
import { type DType, type StorageArray, bytesOf, storageArray } from '../../src/tensor/dtype.ts'

export interface Result {
  readonly dtype: DType
  readonly count: number
}

/** An engine of its own for tests. */
export class NativeKernels {
  readonly engine: Engine

  constructor(options: EngineOptions = {}) {
    const engine = Engine.start(options)
    if (engine === undefined) throw new Error('these tests need a C compiler: cc, gcc or clang, or CC')
    this.engine = engine
  }

  /** The results of a kernel; outputs begin as bytes of 0xa5, so that what is not written shows. */
  run(kernel: Kernel, inputs: readonly StorageArray[], outputs: readonly Result[]): StorageArray[] {
    return this.runLowered(printKernel(kernel, cDialect), inputs, outputs)
  }

  /** The results of a list of launches whose operands are the inputs, then the outputs. */
  runLowered(
    { launches, scratchBytes }: Lowered,
    inputs: readonly StorageArray[],
    outputs: readonly Result[],
  ): StorageArray[] {
    const { calls } = this.engine
    const sizes = [
      ...inputs.map(({ byteLength }) => byteLength),
      ...outputs.map(({ dtype, count }) => bytesOf(dtype) * count),
    ]
    const blocks = [...sizes, scratchBytes].map((bytes) => calls.alloc(Math.max(64, bytes))!)
    inputs.forEach((array, i) => calls.copyIn(blocks[i]!, array, array.byteLength))
    const results = outputs.map(({ dtype, count }) => storageArray(dtype, count))
    results.forEach((array, i) => {
      const poison = new Uint8Array(array.byteLength).fill(0xa5)
      calls.copyIn(blocks[inputs.length + i]!, poison, poison.length)
    })
    const bind = (pointer: PointerRef): BoundPointer =>
      pointer.kind === 'operand' ? { base: pointer.index, offset: 0 } : { base: 'arena', offset: pointer.offset }
    const bound = launches.map((launch) => ({ ...launch, pointers: launch.pointers.map(bind), step: 0 }))
    const program = makeProgram(this.engine, bound, sizes.length, false)
    this.engine.waitSync(this.engine.submit(program, blocks.at(-1)!, BigInt64Array.from(blocks.slice(0, -1))))
    results.forEach((array, i) => calls.copyOut(array, blocks[inputs.length + i]!, array.byteLength))
    this.engine.dispose(program)
    for (const block of blocks) calls.free(block)
    return results
  }

  close(): void {
    this.engine.close()
  }
}
