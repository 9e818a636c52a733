// Generated photographs, so to speak: circles and squares in red and blue before noisy, striped, speckled backgrounds.
// Neither shape nor colour alone tells the four classes apart. The same seed gives the same files.
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import sharp from 'sharp'

export interface ShapesOptions {
  /** Images of each split, spread evenly over the classes. */
  readonly train: number
  readonly val: number
  /** Pixels of an image's side. */
  readonly size: number
  readonly seed: number
}

const classes = ['blue_circle', 'blue_square', 'red_circle', 'red_square'] as const
type ShapeClass = (typeof classes)[number]

/** Writes DIR/train/<class>/<image>.jpg and DIR/val/<class>/<image>.jpg. */
export async function writeShapes(dir: string, options: ShapesOptions): Promise<void> {
  for (const split of ['train', 'val'] as const) {
    for (const name of classes) await mkdir(join(dir, split, name), { recursive: true })
    const images = Array.from({ length: options[split] }, (_, index) => index)
    await Promise.all(images.map((index) => writeImage(dir, split, index, options)))
  }
}

async function writeImage(dir: string, split: 'train' | 'val', index: number, { size, seed }: ShapesOptions) {
  const name = classes[index % classes.length] ?? 'red_circle'
  const random = generator(seed * 2 + (split === 'val' ? 1 : 0), index)
  const path = join(dir, split, name, `${String(index).padStart(5, '0')}.jpg`)
  await sharp(drawImage(name, size, random), { raw: { width: size, height: size, channels: 3 } })
    .jpeg({ quality: 90 })
    .toFile(path)
}

type Random = () => number
type Colour = readonly [number, number, number]
/** How much of a pixel something covers, 0 to 1, and its colour there. */
type Paint = (x: number, y: number) => readonly [cover: number, colour: Colour]

/** A background, three specks of any colour, and the shape on top. */
function drawImage(name: ShapeClass, size: number, random: Random): Uint8Array {
  const background = backgroundPaint(size, random)
  const specks = Array.from({ length: 3 }, () => speckPaint(size, random))
  const shape = shapePaint(name, size, random)
  const pixels = new Uint8Array(size * size * 3)
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      let colour: Colour = background(x, y)[1]
      for (const paint of [...specks, shape]) colour = blend(colour, ...paint(x + 0.5, y + 0.5))
      const noise = 24 * (random() - 0.5)
      colour.forEach((value, channel) => {
        pixels[(y * size + x) * 3 + channel] = Math.max(0, Math.min(255, Math.round(value + noise)))
      })
    }
  }
  return pixels
}

const blend = (below: Colour, cover: number, above: Colour): Colour => [
  below[0] + cover * (above[0] - below[0]),
  below[1] + cover * (above[1] - below[1]),
  below[2] + cover * (above[2] - below[2]),
]

const between = (random: Random, low: number, high: number): number => low + (high - low) * random()
const anyColour = (random: Random): Colour => [255 * random(), 255 * random(), 255 * random()]

/** Two colours in slanted stripes. */
function backgroundPaint(size: number, random: Random): Paint {
  const [one, other] = [anyColour(random), anyColour(random)]
  const angle = between(random, 0, Math.PI)
  const frequency = between(random, 1, 6) * ((2 * Math.PI) / size)
  const phase = between(random, 0, 2 * Math.PI)
  return (x, y) => {
    const wave = Math.sin(frequency * (x * Math.cos(angle) + y * Math.sin(angle)) + phase)
    return [1, blend(one, 0.5 + 0.35 * wave, other)]
  }
}

function speckPaint(size: number, random: Random): Paint {
  const colour = anyColour(random)
  const [left, top, radius] = [between(random, 0, size), between(random, 0, size), between(random, 0.03, 0.08) * size]
  return (x, y) => [edge(radius - Math.hypot(x - left, y - top)), colour]
}

/** A circle or a turned square of random brightness, where evaluation's central crop shows it whole. */
function shapePaint(name: ShapeClass, size: number, random: Random): Paint {
  const radius = between(random, 0.15, 0.24) * size
  const [left, top] = [between(random, 0.4, 0.6) * size, between(random, 0.4, 0.6) * size]
  const turn = between(random, 0, Math.PI / 2)
  const [strong, weak] = [between(random, 170, 255), between(random, 0, 60)]
  const colour: Colour = name.startsWith('red') ? [strong, weak, weak] : [weak, weak, strong]
  const inside = (x: number, y: number): number => {
    if (name.endsWith('circle')) return radius - Math.hypot(x, y)
    const [u, v] = [x * Math.cos(turn) + y * Math.sin(turn), y * Math.cos(turn) - x * Math.sin(turn)]
    return 0.886 * radius - Math.max(Math.abs(u), Math.abs(v)) // the circle's area
  }
  return (x, y) => [edge(inside(x - left, y - top)), colour]
}

/** Coverage of a pixel at a signed distance from an outline. */
const edge = (distance: number): number => Math.max(0, Math.min(1, distance + 0.5))

/** Numbers from 0 to 1 that depend on the seed and the image's index alone (mulberry32). */
function generator(seed: number, index: number): Random {
  let state = (Math.imul(seed + 1, 0x9e3779b1) ^ Math.imul(index + 1, 0x85ebca6b)) | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}
