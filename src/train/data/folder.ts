// The image folder: DIR/train/<class>/<image> and DIR/val/<class>/<image>, as lists of paths and labels.
// Reads names only; pixels are decode.ts's business.

import { readdir, stat } from 'node:fs/promises'
import { extname, join } from 'node:path'
import { PullbackError } from '../../tensor/errors.ts'

/** The two halves of a data set. */
export type Split = 'train' | 'val'

/** The images of one split: `paths[i]` has the class `classes[labels[i]]`. */
export interface ImageFolder {
  readonly dir: string
  readonly split: Split
  /** Class names in the order of Python's `sorted`: a label is an index into them. */
  readonly classes: readonly string[]
  readonly paths: readonly string[]
  readonly labels: Int32Array
}

/** File name endings (any case) that count as images. */
export const imageExtensions: readonly string[] = ['.jpg', '.jpeg', '.png', '.webp', '.gif', '.tif', '.tiff', '.avif']

const layout = 'DIR/train/<class>/<image> and DIR/val/<class>/<image>'

/**
 * Lists the images of one split of an image folder.
 *
 * A class is a folder (or a link to one), its images are all files below it whose ending is in `imageExtensions`.
 * Names that begin with a dot are passed over. Where both splits exist their classes must be the same.
 *
 * @throws PullbackError `data` when a folder is missing, a class is empty, there are fewer than two classes, or the
 * classes of train and val differ; the message names the path
 */
export async function imageFolder(dir: string, split: Split): Promise<ImageFolder> {
  const classes = await classesOf(dir, split)
  if (classes === undefined) throw await missingSplit(dir, split)
  const root = join(dir, split)
  if (classes.length < 2) throw fault(`[data] expected at least two class folders in ${root}, got ${got(classes)}.`)
  await checkOtherSplit(dir, split, classes)
  const lists = await inOrder(classes, (name) => imagesBelow(join(root, name)))
  classes.forEach((name, label) => {
    if (lists[label]?.length === 0)
      throw fault(`[data] expected images in ${join(root, name)}, got none (${endings()}).`)
  })
  const labels = Int32Array.from(lists.flatMap((paths, label) => paths.map(() => label)))
  return { dir, split, classes, paths: lists.flat(), labels }
}

const fault = (message: string, options?: ErrorOptions): PullbackError => new PullbackError('data', message, options)
const endings = (): string => imageExtensions.map((ending) => `*${ending}`).join(' ')
const got = (classes: readonly string[]): string => (classes.length === 0 ? 'none' : `only '${classes.join("', '")}'`)

async function missingSplit(dir: string, split: Split): Promise<PullbackError> {
  const other = split === 'train' ? 'val' : 'train'
  if (!(await isFolder(dir))) return fault(`[data] expected a folder at ${dir}, got none. Its layout is ${layout}.`)
  if (!(await isFolder(join(dir, other))))
    return fault(`[data] expected the layout ${layout}, got neither train nor val in ${dir}.`)
  return fault(`[data] expected a folder at ${join(dir, split)}, got none. The layout is ${layout}.`)
}

async function checkOtherSplit(dir: string, split: Split, classes: readonly string[]): Promise<void> {
  const other = split === 'train' ? 'val' : 'train'
  const otherClasses = await classesOf(dir, other)
  if (otherClasses === undefined) return
  const train = new Set(split === 'train' ? classes : otherClasses)
  const val = new Set(split === 'val' ? classes : otherClasses)
  const onlyTrain = [...train].filter((name) => !val.has(name))
  const onlyVal = [...val].filter((name) => !train.has(name))
  if (onlyTrain.length + onlyVal.length === 0) return
  const parts = [
    ...(onlyTrain.length > 0 ? [`only in train: ${named(onlyTrain)}`] : []),
    ...(onlyVal.length > 0 ? [`only in val: ${named(onlyVal)}`] : []),
  ]
  throw fault(
    `[data] expected the same classes in ${join(dir, 'train')} and ${join(dir, 'val')}, got ${parts.join('; ')}.`,
  )
}

/** At most ten names, and how many more. */
function named(names: readonly string[]): string {
  const shown = names.slice(0, 10).map((name) => `'${name}'`)
  return names.length > 10 ? `${shown.join(', ')} and ${names.length - 10} more` : shown.join(', ')
}

/** The class names of a split, or undefined where there is no such folder. */
async function classesOf(dir: string, split: Split): Promise<readonly string[] | undefined> {
  const root = join(dir, split)
  if (!(await isFolder(root))) return undefined
  return (await entriesOf(root)).folders
}

async function isFolder(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined)
  return found?.isDirectory() ?? false
}

interface Entries {
  readonly folders: readonly string[]
  readonly images: readonly string[]
}

/** The sub-folders and images of a folder, each sorted; links are followed, broken links passed over. */
async function entriesOf(path: string): Promise<Entries> {
  const entries = await readdir(path, { withFileTypes: true }).catch((cause: unknown) => {
    throw fault(`[data] expected a readable folder at ${path}, got an error from the file system.`, { cause })
  })
  const folders: string[] = []
  const images: string[] = []
  for (const entry of entries) {
    if (entry.name.startsWith('.')) continue
    const target = entry.isSymbolicLink() ? await stat(join(path, entry.name)).catch(() => undefined) : entry
    if (target?.isDirectory()) folders.push(entry.name)
    else if (target?.isFile() && imageExtensions.includes(extname(entry.name).toLowerCase())) images.push(entry.name)
  }
  return { folders: sortedAsPython(folders), images: sortedAsPython(images) }
}

/** Every image below a folder: its own first, then those of each sub-folder. The depth limit stops links in a circle. */
async function imagesBelow(path: string, depth = 0): Promise<readonly string[]> {
  if (depth > 16)
    throw fault(`[data] expected class folders at most 16 levels deep, got ${path}. Is there a link in a circle?`)
  const { folders, images } = await entriesOf(path)
  const below = await inOrder(folders, (name) => imagesBelow(join(path, name), depth + 1))
  return [...images.map((name) => join(path, name)), ...below.flat()]
}

/** Maps in order, with at most 16 at work at a time: thousands of folders must not exhaust file handles. */
async function inOrder<T, U>(items: readonly T[], map: (item: T) => Promise<U>): Promise<U[]> {
  const results: U[] = []
  for (let start = 0; start < items.length; start += 16) {
    results.push(...(await Promise.all(items.slice(start, start + 16).map(map))))
  }
  return results
}

/** Sorted by code point, as Python's `sorted` does; JavaScript's own order differs above U+D7FF. */
export function sortedAsPython(names: readonly string[]): string[] {
  if (!names.some((name) => /[\ud800-\uffff]/.test(name))) return names.toSorted()
  const encoded = names.map((name) => ({ name, bytes: Buffer.from(name) }))
  return encoded.sort((a, b) => Buffer.compare(a.bytes, b.bytes)).map(({ name }) => name)
}
