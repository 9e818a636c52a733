// Whether a fused way lets NaN through, as the separate steps do: libraries may make 0 of it in a ReLU, and a step whose numbers
// are lost would go unnoticed.
import { isFloat } from '../../tensor/dtype.ts'
import { at, zip } from '../../tensor/shape.ts'
import {
  type Bench,
  type TaskTypes,
  type TuningTask,
  results,
  tensorBytes,
  valuesOf,
  withOperands,
} from '../tune/index.ts'
import type { Candidate } from '../work.ts'
import { type Separate, besideSeparate } from './acceptance.ts'

/** The question to a candidate: asked with each of these inputs full of NaN. */
export function nanAcceptance(
  types: TaskTypes,
  inputs: readonly number[],
  separate: Separate,
): NonNullable<TuningTask['acceptance']> {
  return besideSeparate(separate, 'it on NaN', (bench, candidate, expected) => {
    const loses = (input: number): boolean => {
      const [mine, theirs] = withOperands(bench, types, 1, (sets) => {
        bench.fill(at(at(sets, 0), input), 0xff, tensorBytes(at(types.inputs, input)))
        return [candidate, expected].map((one) => nansOf(bench, types, one, at(sets, 0)))
      })
      return zip(mine ?? [], theirs ?? []).some(([found, wanted]) => wanted && !found)
    }
    return inputs.some(loses) ? 'it makes numbers of NaN' : undefined
  })
}

/** For each output whether there is a NaN in it. */
function nansOf(
  bench: Bench,
  types: TaskTypes,
  of: Candidate,
  operands: Parameters<typeof results>[3],
): readonly boolean[] {
  return zip(types.outputs, results(bench, types, of, operands)).map(([{ dtype }, bytes]) => {
    return isFloat(dtype) && valuesOf(dtype, bytes).some(Number.isNaN)
  })
}
