// The part `model`: the small SE-ResNeXt, both squeeze widths, against the values that PyTorch made: logits, every gradient
// and five steps in f32, and in f16 as far as f16 tells.
import { goldenModel } from '../support/golden-model.ts'
import { type Judged, fiveSteps, heldPassInF16, passInF16, passInF32 } from '../support/golden-passes.ts'
import { type Part, type Tell, attempt, withDevice } from './part.ts'

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

export const model: Part = {
  says: 'the small SE-ResNeXt: logits, every gradient and five steps against PyTorch, in f32 and f16',
  seconds: 75,
  run: async (gpu, tell) => {
    const environment = { PULLBACK_VERIFY: '0' }
    for (const variant of gpu.size === 'small' ? (['nvidia'] as const) : (['nvidia', 'paper'] as const)) {
      await withDevice(gpu, { precision: 'ieee', environment }, async () => {
        const golden = await goldenModel(variant)
        await attempt(tell, `${variant}, f32`, async () => judged(tell, variant, await passInF32(golden)))
        if (gpu.size === 'full')
          await attempt(tell, `${variant}, five steps`, async () => {
            for (const each of await fiveSteps(golden)) judged(tell, variant, each)
          })
      })
      if (gpu.size === 'small') continue
      await withDevice(gpu, { environment }, async () => {
        const golden = await goldenModel(variant)
        await attempt(tell, `${variant}, f16`, async () => judged(tell, variant, await passInF16(golden)))
        // Its decisions are those of f32, so that f32 is not to be computed in TF32.
      })
      await withDevice(gpu, { precision: 'ieee', environment }, async () => {
        const golden = await goldenModel(variant)
        await attempt(tell, `${variant}, f16, held`, async () => judged(tell, variant, await heldPassInF16(golden)))
      })
    }
  },
}
