// Kernels of several texts as one launch: a block finds the kernel it belongs to, and its text is one branch of the whole.
// Arguments that all of a text share are there once, so that an optimizer over hundreds of tensors is one launch. Which
// kernels may be together is together.ts's part.
import type { PrintedSource } from '../compile/print/index.ts'
import { nameOf } from '../compile/print/name.ts'
import { InternalError } from '../tensor/errors.ts'
import { at, range } from '../tensor/shape.ts'
import type { BoundKernel, Place } from './lower.ts'

/** Bytes that the arguments of a launch may have (CUDA 12.1 and newer), with room to spare. */
export const argumentBytes = 32_000
/** Shared memory of all texts of one launch together: each has its own. */
const mostSharedBytes = 24_576
/** Texts of one launch. */
const mostTexts = 16
/**
 * Arguments of a kernel, in words, that leave room for others beside it: they come into registers here, the text that needs
 * most of those decides for all, and kernels that move much should not be slowed down by one with a long list.
 */
const mostWords = { map: 28, reduce: 18 } as const
/** There are a multiple of so many words of numbers. */
const rounding = 64
/** Kernels of one text that come into a launch or stay out of it together. */
const chunk = 32

/** Kernels of one text. */
type Part = readonly BoundKernel[]

/** Launches that together do what the kernels do, as few as their arguments allow; those of most blocks begin. */
export function mixedLaunches(kernels: readonly BoundKernel[]): readonly BoundKernel[] {
  const isWide = ({ source, places, numbers }: BoundKernel): boolean =>
    places.length + numbers.length > (sharedBytesOf(source) === 0 ? mostWords.map : mostWords.reduce)
  return [kernels.filter((kernel) => !isWide(kernel)), kernels.filter(isWide)].flatMap(launchesOf)
}

function launchesOf(kernels: readonly BoundKernel[]): readonly BoundKernel[] {
  const launches: Part[][] = []
  let parts: Part[] = []
  for (const piece of piecesOf(kernels)) {
    const more = withPiece(parts, piece)
    if (parts.length > 0 && !fits(more)) {
      launches.push(parts)
      parts = [piece]
    } else parts = more
  }
  return [...launches, ...(parts.length === 0 ? [] : [parts])].map(launchOf)
}

/** Pieces of few kernels of one text each, the texts of most blocks first: the small ones fill what those leave idle. */
function piecesOf(kernels: readonly BoundKernel[]): readonly Part[] {
  const texts = new Map<string, BoundKernel[]>()
  for (const kernel of kernels) {
    const { name } = kernel.source
    texts.set(name, [...(texts.get(name) ?? []), kernel])
  }
  const blocks = (part: Part): number => part.reduce((sum, kernel) => sum + kernel.blocks, 0)
  return [...texts.values()]
    .sort((a, b) => blocks(b) - blocks(a))
    .flatMap((part) => {
      const { places, numbers } = at(part, 0)
      const words = argumentBytes / 8 - rounding
      const size = Math.min(chunk, Math.floor(words / (places.length + numbers.length + 1))) // one piece always fits
      return range(Math.ceil(part.length / size)).map((piece) => part.slice(piece * size, (piece + 1) * size))
    })
}

function withPiece(parts: readonly Part[], piece: Part): Part[] {
  const last = parts.at(-1)
  return last !== undefined && at(last, 0).source.name === at(piece, 0).source.name
    ? [...parts.slice(0, -1), [...last, ...piece]]
    : [...parts, piece]
}

function fits(parts: readonly Part[]): boolean {
  const { places, numbers } = layOut(parts)
  const shared = parts.reduce((sum, part) => sum + sharedBytesOf(at(part, 0).source), 0)
  return parts.length <= mostTexts && shared <= mostSharedBytes && 8 * (places.length + numbers.length) <= argumentBytes
}

/** The shared memory that a printed text declares. */
function sharedBytesOf({ text }: PrintedSource): number {
  return [...text.matchAll(/PB_SHARED uint64_t \w+\[(\d+)\]/g)].reduce((sum, [, words]) => sum + 8 * Number(words), 0)
}

/** Where the pointers of a part's kernels are: in the words that all share, or in each kernel's own. */
interface PartPointers {
  /** For each pointer the C expression of it. */
  readonly pointers: readonly string[]
  /** Where the first kernel's own begin, and how many each has. */
  readonly first: number
  readonly each: number
}

/** The arguments: pointers that kernels share, then each kernel's own; a word for each kernel, then rows of numbers. */
interface Layout {
  readonly parts: readonly PartPointers[]
  readonly places: readonly Place[]
  readonly numbers: readonly number[]
}

function layOut(parts: readonly Part[]): Layout {
  const shared = new Pool<Place>(({ slot, offset }) => `${slot} ${offset}`)
  const own: Place[] = []
  const roles = parts.map((part) => {
    const pointers = rolesOf(part).map((role) =>
      role.kind === 'shared' ? `a.p[${shared.add(role.place)}]` : `own[${role.lane}]`,
    )
    const lanes = ownPositions(part)
    const first = own.length
    for (const kernel of part) own.push(...lanes.map((position) => at(kernel.places, position)))
    return { pointers, first, each: lanes.length }
  })
  return {
    parts: roles.map((role) => ({ ...role, first: shared.items.length + role.first })),
    places: [...shared.items, ...own],
    numbers: numbersOf(parts.flat()),
  }
}

