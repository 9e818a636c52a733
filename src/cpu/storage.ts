// Storages of the CPU device: a block and what became of it.
import type { Storage } from '../tensor/device.ts'
import type { StorageArray } from '../tensor/dtype.ts'
import { InternalError } from '../tensor/errors.ts'
import { type TensorType, showType } from '../tensor/program.ts'
import type { CpuDevice } from './device.ts'
import type { Block } from './memory.ts'

/** A tensor's memory on the CPU device. */
export class CpuStorage implements Storage {
  state: 'live' | 'released' | 'donated' = 'live'
  /** Reads that are under way; the block is kept for them. */
  readers = 0
  /** The elements, for reads under way when the storage was donated. */
  saved: StorageArray | undefined

  constructor(
    readonly device: CpuDevice,
    readonly type: TensorType,
    readonly block: Block,
    /** The ticket of the work that writes it. */
    readonly ready: number,
  ) {}
}

/** The storage as one of `device`'s that is alive; anything else is a fault of the caller's code. */
export function liveStorage(device: CpuDevice, storage: Storage, use: string): CpuStorage {
  if (!(storage instanceof CpuStorage) || storage.device !== device)
    throw new InternalError(`${use} of a ${showType(storage.type)} of ${storage.device.name} by another device`)
  if (storage.state !== 'live')
    throw new InternalError(`${use} of a ${showType(storage.type)} that was ${storage.state}`)
  return storage
}
