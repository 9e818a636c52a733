// Many small programs as one, so that a device compiles and runs them together, and what it and the reference make of them.
import type { CompileOptions, Device, Storage } from '../../src/tensor/device.ts'
import { decode, encode } from '../../src/tensor/half.ts'
import type { Program } from '../../src/tensor/program.ts'
import { zip } from '../../src/tensor/shape.ts'

/** A program with its operands, which have been rounded to the types of its inputs. */
export interface Given {
  readonly program: Program
  readonly operands: readonly Float64Array[]
}

/** The outputs of each program, run as one program. */
export async function runJoined(
  device: Device,
  all: readonly Given[],
  options: Omit<CompileOptions, 'donate'>,
): Promise<readonly (readonly ArrayLike<number>[])[]> {
  const joined: Program = {
    inputs: all.flatMap(({ program }) => program.inputs),
    equations: all.flatMap(({ program }) => program.equations),
    outputs: all.flatMap(({ program }) => program.outputs),
  }
  const operands = all.flatMap((given) => given.operands)
  const storages: Storage[] = zip(joined.inputs, operands).map(([{ type }, data]) =>
    device.upload(encode(type.dtype, data), type),
  )
  const executable = device.compile(joined, { ...options, donate: [] })
  try {
    const outputs = executable.run(storages)
    const values = await Promise.all(outputs.map(async (out) => decode(out.type.dtype, await device.read(out))))
    for (const storage of [...storages, ...outputs]) device.release(storage)
    let next = 0
    return all.map(({ program }) => values.slice(next, (next += program.outputs.length)))
  } finally {
    executable.release()
  }
}
