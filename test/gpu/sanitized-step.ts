// A short training step on the GPU, for programs that watch one: compute-sanitizer starts it.
import { trainSmall } from '../support/small-training.ts'
import { gpuOf, withDevice } from './part.ts'

// Whoever started it may be gone: it does not stay for ever.
setTimeout(() => process.exit(3), 120_000).unref()
const losses = await withDevice(gpuOf({ size: 'full', seed: 1 }), {}, async (device) => {
  const outcome = await trainSmall(device, { precision: 'f16', steps: 1 })
  return outcome.get('losses') ?? new Float64Array()
})
if (!losses.every(Number.isFinite)) throw new Error(`the losses are ${losses.join(', ')}`)
process.stdout.write(`a step was trained, losses ${losses.join(', ')}\n`)
