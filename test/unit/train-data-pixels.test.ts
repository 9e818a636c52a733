// Decoding against PIL's numbers, and every kind of image file becoming 8-bit RGB.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import type { Sharp } from 'sharp'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { evaluationCut, trainingCut, whole } from '../../src/train/data/crop.ts'
import type { Cut } from '../../src/train/data/crop.ts'
import { imageDecoder } from '../../src/train/data/decode.ts'
import { enlarge } from '../../src/train/data/enlarge.ts'

let dir = ''
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pullback-pixels-'))
})
afterAll(() => rm(dir, { recursive: true, force: true }))

/** A pattern that is different at every pixel and in every channel, and not symmetric. */
function pattern(width: number, height: number, channels: 1 | 3 | 4 = 3): Uint8Array {
  return Uint8Array.from({ length: width * height * channels }, (_, i) => {
    const channel = i % channels
    const x = Math.floor(i / channels) % width
    const y = Math.floor(i / channels / width)
    return channel === 3 ? (x + y) % 256 : (x * (3 + channel) + y * 7 + ((x * y) >> 3)) % 256
  })
}

const raw = (width: number, height: number, channels: 1 | 3 | 4 = 3) =>
  sharp(pattern(width, height, channels), { raw: { width, height, channels } })

async function saved(name: string, image: Sharp): Promise<string> {
  const path = join(dir, name)
  await image.toFile(path)
  return path
}

const asIs = (width: number, height: number): Cut => ({
  source: whole({ width, height }),
  target: { width, height },
  window: whole({ width, height }),
  flip: false,
})

describe('cuts', () => {
  it('leaves an image whose shorter side is size + 32 to the bit: a pure crop', async () => {
    const path = await saved('pure.png', raw(80, 64))
    const decode = await imageDecoder()
    const got = await decode(path, (width, height) => evaluationCut(width, height, 32))
    const all = pattern(80, 64)
    const want = Uint8Array.from({ length: 32 * 32 * 3 }, (_, i) => {
      const x = 24 + (Math.floor(i / 3) % 32)
      const y = 16 + Math.floor(i / 96)
      return all[(y * 80 + x) * 3 + (i % 3)] ?? -1
    })
    expect(got).toEqual(new Uint8Array(want))
  })

  it('takes the crop out of the right place and mirrors it', async () => {
    const path = await saved('crop.png', raw(40, 30))
    const decode = await imageDecoder()
    const got = await decode(path, () => trainingCut({ left: 5, top: 7, width: 8, height: 8 }, 8, true))
    const all = pattern(40, 30)
    const want = Uint8Array.from({ length: 192 }, (_, i) => {
      const x = 5 + 7 - (Math.floor(i / 3) % 8)
      const y = 7 + Math.floor(i / 24)
      return all[(y * 40 + x) * 3 + (i % 3)] ?? -1
    })
    expect(got).toEqual(new Uint8Array(want))
  })

  it('gives size x size for every shape of image, a pixel thin ones too', async () => {
    const decode = await imageDecoder()
    for (const [width, height] of [
      [1, 1],
      [1, 90],
      [90, 1],
      [33, 200],
      [64, 64],
      [300, 40],
    ] as const) {
      const path = await saved(`thin${width}x${height}.png`, raw(width, height))
      expect((await decode(path, (w, h) => evaluationCut(w, h, 32))).length).toBe(32 * 32 * 3)
      expect((await decode(path, (w, h) => trainingCut(whole({ width: w, height: h }), 32, true))).length).toBe(
        32 * 32 * 3,
      )
    }
  })
})

