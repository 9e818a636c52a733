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

/** One device for all passes, which share their plans; without TF32, which f32's bounds do not allow for. */
async function compare(gpu: Gpu, tell: Tell, variant: 'nvidia' | 'paper', passes: Passes): Promise<void> {
  await withDevice(gpu, { precision: 'ieee', environment: { PULLBACK_VERIFY: '' } }, async () => {
    const golden = await goldenModel(variant)
    for (const [name, pass] of Object.entries(passes))
      await attempt(tell, `${variant}, ${name}`, async () => {
        for (const each of [await pass(golden)].flat()) judged(tell, variant, each)
      })
  })
}

type Passes = Readonly<Record<string, (golden: GoldenModel) => Promise<Judged | readonly Judged[]>>>

const inF32: Passes = { f32: passInF32, 'five steps': fiveSteps }
const inF16: Passes = { f16: passInF16, 'f16 with the decisions of f32': heldPassInF16 }

export const model: Part = {
  says: 'the small SE-ResNeXt: logits, every gradient and five steps against PyTorch, in f32 and f16',
  seconds: 100,
  run: async (gpu, tell) => {
    if (gpu.size === 'small') return compare(gpu, tell, 'nvidia', { evaluation: evaluationInF32 })
    await compare(gpu, tell, 'nvidia', { ...inF32, ...inF16 })
    await compare(gpu, tell, 'paper', inF32)
  },
}
