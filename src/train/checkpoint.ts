// What is in a checkpoint: the train state as named tensors, the position of the run as metadata, and the way back.
// Which files are kept is files/checkpoint.ts's business; what a run does with them is run/start.ts's.
import { type DType, type StorageArray, storageView } from '../tensor/dtype.ts'
import { PullbackError } from '../tensor/errors.ts'
import { fromBits } from '../tensor/ops/create.ts'
import { showShape, sameShape, zip } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { flatten, unflatten } from '../tensor/tree.ts'
import type { TensorTree } from '../nn/layer.ts'
import type { FileDType } from './files/header.ts'
import { exportWeight, importWeight } from './files/names.ts'
import { type FileTensor, type NamedTensor, type Safetensors, readSafetensors } from './files/safetensors.ts'
import type { TrainState } from './state.ts'

/** Where a run is between two steps. */
export interface RunPosition {
  /** The epoch in progress, or the next one, from 0. */
  readonly epoch: number
  /** Steps of that epoch already taken. */
  readonly step: number
  /** The best top-1 of an evaluation so far, in percent; 0 before the first one. */
  readonly bestTop1: number
  /** The epoch of that evaluation; -1 before the first one. */
  readonly bestEpoch: number
}

/** What must agree between the run that wrote a checkpoint and the one that resumes it for the same bits to follow. */
export interface RunIdentity {
  readonly seed: number
  readonly batchSize: number
  /** Batches a step. */
  readonly accumulate: number
  /** Images of the training split. */
  readonly trainImages: number
}

/** A checkpoint as read: every tensor is still in the file's layout. */
export interface Checkpoint {
  readonly path: string
  readonly position: RunPosition
  readonly identity: RunIdentity
  /** Anything else the writer noted: the architecture's name and options. */
  readonly metadata: ReadonlyMap<string, string>
  readonly tensors: ReadonlyMap<string, FileTensor>
}

const format = 'pullback-checkpoint-1'

/**
 * The tensors of a checkpoint: weights and running statistics under NVIDIA's names and in its layout, so that they load
 * elsewhere; `optimizer.*` and `ema.*` in the same layout; the rest of the state under `train.*`. Reads the whole state.
 */
export async function checkpointEntries(state: TrainState): Promise<NamedTensor[]> {
  const { leaves, structure } = flatten<Tensor>(state)
  return Promise.all(zip(structure.paths, leaves).map(([path, leaf]) => fileEntry(entryName(path), leaf)))
}

/** The metadata of a checkpoint; `notes` is what the caller wants to find again. */
export function checkpointMetadata(
  position: RunPosition,
  identity: RunIdentity,
  notes: Readonly<Record<string, string>> = {},
): Record<string, string> {
  return {
    ...notes,
    format,
    epoch: String(position.epoch),
    step_in_epoch: String(position.step),
    best_prec1: String(position.bestTop1),
    best_epoch: String(position.bestEpoch),
    seed: String(identity.seed),
    batch_size: String(identity.batchSize),
    accumulate: String(identity.accumulate),
    train_images: String(identity.trainImages),
  }
}

/**
 * Reads a checkpoint file.
 *
 * @throws PullbackError `file` if it cannot be read, is damaged, or holds weights without a run to resume
 */
export async function readCheckpoint(path: string): Promise<Checkpoint> {
  const { tensors, metadata }: Safetensors = await readSafetensors(path)
  if (metadata.get('format') !== format)
    throw new PullbackError(
      'file',
      `[checkpoint] expected a checkpoint of a run in ${path}, got other tensors. Weights alone go to --pretrained-from-file.`,
    )
  const number = (key: string): number => {
    const value = Number(metadata.get(key) ?? 'missing')
    if (Number.isNaN(value))
      throw new PullbackError('file', `[checkpoint] ${path}: expected a number under '${key}' in the metadata.`)
    return value
  }
  return {
    path,
    tensors,
    metadata,
    position: {
      epoch: number('epoch'),
      step: number('step_in_epoch'),
      bestTop1: number('best_prec1'),
      bestEpoch: number('best_epoch'),
    },
    identity: {
      seed: number('seed'),
      batchSize: number('batch_size'),
      accumulate: number('accumulate'),
      trainImages: number('train_images'),
    },
  }
}

/**
 * The state in a checkpoint, given one of the same structure and shapes, whose tensors are disposed. Every tensor is
 * checked before the first one is uploaded.
 *
 * @throws PullbackError `file` naming the tensor that is missing or has another shape or dtype
 */
export function restoreState<P extends TensorTree, S extends TensorTree>(
  checkpoint: Checkpoint,
  like: TrainState<P, S>,
): TrainState<P, S> {
  const { leaves, structure } = flatten<Tensor>(like)
  const stored = zip(structure.paths, leaves).map(([path, leaf]) => storedElements(checkpoint, entryName(path), leaf))
  const restored = zip(leaves, stored).map(([leaf, data]) => fromBits(data, leaf.shape, leaf.dtype))
  for (const leaf of leaves) leaf.dispose()
  return unflatten(structure, restored) as unknown as TrainState<P, S>
}

/** The name in the file of a leaf of the train state. */
function entryName(path: string): string {
  const weight = /^(?:params|state)\.(.+)$/.exec(path)
  if (weight !== null) return weight[1] ?? ''
  const average = /^ema\.(?:params|state)\.(.+)$/.exec(path)
  if (average !== null) return `ema.${average[1] ?? ''}`
  return path.startsWith('optimizer.') ? path : `train.${path}`
}

/** Whether an entry of one of our checkpoints is no weight of the model. */
export const isRunEntry = (name: string): boolean => /^(optimizer|ema|train)\./.test(name)

const fileTypes: { readonly [D in DType]: FileDType } = {
  f32: 'F32',
  f64: 'F64',
  f16: 'F16',
  bf16: 'BF16',
  i32: 'I32',
  u8: 'U8',
  bool: 'BOOL',
}

async function fileEntry(name: string, x: Tensor): Promise<NamedTensor> {
  const bits = await x.bits()
  const dtype = fileTypes[x.dtype]
  if (!(bits instanceof Float32Array)) return { name, dtype, shape: x.shape, data: bits }
  const { shape, data } = exportWeight({ path: name, shape: x.shape, data: bits })
  return { name, dtype, shape, data }
}

/** The elements for a leaf as they go to the device. */
function storedElements({ path, tensors }: Checkpoint, name: string, like: Tensor): StorageArray {
  const entry = tensors.get(name)
  const fault = (got: string): PullbackError =>
    new PullbackError(
      'file',
      `[checkpoint] ${path}: tensor '${name}': expected ${like.dtype} ${showShape(like.shape)}, got ${got}. Resume with the options of the run that wrote it.`,
    )
  if (entry === undefined) throw fault('no such tensor')
  if (entry.dtype !== fileTypes[like.dtype]) throw fault(entry.dtype)
  if (entry.dtype === 'F32') {
    const weight = importWeight(name, entry)
    if (weight === undefined || !sameShape(weight.shape, like.shape)) throw fault(showShape(weight?.shape ?? []))
    return weight.data
  }
  if (!sameShape(entry.shape, like.shape)) throw fault(showShape(entry.shape))
  const { buffer, byteOffset } = entry.data
  return storageView(like.dtype, buffer as ArrayBuffer, byteOffset, like.size)
}
