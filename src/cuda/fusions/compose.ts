// Several lowered steps as one candidate: their operands are those of the whole or pieces of its scratch memory, and they run
// in order.
import type { PrintedPointer } from '../../compile/print/index.ts'
import type { TensorType } from '../../tensor/program.ts'
import { InternalError } from '../../tensor/errors.ts'
import { at } from '../../tensor/shape.ts'
import { type DevicePointer, offset } from '../ffi/values.ts'
import { Cleanup } from '../runtime/index.ts'
import { tensorBytes } from '../tune/index.ts'
import type { Candidate, LibraryCall, Lowered, Work } from '../work.ts'
import { lowerKernel } from '../printed.ts'
import type { Wire, WiredKernel } from '../wires.ts'

/** A lowered step, and where each of its operands is. */
export interface Part {
  readonly lowered: Lowered
  readonly wires: readonly Wire[]
}

/** Kernels as they are. */
export function partsOf(kernels: readonly WiredKernel[]): readonly Part[] {
  return kernels.map(({ kernel, wires }) => ({ lowered: lowerKernel(kernel), wires }))
}

const alignment = 256

/** Where the values that only the whole knows lie in its scratch memory; the parts' own scratch is behind them. */
interface Layout {
  readonly offsets: ReadonlyMap<number, number>
  readonly bytes: number
}

/**
 * The parts as one candidate. `inside` are the types of the values inside, of which those have memory that a part uses.
 * Releasing it releases the parts.
 */
export function compose(id: string, parts: readonly Part[], inside: readonly TensorType[], recipe?: string): Candidate {
  const layout = layOut(parts, inside)
  return {
    id,
    ...(recipe === undefined ? {} : { recipe }),
    works: parts.flatMap((part) => part.lowered.works.map((work) => rewired(work, part, layout))),
    scratchBytes: layout.bytes + Math.max(0, ...parts.map(({ lowered }) => lowered.scratchBytes)),
    counterBytes: Math.max(0, ...parts.map(({ lowered }) => lowered.counterBytes ?? 0)), // they are zero again behind each
    release: () => {
      const cleanup = new Cleanup()
      for (const { lowered } of parts) cleanup.later(() => lowered.release?.())
      cleanup.release()
    },
  }
}

function layOut(parts: readonly Part[], inside: readonly TensorType[]): Layout {
  const used = new Set(
    parts.flatMap(({ wires }) => wires.flatMap((wire) => (wire.kind === 'inside' ? [wire.index] : []))),
  )
  const offsets = new Map<number, number>()
  let bytes = 0
  inside.forEach((type, index) => {
    if (!used.has(index)) return
    offsets.set(index, bytes)
    bytes += Math.ceil(tensorBytes(type) / alignment) * alignment
  })
  return { offsets, bytes }
}

function rewired(work: Work, { lowered, wires }: Part, layout: Layout): Work {
  if (work.kind === 'kernel') {
    const pointers = work.pointers.map((pointer): PrintedPointer => {
      if (pointer.kind === 'scratch') return { kind: 'scratch', offset: layout.bytes + pointer.offset }
      if (pointer.kind === 'counters') return pointer
      const wire = at(wires, pointer.index)
      return wire.kind === 'operand'
        ? { kind: 'operand', index: wire.index }
        : { kind: 'scratch', offset: insideAt(wire, layout) }
    })
    return { ...work, pointers }
  }
  return callAt(work, lowered, wires, layout)
}

function callAt(call: LibraryCall, lowered: Lowered, wires: readonly Wire[], layout: Layout): LibraryCall {
  const within = (scratch: DevicePointer | undefined, bytes: number): DevicePointer => {
    if (scratch === undefined) throw new InternalError(`${call.label} was given no scratch memory`)
    return offset(scratch, bytes)
  }
  return {
    kind: 'call',
    label: call.label,
    enqueue: (stream, operands, scratch) =>
      call.enqueue(
        stream,
        wires.map((wire) =>
          wire.kind === 'operand' ? at(operands, wire.index) : within(scratch, insideAt(wire, layout)),
        ),
        lowered.scratchBytes === 0 ? undefined : within(scratch, layout.bytes),
      ),
  }
}

function insideAt(wire: Wire, { offsets }: Layout): number {
  const found = offsets.get(wire.index)
  if (found === undefined) throw new InternalError(`a fusion uses value ${wire.index} inside, which has no memory`)
  return found
}
