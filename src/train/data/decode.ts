// One image file to 8-bit RGB pixels, cut and scaled: reading and decoding run in sharp's threads, off the main one.
// What to cut is crop.ts's business; which files, and what to do with a broken one, is batches.ts's.

import { readFile } from 'node:fs/promises'
import type { Sharp, SharpOptions } from 'sharp'
import { PullbackError } from '../../tensor/errors.ts'
import type { Cut, Extent } from './crop.ts'
import { enlarge } from './enlarge.ts'

/** Decodes a file; `cut` is asked once its size in pixels is known. The result is `[window.height, window.width, 3]`. */
export type DecodeImage = (path: string, cut: (width: number, height: number) => Cut) => Promise<Uint8Array>

type OpenSharp = (input: Uint8Array, options?: SharpOptions) => Sharp

// 'error' refuses truncated and corrupt data, as PIL does, and lets harmless warnings pass; colour profiles are ignored as there.
const reading = { failOn: 'error', ignoreIcc: true } as const satisfies SharpOptions

/**
 * Loads the image decoder (at first use, so that importing the package costs nothing).
 *
 * Grey, CMYK, palette, 16-bit and transparent images all become 8-bit RGB (alpha is dropped, not blended); an EXIF
 * orientation is ignored, and of an animation the first frame is read, all as PIL's `convert('RGB')` does.
 *
 * @throws PullbackError `data` when sharp cannot be loaded on this machine
 */
export async function imageDecoder(): Promise<DecodeImage> {
  const open = await loadSharp()
  return async (path, cut) => decode(open, await readFile(path), cut)
}

async function loadSharp(): Promise<OpenSharp> {
  try {
    return (await import('sharp')).default
  } catch (cause) {
    throw new PullbackError(
      'data',
      '[data] the image decoder `sharp` cannot be loaded. Reinstall it with `npm install sharp`.',
      {
        cause,
      },
    )
  }
}

async function decode(open: OpenSharp, bytes: Uint8Array, cut: Parameters<DecodeImage>[1]): Promise<Uint8Array> {
  const { width, height, hasAlpha } = await open(bytes, reading).metadata()
  const plan = cut(width, height)
  // libvips would multiply colours by alpha before scaling; alpha is dropped first.
  const image = hasAlpha ? await withoutAlpha(open, bytes) : open(bytes, reading)
  const shrunk = {
    width: Math.min(plan.source.width, plan.target.width),
    height: Math.min(plan.source.height, plan.target.height),
  }
  const enlarges = shrunk.width < plan.target.width || shrunk.height < plan.target.height
  const pixels = await pipeline(image, { width, height }, plan, shrunk, enlarges)
  return enlarges ? enlarge(pixels, shrunk, plan.target, plan.window) : pixels
}

async function withoutAlpha(open: OpenSharp, bytes: Uint8Array): Promise<Sharp> {
  const { data, info } = await rgb(open(bytes, reading)).toBuffer({ resolveWithObject: true })
  return open(data, { raw: { width: info.width, height: info.height, channels: 3 } })
}

const rgb = (image: Sharp): Sharp => image.toColourspace('srgb').removeAlpha().raw()

async function pipeline(
  image: Sharp,
  extent: Extent,
  plan: Cut,
  shrunk: Extent,
  enlarges: boolean,
): Promise<Uint8Array> {
  let steps = image
  if (!sameExtent(plan.source, extent)) steps = steps.extract(plan.source)
  if (!sameExtent(shrunk, plan.source)) {
    steps = steps.resize({ ...shrunk, fit: 'fill', kernel: 'linear', fastShrinkOnLoad: false })
  }
  // The mirror commutes with the enlargement of a whole target, which is all a training cut has.
  if (plan.flip) steps = steps.flop()
  if (!enlarges && !sameExtent(plan.window, shrunk)) steps = steps.extract(plan.window)
  const { buffer, byteOffset, length } = await rgb(steps).toBuffer()
  return new Uint8Array(buffer, byteOffset, length)
}

const sameExtent = (a: Extent, b: Extent): boolean => a.width === b.width && a.height === b.height
