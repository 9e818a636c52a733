// The small SE-ResNeXt against PyTorch, both squeeze widths: logits, every gradient, weights and running statistics
// after five steps, in f32; and one pass in mixed precision.
import { beforeAll, describe, expect, test } from 'vitest'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'
import { isBatchNormPath } from '../../src/train/index.ts'
import { testDevices } from '../support/devices.ts'
import { type GoldenModel, distance, goldenModel, printRanked, timmModel } from '../support/golden-model.ts'
import { type Judged, fiveSteps, heldPassInF16, passInF16, passInF32 } from '../support/golden-passes.ts'

/** Both variants on the compiled device; one is enough for the reference, which takes 20 seconds for five steps. */
const runs = testDevices().flatMap(([on, device], index, all) =>
  (['paper', 'nvidia'] as const)
    .filter((variant) => index === all.length - 1 || variant === 'nvidia')
    .map((variant) => ({ on, device, variant })),
)

describe.each(runs)('the small SE-ResNeXt on $on, squeeze $variant', ({ on, device, variant }) => {
  let golden: GoldenModel
  beforeAll(async () => {
    setDefaultDevice(device)
    golden = await goldenModel(variant)
  })

  function expectWithinBounds({ title, rows, bound }: Judged): void {
    printRanked(`${on}, ${variant}, ${title}`, rows)
    expect(rows.length).toBeGreaterThan(0)
    for (const { name, error } of rows) expect(error, name).toBeLessThan(bound(name))
  }

  test('logits and every gradient in f32', async () => {
    expectWithinBounds(await passInF32(golden))
  }, 60_000)

  test('five steps: losses, weights, running statistics, and how far they moved', async () => {
    for (const judged of await fiveSteps(golden)) expectWithinBounds(judged)
  }, 120_000)

  test('one pass in autocast f16: what f16 explains', async () => {
    expectWithinBounds(await passInF16(golden))
  }, 60_000)

  test('gradients in autocast f16 with the decisions of f32: much closer', async () => {
    expectWithinBounds(await heldPassInF16(golden))
  }, 60_000)

  test('weight decay leaves out what the golden file names', () => {
    const parameters = [...golden.initialValues.keys()].filter((name) => !/running_/.test(name))
    expect(parameters.filter(isBatchNormPath).sort()).toEqual([...golden.document.noDecay].sort())
  })
})

test.each(testDevices())("timm's own model, loaded from its file, gives its logits on %s", async (_on, device) => {
  setDefaultDevice(device)
  const { logits, expected, unused } = await timmModel()
  expect(unused).toEqual([])
  expect(distance(logits, expected)).toBeLessThan(1e-5) // PyTorch's own f32 error is 2.4e-6
})
