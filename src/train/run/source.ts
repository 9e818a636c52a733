// Where a run's batches come from: an image folder or random numbers, behind one small interface.
// Order, augmentation and decoding are data/'s business.
import { type BrokenImages, brokenImages } from '../data/broken.ts'
import type { BatchStream } from '../data/batch.ts'
import { evalBatches, trainBatches, trainSteps } from '../data/batches.ts'
import { type ImageFolder, type Split, imageFolder } from '../data/folder.ts'
import { syntheticBatches } from '../data/synthetic.ts'
import { ValueError } from '../../tensor/errors.ts'

/** Batches of one size, for training and for evaluation. */
export interface DataSource {
  /** One line for a run's header. */
  readonly description: string
  readonly classes: number
  /** The names of the classes by index, where they have any. */
  readonly classNames: readonly string[]
  readonly batchSize: number
  /** Pixels of an image's side. */
  readonly size: number
  readonly trainImages: number
  /** Batches of a training epoch. */
  readonly trainBatches: number
  /** The batches of a training epoch from the given one on; throws where there is no training split. */
  train(epoch: number, startBatch: number): BatchStream
  /** The batches of an evaluation; throws where there is no validation split. */
  validation(): BatchStream
  /** Images that could not be read so far. */
  readonly broken: number
}

/** What every source of batches needs. */
export interface SourceOptions {
  readonly size: number
  readonly batchSize: number
  readonly seed: number
}

/** Batches from an image folder. */
export interface FolderSourceOptions extends SourceOptions {
  readonly dir: string
  /** The splits that will be used; the others need not be there. */
  readonly splits: readonly Split[]
  /** Images decoded at a time. */
  readonly workers: number
  /** Batches made ahead. */
  readonly prefetch: number
  /** Told once of each image that cannot be read. */
  readonly onBroken?: (path: string, error: Error) => void
}

/**
 * Batches of DIR/train/<class>/<image> and DIR/val/<class>/<image>.
 *
 * @throws PullbackError `data` naming the folder that is missing or does not fit
 */
export async function folderSource(options: FolderSourceOptions): Promise<DataSource> {
  const { dir, splits, batchSize, size, seed } = options
  const broken = brokenImages(options.onBroken)
  const folders = new Map<Split, ImageFolder>()
  for (const split of splits) folders.set(split, await imageFolder(dir, split))
  const folderOf = (split: Split): ImageFolder => {
    const folder = folders.get(split)
    if (folder === undefined) throw new ValueError(`[data] expected the split ${split} to be among those asked for.`)
    return folder
  }
  const classNames = [...folders.values()][0]?.classes ?? []
  const trainImages = folders.get('train')?.paths.length ?? 0
  const common = { size, batchSize, workers: options.workers, prefetch: options.prefetch, broken }
  return {
    description: describeFolders(dir, folders),
    classes: classNames.length,
    classNames,
    batchSize,
    size,
    trainImages,
    trainBatches: trainSteps(trainImages, batchSize),
    train: (epoch, startStep) => trainBatches({ ...common, folder: folderOf('train'), seed, epoch, startStep }),
    validation: () => evalBatches({ ...common, folder: folderOf('val') }),
    get broken() {
      return countOf(broken)
    },
  }
}

const countOf = ({ count }: BrokenImages): number => count

function describeFolders(dir: string, folders: ReadonlyMap<Split, ImageFolder>): string {
  const counts = [...folders.values()].map(({ split, paths }) => `${paths.length} ${split} images`)
  const classes = [...folders.values()][0]?.classes ?? []
  return `${dir}: ${classes.length} classes, ${counts.join(', ')}`
}

/** ImageNet's numbers of images, which the synthetic source pretends to have. */
const imagenetImages = { train: 1_281_167, val: 50_000 } as const

/** The same random batch at every step, as many as ImageNet has: measures the device without the disk. */
export function syntheticSource(options: SourceOptions & { readonly classes: number }): DataSource {
  const { batchSize, classes, size } = options
  const steps = trainSteps(imagenetImages.train, batchSize)
  return {
    description: `synthetic: ${classes} classes, one random batch`,
    classes,
    classNames: [],
    batchSize,
    size,
    trainImages: imagenetImages.train,
    trainBatches: steps,
    train: (_epoch, startBatch) => syntheticBatches({ ...options, length: Math.max(0, steps - startBatch) }),
    validation: () => syntheticBatches({ ...options, length: trainSteps(imagenetImages.val, batchSize) }),
    broken: 0,
  }
}
