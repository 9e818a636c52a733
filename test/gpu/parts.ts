// The parts of `npm run gpu:check`, in the order in which they are begun: what everything stands on first.
import { bits } from './bits.ts'
import { laws } from './laws.ts'
import { memory } from './memory.ts'
import { model } from './model.ts'
import type { Part } from './part.ts'
import { prelude } from './prelude.ts'
import { primitives } from './primitives.ts'
import { sanitizer } from './sanitizer.ts'
import { smoke } from './smoke.ts'

export const parts = { smoke, prelude, primitives, laws, model, bits, memory, sanitizer } as const satisfies Readonly<
  Record<string, Part>
>

/** The name of a part. */
export type PartName = keyof typeof parts

/** All names, in order. */
export const partNames = Object.keys(parts) as readonly PartName[]