/** Distinct things in the order in which they came, each with its number. */
class Pool<T> {
  readonly items: T[] = []
  readonly #known = new Map<string, number>()

  constructor(private readonly keyOf: (item: T) => string) {}

  add(item: T): number {
    const key = this.keyOf(item)
    const known = this.#known.get(key) ?? this.items.push(item) - 1
    this.#known.set(key, known)
    return known
  }
}

type Role = { readonly kind: 'shared'; readonly place: Place } | { readonly kind: 'own'; readonly lane: number }

/** What each pointer of a part is: the same for all its kernels, or one of each kernel's own, where equal ones are one. */
function rolesOf(part: Part): readonly Role[] {
  const lanes = ownPositions(part)
  return range(at(part, 0).places.length).map((position): Role => {
    const lane = lanes.findIndex((earlier) => alike(part, earlier, position))
    return lane < 0 ? { kind: 'shared', place: at(at(part, 0).places, position) } : { kind: 'own', lane }
  })
}

/** The pointers that differ between a part's kernels, without those that are another one in each of them. */
function ownPositions(part: Part): readonly number[] {
  const first = at(part, 0).places
  const lanes: number[] = []
  for (const position of range(first.length)) {
    const same = part.every(({ places }) => samePlace(at(places, position), at(first, position)))
    if (!same && !lanes.some((lane) => alike(part, lane, position))) lanes.push(position)
  }
  return lanes
}

/** Whether two pointers are the same in each kernel. */
function alike(part: Part, one: number, other: number): boolean {
  return part.every(({ places }) => samePlace(at(places, one), at(places, other)))
}

function samePlace(a: Place, b: Place): boolean {
  return a.slot === b.slot && a.offset === b.offset
}

/** For each kernel its first block and, above 32 bits, where its numbers begin; then the rows of numbers, each once. */
function numbersOf(kernels: readonly BoundKernel[]): readonly number[] {
  const rows = new Pool<readonly number[]>((row) => row.join(' '))
  const rowOf = kernels.map(({ numbers }) => rows.add(numbers))
  const starts: number[] = []
  let next = kernels.length
  for (const row of rows.items) {
    starts.push(next)
    next += row.length
  }
  let blocks = 0
  const heads = kernels.map((kernel, index) => {
    const head = at(starts, at(rowOf, index)) * 2 ** 32 + blocks
    blocks += kernel.blocks
    return head
  })
  if (blocks >= 2 ** 31) throw new InternalError(`${kernels.length} kernels together in ${blocks} blocks`)
  const words = [...heads, ...rows.items.flat()]
  // The text names how many there are: it should not be another one for other extents.
  return [...words, ...range(Math.ceil(words.length / rounding) * rounding - words.length).map(() => 0)]
}

function launchOf(parts: readonly Part[]): BoundKernel {
  const kernels = parts.flat()
  const first = at(kernels, 0)
  if (kernels.length === 1) return first
  const layout = layOut(parts)
  return {
    ...first,
    source: nameOf('pbm', (symbol) => print(symbol, parts, layout)),
    blocks: kernels.reduce((sum, { blocks }) => sum + blocks, 0),
    places: layout.places,
    numbers: layout.numbers,
    joined: kernels.slice(1).map(({ step }) => step),
    label: `${first.label} and ${kernels.length - 1} more of ${parts.length} texts`,
  }
}

/** The texts as functions, and a kernel whose blocks call the one they belong to. */
function print(symbol: string, parts: readonly Part[], { parts: pointers, places, numbers }: Layout): string {
  const functions = parts.map((part, index) => asPart(at(part, 0), `${symbol}_${index}`))
  let end = 0
  const branches = parts.map((part, index) => {
    const begin = end
    end += part.length
    const { pointers: expressions, first, each } = at(pointers, index)
    const own = each > 0 ? `void *const *const own = a.p + ${first} + (i - ${begin}u) * ${each}u;\n    ` : ''
    return `if (i < ${end}u) {
    ${own}void *const p[] = {${expressions.join(', ')}};
    ${symbol}_${index}({p, a.n + (head >> 32)}, {pb_block() - (uint32_t)head});
  }`
  })
  return `${functions.join('')}PB_KERNEL_MIXED(${symbol}, ${places.length}, ${numbers.length}) {
  const uint32_t i = pb_member<${end}>(a.n, pb_block());
  const int64_t head = a.n[i];
  ${branches.join(' else ')}
}
`
}

/** A kernel's text as a function that is told its arguments and its block. */
function asPart({ source: { name, text }, places, numbers }: BoundKernel, symbol: string): string {
  const head = `PB_KERNEL(${name}, ${places.length}, ${numbers.length})`
  if (!text.includes(head)) throw new InternalError(`${name} has another head than ${head}`)
  return text.replace(head, `PB_PART(${symbol})`)
}
