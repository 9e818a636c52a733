// Generated photographs, so to speak: circles and stars in red and blue before noisy, shaded, speckled backgrounds.
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

const classes = ['blue_circle', 'blue_star', 'red_circle', 'red_star'] as const
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
/** An image in the making: [size, size, 3]. */
interface Canvas {
  readonly size: number
  readonly values: Float32Array
}

/** A background, three specks of any colour, and nine of the shape on top, so that every crop shows some. */
function drawImage(name: ShapeClass, size: number, random: Random): Uint8ClampedArray {
  const canvas: Canvas = { size, values: new Float32Array(size * size * 3) }
  paintBands(canvas, random)
  for (let speck = 0; speck < 3; speck++) paintSpeck(canvas, random)
  for (let cell = 0; cell < 9; cell++) paintShape(canvas, name, cell, random)
  return Uint8ClampedArray.from(canvas.values, (value) => value + 24 * (random() - 0.5))
}

const between = (random: Random, low: number, high: number): number => low + (high - low) * random()
const anyColour = (random: Random): Colour => [255 * random(), 255 * random(), 255 * random()]

/** Two colours in slanted bands. */
function paintBands({ size, values }: Canvas, random: Random): void {
  const [one, other] = [anyColour(random), anyColour(random)]
  const angle = between(random, 0, Math.PI)
  const frequency = (between(random, 0.3, 1.2) * 2 * Math.PI) / size
  const phase = between(random, 0, 2 * Math.PI)
  for (let pixel = 0; pixel < size * size; pixel++) {
    const along = (pixel % size) * Math.cos(angle) + Math.floor(pixel / size) * Math.sin(angle)
    mixIn(values, pixel, one, 1)
    mixIn(values, pixel, other, 0.5 + 0.35 * Math.sin(frequency * along + phase))
  }
}

function paintSpeck(canvas: Canvas, random: Random): void {
  const { size } = canvas
  const colour = anyColour(random)
  const [x, y, radius] = [between(random, 0, size), between(random, 0, size), between(random, 0.03, 0.08) * size]
  paintOutlined(canvas, [x, y], radius, colour, (u, v) => radius - Math.hypot(u, v))
}

/** A circle or a star of random brightness, somewhere in its ninth of the picture. */
function paintShape(canvas: Canvas, name: ShapeClass, cell: number, random: Random): void {
  const { size } = canvas
  const radius = between(random, 0.11, 0.15) * size
  const place = (part: number): number => ((part + between(random, 0.3, 0.7)) * size) / 3
  const centre = [place(cell % 3), place(Math.floor(cell / 3))] as const
  const [turn, points] = [between(random, 0, 2 * Math.PI), Math.floor(between(random, 6, 9))]
  const [strong, weak] = [between(random, 170, 255), between(random, 0, 60)]
  const colour: Colour = name.startsWith('red') ? [strong, weak, weak] : [weak, weak, strong]
  const circle = (u: number, v: number): number => 1.1 * radius - Math.hypot(u, v)
  const star = (u: number, v: number): number => {
    const ray = 0.5 + 0.5 * Math.cos(points * Math.atan2(v, u) + turn) // 1 along a point, 0 between two
    return 1.25 * radius * (0.25 + 0.75 * ray ** 3) - Math.hypot(u, v)
  }
  paintOutlined(canvas, centre, 1.25 * radius, colour, name.endsWith('circle') ? circle : star)
}

/** Paints what `inside` says is within an outline: the signed distance from it, of points relative to the centre. */
function paintOutlined(
  { size, values }: Canvas,
  [x, y]: readonly [number, number],
  reach: number,
  colour: Colour,
  inside: (u: number, v: number) => number,
): void {
  const first = (centre: number): number => Math.max(0, Math.floor(centre - reach - 1))
  const last = (centre: number): number => Math.min(size - 1, Math.ceil(centre + reach + 1))
  for (let row = first(y); row <= last(y); row++) {
    for (let column = first(x); column <= last(x); column++) {
      const cover = Math.max(0, Math.min(1, inside(column + 0.5 - x, row + 0.5 - y) + 0.5))
      if (cover > 0) mixIn(values, row * size + column, colour, cover)
    }
  }
}

/** Covers a part of a pixel with a colour. */
function mixIn(values: Float32Array, pixel: number, colour: Colour, cover: number): void {
  for (let channel = 0; channel < 3; channel++) {
    const below = values[pixel * 3 + channel] ?? 0
    values[pixel * 3 + channel] = below + cover * ((colour[channel] ?? 0) - below)
  }
}

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
