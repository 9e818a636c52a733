// Storages of the CUDA device: a block and what became of it.
import type { Device, Storage } from '../tensor/device.ts'
import { InternalError, PullbackError } from '../tensor/errors.ts'
import { type TensorType, showType } from '../tensor/program.ts'
import type { Block } from './runtime/index.ts'

/** A tensor's memory on the GPU. */
export class CudaStorage implements Storage {
  /** 'lost': it was donated to a run that failed half-way, and may hold anything. */
  state: 'live' | 'released' | 'donated' | 'lost' = 'live'
  /** Reads that are under way. */
  readers = 0
  /** A copy for reads that were under way when the storage was donated, and the ticket of the work that makes it. */
  kept: { readonly block: Block; readonly ready: number } | undefined

  constructor(
    readonly device: Device,
    readonly type: TensorType,
    readonly block: Block,
    /** The ticket of the work that writes it. */
    readonly ready: number,
  ) {}
}

/**
 * The storage as one of `device`'s that is alive; anything else is a fault of the caller's code.
 *
 * @throws PullbackError 'device' for one that a failed run took along.
 */
export function liveStorage(device: Device, storage: Storage, use: string): CudaStorage {
  if (!(storage instanceof CudaStorage) || storage.device !== device)
    throw new InternalError(`${use} of a ${showType(storage.type)} of ${storage.device.name} by another device`)
  if (storage.state === 'lost')
    throw new PullbackError(
      'device',
      `[cuda] this ${showType(storage.type)} was donated to a run that failed half-way, and its elements are lost. Go back to a checkpoint.`,
    )
  if (storage.state !== 'live')
    throw new InternalError(`${use} of a ${showType(storage.type)} that was ${storage.state}`)
  return storage
}
