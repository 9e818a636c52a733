// The headline model with weights from timm's own seresnext101_32x4d, all 48,955,416 of them. The file is too large to
// commit: point PULLBACK_TIMM at the folder that `python test/golden/timm_logits.py DIR` wrote. The same code on a small
// model of timm's class is always tested (golden-model.test.ts).
import { afterAll, describe, expect, it } from 'vitest'
import { cpuDevice } from '../../src/cpu/index.ts'
import { setDefaultDevice } from '../../src/tensor/dispatch.ts'
import { fromBits } from '../../src/tensor/ops/index.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import { pretrainedVariables, readSafetensors, readWeights } from '../../src/train/index.ts'
import { predict } from '../../src/train/eval-step.ts'
import { seResNeXt101_32x4d } from '../../src/nn/index.ts'
import { toFloat32 } from '../../src/train/files/index.ts'

const folder = process.env['PULLBACK_TIMM']
if (folder === undefined) console.log('PULLBACK_TIMM is not set: the full timm model is not compared here')

describe.runIf(folder !== undefined)("timm's seresnext101_32x4d", () => {
  const device = cpuDevice() ?? referenceDevice()
  setDefaultDevice(device)
  afterAll(() => device.close())

  it('gives its logits to 1e-3', { timeout: 120_000 }, async () => {
    const weights = await readWeights(`${folder ?? ''}/seresnext101_32x4d.safetensors`)
    expect(weights.naming).toBe('timm')
    const model = seResNeXt101_32x4d()
    const { variables, report } = pretrainedVariables(model, [1, 224, 224, 3], weights, 0)
    expect(report).toEqual({ missing: [], unexpected: [] })
    const { tensors } = await readSafetensors(`${folder ?? ''}/expected.safetensors`)
    const read = (name: string): Float32Array => {
      const entry = tensors.get(name)
      if (entry === undefined) throw new Error(`no ${name}`)
      return toFloat32(name, entry)
    }
    const logits = predict(
      model,
      'f32',
      variables.params,
      variables.state,
      fromBits(read('image'), [1, 224, 224, 3], 'f32'),
    )
    const [actual, wanted] = [await logits.data(), read('logits')]
    const worst = Math.max(...wanted.map((value, i) => Math.abs(value - (actual[i] ?? Number.NaN))))
    console.log(`largest difference of ${wanted.length} logits: ${worst.toExponential(2)}`)
    expect(actual.length).toBe(1000)
    expect(worst).toBeLessThan(1e-3)
  })
})