describe('scaling', () => {
  // PIL.Image.fromarray(a).resize((16, 2), PIL.Image.BILINEAR) of a row 0, 30, ..., 210. libvips alone gave 0 0 15 30 ...
  it('enlarges on the grid of PIL: half-pixel centres, edges held', () => {
    const row = Uint8Array.from({ length: 8 * 3 }, (_, i) => Math.floor(i / 3) * 30)
    const wide = enlarge(row, { width: 8, height: 1 }, { width: 16, height: 1 }, whole({ width: 16, height: 1 }))
    expect(Array.from(wide).filter((_, i) => i % 3 === 1)).toEqual([
      0, 8, 23, 38, 53, 68, 83, 98, 113, 128, 143, 158, 173, 188, 203, 210,
    ])
  })

  it('a window of an enlargement is that window of the whole enlargement', () => {
    const pixels = pattern(9, 7)
    const target = { width: 21, height: 30 }
    const all = enlarge(pixels, { width: 9, height: 7 }, target, whole(target))
    const part = enlarge(pixels, { width: 9, height: 7 }, target, { left: 6, top: 11, width: 5, height: 4 })
    const want = Array.from({ length: 60 }, (_, i) => {
      const x = 6 + (Math.floor(i / 3) % 5)
      return all[((11 + Math.floor(i / 15)) * 21 + x) * 3 + (i % 3)]
    })
    expect(Array.from(part)).toEqual(want)
  })

  // PIL: Image.fromarray(bowl).resize((8, 8), BILINEAR) of 16 x 16 pixels (x x + y y) // 2. Compared away from the edge,
  // where libvips repeats the last pixel and PIL leaves the outside out of the average.
  it('shrinks with the triangle filter of PIL', async () => {
    const bowl = Uint8Array.from({ length: 16 * 16 * 3 }, (_, i) => {
      const x = Math.floor(i / 3) % 16
      const y = Math.floor(i / 48)
      return (x * x + y * y) >> 1
    })
    const path = await saved('bowl.png', sharp(bowl, { raw: { width: 16, height: 16, channels: 3 } }))
    const decode = await imageDecoder()
    const got = await decode(path, () => trainingCut({ left: 0, top: 0, width: 16, height: 16 }, 8, false))
    const pil = [
      [1, 4, 11, 22, 37, 56, 79, 103],
      [4, 7, 14, 25, 40, 59, 82, 106],
      [11, 14, 21, 32, 47, 66, 89, 113],
      [22, 25, 32, 43, 58, 77, 100, 124],
      [37, 40, 47, 58, 73, 92, 115, 139],
      [56, 59, 66, 77, 92, 111, 134, 158],
      [79, 82, 89, 100, 115, 134, 157, 181],
      [103, 106, 113, 124, 139, 158, 181, 205],
    ]
    for (let y = 1; y < 7; y++) {
      for (let x = 1; x < 7; x++) {
        expect(Math.abs((got[(y * 8 + x) * 3] ?? -9) - (pil[y]?.[x] ?? 999)), `${x} ${y}`).toBeLessThanOrEqual(1)
      }
    }
  })
})

describe('kinds of files', () => {
  it('grey, transparent, palette, 16-bit, CMYK and animated images become 8-bit RGB', async () => {
    const decode = await imageDecoder()
    const grey = await decode(await saved('grey.png', raw(20, 10, 1).toColourspace('b-w')), asIs)
    expect(grey).toEqual(new Uint8Array(Array.from(pattern(20, 10, 1)).flatMap((v) => [v, v, v])))

    const four = pattern(20, 10, 4)
    const colours = Array.from({ length: 600 }, (_, i) => four[Math.floor(i / 3) * 4 + (i % 3)])
    expect(Array.from(await decode(await saved('alpha.png', raw(20, 10, 4)), asIs))).toEqual(colours)

    const deep = await saved('deep.png', raw(20, 10).toColourspace('rgb16'))
    expect(await decode(deep, asIs)).toEqual(new Uint8Array(pattern(20, 10)))

    const others = [
      await saved('cmyk.jpg', raw(20, 10).toColourspace('cmyk').jpeg()),
      await saved('grey16.png', raw(20, 10, 1).toColourspace('grey16')),
      await saved('palette.png', raw(20, 10).png({ palette: true })),
      await saved('page.gif', raw(20, 10).gif()),
      await saved('page.webp', raw(20, 10).webp()),
      await saved('page.tiff', raw(20, 10).tiff()),
    ]
    for (const path of others) expect((await decode(path, asIs)).length, path).toBe(600)
  })

  it('scales a transparent image by its colours alone', async () => {
    // Premultiplied scaling would make every colour under alpha 0 black.
    const clear = new Uint8Array(32 * 32 * 4).map((_, i) => (i % 4 === 3 ? 0 : 200))
    const path = await saved('clear.png', sharp(clear, { raw: { width: 32, height: 32, channels: 4 } }))
    const decode = await imageDecoder()
    const got = await decode(path, () => trainingCut({ left: 0, top: 0, width: 32, height: 32 }, 8, false))
    expect(new Set(got)).toEqual(new Set([200]))
  })

  it('ignores the EXIF orientation', async () => {
    const path = await saved('turned.png', raw(20, 10).withMetadata({ orientation: 6 }).png())
    const decode = await imageDecoder()
    expect(await decode(path, asIs)).toEqual(new Uint8Array(pattern(20, 10)))
  })

  it('refuses truncated and foreign files', async () => {
    const decode = await imageDecoder()
    const jpeg = await raw(64, 64).jpeg().toBuffer()
    const files = {
      'half.jpg': jpeg.subarray(0, jpeg.length / 2),
      'empty.jpg': Buffer.alloc(0),
      'text.png': Buffer.from('hello'),
    }
    for (const [name, bytes] of Object.entries(files)) {
      await writeFile(join(dir, name), bytes)
      await expect(decode(join(dir, name), asIs), name).rejects.toThrow()
    }
    await expect(decode(join(dir, 'absent.jpg'), asIs)).rejects.toThrow('ENOENT')
  })
})
