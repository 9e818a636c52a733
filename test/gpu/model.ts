// The part `model`: the small SE-ResNeXt, both squeeze widths, against the values that PyTorch made: logits, every gradient
// and five steps in f32, and in f16 as far as f16 tells.
import { type GoldenModel, goldenModel } from '../support/golden-model.ts'
import {
  type Judged,
  evaluationInF32,
  fiveSteps,
  heldPassInF16,
  passInF16,
  passInF32,
} from '../support/golden-passes.ts'
import { type Gpu, type Part, type Tell, attempt, withDevice } from './part.ts'

/** The worst of some tensors by the share of its bound, under its own name. */
function judged(tell: Tell, variant: string, { title, rows, bound }: Judged): void {
  const shares = rows.map(({ name, error }) => ({ name, error, share: error / bound(name) }))
  const [first, ...rest] = shares
  if (first === undefined) throw new Error(`${title}: nothing was compared`)
  const worst = rest.reduce((a, b) => (b.share <= a.share || Number.isNaN(a.share) ? a : b), first)
  tell.compared({
    name: `${variant}, ${title}, norm of the error by norm`,
    ...{ cases: rows.length, worst: worst.error, tolerance: bound(worst.name), where: worst.name },
  })
}

/** Three devices, one after the other: what f32 decides in f16's stead must not come from TF32. */
async function compare(gpu: Gpu, tell: Tell, variant: 'nvidia' | 'paper'): Promise<void> {
  const tried = (name: string, precision: 'ieee' | 'tf32', pass: Pass): Promise<void> =>
    attempt(tell, `${variant}, ${name}`, () =>
      withDevice(gpu, { precision, environment: { PULLBACK_VERIFY: '' } }, async () => {
        for (const each of [await pass(await goldenModel(variant))].flat()) judged(tell, variant, each)
      }),
    )
  if (gpu.size === 'small') return tried('evaluation', 'ieee', evaluationInF32)
  await tried('f32', 'ieee', passInF32)
  await tried('five steps', 'ieee', fiveSteps)
  await tried('f16', 'tf32', passInF16)
  await tried('f16 with the decisions of f32', 'ieee', heldPassInF16)
}

type Pass = (golden: GoldenModel) => Promise<Judged | readonly Judged[]>

export const model: Part = {
  says: 'the small SE-ResNeXt: logits, every gradient and five steps against PyTorch, in f32 and f16',
  seconds: 75,
  run: async (gpu, tell) => {
    for (const variant of gpu.size === 'small' ? (['nvidia'] as const) : (['nvidia', 'paper'] as const))
      await compare(gpu, tell, variant)
  },
}
