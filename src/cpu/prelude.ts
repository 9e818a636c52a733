// The text at the head of every translation unit of kernels: what the contractions use, then what printed kernels use.
import { prelude } from './kernels/prelude.ts'
import { mathPrelude } from './prelude-math.ts'
import { reductionPrelude, vectorPrelude } from './prelude-vectors.ts'

/** All preludes in order. */
export const kernelPrelude: string = [prelude, vectorPrelude, mathPrelude, reductionPrelude].join('\n')
