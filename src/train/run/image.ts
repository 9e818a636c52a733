// One image file as the network takes it at evaluation.
import { PullbackError } from '../../tensor/errors.ts'
import { tensor } from '../../tensor/ops/create.ts'
import type { Tensor } from '../../tensor/tensor.ts'
import { evaluationCut } from '../data/crop.ts'
import { imageDecoder } from '../data/decode.ts'

/**
 * The centre of an image, u8 [1, size, size, 3]: the shorter side is scaled to size + 32 (not resampled if it has that
 * length) and the central square is cut out.
 *
 * @throws PullbackError `data` naming the file if it cannot be read
 */
export async function imageTensor(path: string, size: number): Promise<Tensor> {
  const decode = await imageDecoder()
  try {
    const pixels = await decode(path, (width, height) => evaluationCut(width, height, size))
    return tensor(pixels, { shape: [1, size, size, 3] })
  } catch (cause) {
    const reason = cause instanceof Error ? (cause.message.split('\n')[0] ?? '') : String(cause)
    throw new PullbackError('data', `[data] could not read the image ${path}: ${reason}.`, { cause })
  }
}
