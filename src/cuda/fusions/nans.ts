// Whether a fused ReLU lets NaN through, as ours do: libraries may make 0 of it, and a step whose numbers are lost would go
// unnoticed.
import { isFloat, storageView, bytesOf } from '../../tensor/dtype.ts'
import { decode } from '../../tensor/half.ts'
import { at, zip } from '../../tensor/shape.ts'
import { type Bench, type TuningTask, results, tensorBytes, withOperands } from '../tune/index.ts'
import type { Candidate } from '../work.ts'
import { type Separate, besideSeparate } from './acceptance.ts'
import type { Fusion } from './fusion.ts'

/** The question to a candidate. */
export function nanAcceptance(fusion: Fusion, separate: Separate): NonNullable<TuningTask['acceptance']> {
  return besideSeparate(separate, 'it on NaN', (bench, candidate, expected) => {
    const [mine, theirs] = withOperands(bench, fusion, 1, (sets) => {
      const first = at(fusion.contraction.wires, 0).index
      bench.fill(at(at(sets, 0), first), 0xff, tensorBytes(at(fusion.inputs, first)))
      return [candidate, expected].map((one) => nansOf(bench, fusion, one, at(sets, 0)))
    })
    const lost = zip(mine ?? [], theirs ?? []).some(([found, wanted]) => wanted && !found)
    return lost ? 'it makes numbers of NaN' : undefined
  })
}

/** For each output whether there is a NaN in it. */
function nansOf(
  bench: Bench,
  fusion: Fusion,
  of: Candidate,
  operands: Parameters<typeof results>[3],
): readonly boolean[] {
  return zip(fusion.outputs, results(bench, fusion, of, operands)).map(([{ dtype }, bytes]) => {
    if (!isFloat(dtype)) return false
    const length = bytes.length / bytesOf(dtype)
    return decode(dtype, storageView(dtype, new Uint8Array(bytes).buffer, 0, length)).some(Number.isNaN)
  })
}
