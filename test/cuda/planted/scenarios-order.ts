// Scenarios of order and memory: recorded steps, copies beside them, blocks that change hands. What the kernels compute is
// simple, and exact.
import { Allocator, type Order } from '../../../src/cuda/runtime/allocator.ts'
import type { Device, Storage } from '../../../src/tensor/device.ts'
import * as ops from '../../../src/tensor/ops/index.ts'
import { at, range } from '../../../src/tensor/shape.ts'
import type { Tensor } from '../../../src/tensor/tensor.ts'
import { PullbackError } from '../../../src/tensor/errors.ts'
import { type Place, type Results, type Scenario, compile, elements, filled, typed, usual } from './scenario.ts'

const vector = typed([300])
const scalar = typed([])

/** A new state, a loss that depends on everything, and a scale that grows with each step; one launch for each equation. */
function step([state, scale, batch, rate]: readonly Tensor[]): readonly Tensor[] {
  if (state === undefined || scale === undefined || batch === undefined || rate === undefined) throw new RangeError()
  let x = ops.minimum(ops.maximum(ops.sub(batch, state), -99), 99)
  for (const _ of range(4)) x = ops.add(x, 1)
  const next = ops.add(x, ops.broadcastTo(rate, [300]))
  return [next, ops.add(scale, 1), ops.mul(ops.sum(ops.mul(next, batch)), scale)]
}

/**
 * Steps whose state and scale are donated, whose batches are elsewhere each time, and whose rate stays where it is and then
 * moves, while its old place is still somebody else's. The state is read while the next step overwrites it.
 */
async function steps({ open }: Place): Promise<Results> {
  const device = open()
  const executable = compile(device, step, [vector, scalar, vector, scalar], { donate: [0, 1] })
  const rates = [filled(device, scalar, 11), filled(device, scalar, 12), filled(device, scalar, 13)]
  const batches = range(7).map((k) => filled(device, vector, 20 + k))
  const reads: Promise<ArrayLike<number>>[] = []
  let [state, scale] = [filled(device, vector, 1), filled(device, scalar, 2)]
  for (const k of range(7)) {
    if (k === 2 || k === 6) await underWay(device, state, reads)
    else reads.push(elements(device, state))
    if (k === 3) await new Promise(setImmediate)
    const [next, grown, loss] = executable.run([state, scale, at(batches, k), at(rates, k < 3 ? 0 : k < 5 ? 1 : 2)])
    if (next === undefined || grown === undefined || loss === undefined) throw new RangeError()
    ;[state, scale] = [next, grown]
    if (k === 4 || k === 6) device.readSync(loss)
    reads.push(elements(device, loss))
    device.release(loss)
  }
  const kept = [...rates, ...batches, state, scale]
  const values = await Promise.all([...reads, ...kept.map((storage) => elements(device, storage))])
  for (const storage of kept) device.release(storage)
  executable.release()
  return Object.fromEntries([...values.entries(), ['bytes in use', [device.memory().inUse]]])
}

/** Begins a read, behind those under way, and returns when its copy is on its way and has not yet run. */
async function underWay(device: Device, storage: Storage, reads: Promise<ArrayLike<number>>[]): Promise<void> {
  await Promise.all([...reads, device.synchronize()])
  reads.push(elements(device, storage))
  for (const _ of range(20)) await Promise.resolve()
}

/** Two programs by turns, of which the later one needs more memory, so that the earlier one's moves. */
async function sharedArena({ open }: Place): Promise<Results> {
  const device = open()
  const chain = (length: number, repeats: number) =>
    compile(
      device,
      (inputs) => {
        let [y, all] = [ops.add(at(inputs, 0), 1), ops.add(at(inputs, 0), 2)]
        for (const i of range(repeats)) [y, all] = [ops.add(y, i), ops.add(all, y)]
        return [all]
      },
      [typed([length])],
    )
  const small = chain(300, 5)
  const given = range(3).map((k) => filled(device, vector, k))
  const outputs: Storage[] = []
  const turn = (): void => {
    for (const input of given) outputs.push(at(small.run([input]), 0))
  }
  turn()
  const large = chain(20_000, 5)
  const wide = filled(device, typed([20_000]), 9)
  for (const _ of range(2)) {
    outputs.push(at(large.run([wide]), 0))
    await device.synchronize()
    outputs.push(...range(12).map((k) => filled(device, vector, 30 + k)))
    turn()
  }
  const values = await Promise.all(outputs.map((storage) => elements(device, storage)))
  for (const storage of [...given, ...outputs, wide]) device.release(storage)
  for (const executable of [small, large]) executable.release()
  return Object.fromEntries([...values.entries(), ['bytes in use', [device.memory().inUse]]])
}

/** More than a slot of pinned memory has. */
const longBytes = 4 * 2 ** 20 + 700
const long = typed([longBytes], 'u8')

/** Bytes that differ from array to array. */
function pattern(seed: number): Uint8Array {
  return Uint8Array.from(
    Buffer.alloc(longBytes, ['a run of thirty-one small bytes', 'ANOTHER RUN, OF LARGER ONES'][seed]),
  )
}

/** A whole array in few numbers. */
function sample(bytes: ArrayLike<number>): number[] {
  return range(Math.ceil(bytes.length / 997)).map((i) => at(bytes, 997 * i))
}

/** Arrays larger than a slot, one after the other and read at the same time; the host's copies change at once. */
async function longCopies({ open }: Place): Promise<Results> {
  const device = open()
  const storages = range(2).map((seed) => {
    const bytes = pattern(seed)
    const storage = device.upload(bytes, long)
    bytes.fill(0)
    return storage
  })
  const ends = compile(
    device,
    ([x]) => [ops.add(slice(x, 0), slice(x, longBytes - 300)), ops.sub(slice(x, 3e6), slice(x, 4e6))],
    [long],
  )
  const [first, second] = ends.run([at(storages, 1)])
  if (first === undefined || second === undefined) throw new RangeError()
  const reads = storages.map((storage) => device.read(storage))
  await new Promise(setImmediate)
  const between = sample(device.readSync(at(storages, 1)))
  const read = (await Promise.all(reads)).map(sample)
  const sums = await Promise.all([first, second].map((storage) => elements(device, storage)))
  for (const storage of [...storages, first, second]) device.release(storage)
  ends.release()
  return Object.fromEntries([...read, between, ...sums, [device.memory().inUse]].entries())
}

function slice(x: Tensor | undefined, from: number): Tensor {
  if (x === undefined) throw new RangeError()
  return ops.cast(ops.slice(x, [from], [from + 300]), 'f32')
}

/** A block that a kernel has yet to read is freed, and the same bytes are asked for by a copy. */
async function blocksInUse({ open }: Place): Promise<Results> {
  const device: Device = open()
  const double = compile(device, (inputs) => [ops.add(at(inputs, 0), at(inputs, 0))], [vector])
  const outputs: Storage[] = []
  for (const k of range(6)) {
    const x = filled(device, vector, k)
    if (k === 2) await device.synchronize()
    outputs.push(at(double.run([x]), 0))
    device.release(x)
    outputs.push(filled(device, vector, 40 + k))
  }
  const read: ArrayLike<number>[] = []
  for (const storage of outputs.reverse()) read.push(await elements(device, storage))
  for (const storage of outputs) device.release(storage)
  double.release()
  return Object.fromEntries([...read, [device.memory().inUse]].entries())
}

/** More memory is asked for than is left unless what was freed is waited for and returned. */
async function littleMemory({ open }: Place): Promise<Results> {
  const device = open()
  const outputs: Storage[] = []
  for (const megabytes of [12, 20, 24, 12]) {
    const type = typed([megabytes * 2 ** 20], 'u8')
    const x = device.upload(new Uint8Array(megabytes * 2 ** 20).fill(megabytes), type)
    const program = compile(device, ([bytes]) => [slice(bytes, 1e6)], [type])
    outputs.push(at(program.run([x]), 0))
    device.release(x)
    program.release()
  }
  const read = await Promise.all(outputs.map((storage) => elements(device, storage)))
  for (const storage of outputs) device.release(storage)
  return Object.fromEntries([...read, [device.memory().inUse]].entries())
}

/** A device is opened, a program made and run; whatever call fails, what was made until then is given back. */
async function failingCalls({ open }: Place): Promise<Results> {
  try {
    const device = open()
    const sum = compile(device, (inputs) => [ops.add(at(inputs, 0), 1)], [vector])
    await device.read(at(sum.run([filled(device, vector, 1)]), 0))
  } catch (error) {
    if (!(error instanceof PullbackError)) throw error
  }
  return {}
}

/** Much is kept free already, so a copy is given what kernels still use, and waits for them: 512 MiB that nobody touches. */
function muchKept(): Results {
  const waited: number[] = []
  const order: Order = {
    submitted: 7,
    completed: 3,
    waitSync: () => undefined,
    copyWaits: (ticket) => void waited.push(ticket),
  }
  let next = 0
  const driver = {
    allocate: () => BigInt(++next * 2 ** 40) as never,
    free: () => undefined,
    memoryInfo: () => ({ free: 2 ** 40, total: 2 ** 40 }),
  }
  const memory = new Allocator(driver, order, () => '')
  const block = memory.allocate(2 ** 29)
  block.release()
  const copy = memory.allocate(2 ** 29, 'copy')
  return { waited, allocations: [next, copy.address === block.address ? 1 : 0] }
}

const square = typed([24, 24])

/** A donated input that is read in another order than its place is written in. */
async function donated({ open }: Place): Promise<Results> {
  const device = open()
  const turn = compile(
    device,
    (inputs) => [ops.transpose(ops.add(ops.transpose(at(inputs, 0), [1, 0]), 1), [1, 0])],
    [square],
    {
      donate: [0],
      optimize: 'fuse',
    },
  )
  const flip = compile(device, (inputs) => [ops.transpose(at(inputs, 0), [1, 0])], [square], {
    donate: [0],
    optimize: 'fuse',
  })
  let x = filled(device, square, 1)
  for (const program of [turn, flip, turn]) x = at(program.run([x]), 0)
  const found = await elements(device, x)
  const sum = compile(device, (inputs) => [ops.sum(at(inputs, 0))], [square], { donate: [0] })
  const total = at(sum.run([x]), 0)
  const all = await elements(device, total)
  device.release(total)
  for (const program of [turn, flip, sum]) program.release()
  return { x: found, sum: all, 'bytes in use': [device.memory().inUse] }
}

export const orderScenarios = {
  steps: { tolerance: 0, settings: [...usual, { seed: 5 }, { seed: 6 }], run: steps },
  'shared arena': { tolerance: 0, settings: usual.slice(0, 3), run: sharedArena },
  'long copies': { tolerance: 0, settings: usual.slice(0, 2), run: longCopies },
  donated: { tolerance: 0, settings: usual.slice(0, 2), run: donated },
  'failing calls': {
    ...{ tolerance: 0, settings: range(30).map((k) => ({ seed: 0, failAt: 3 + 5 * k })), run: failingCalls },
    expected: () => ({}),
  },
  'much kept': {
    ...{ tolerance: 0, settings: usual.slice(0, 1), run: muchKept },
    expected: () => ({ waited: [7], allocations: [1, 1] }),
  },
  'blocks in use': { tolerance: 0, settings: [...usual, { seed: 5 }], run: blocksInUse },
  'little memory': { tolerance: 0, settings: [{ seed: 0, memory: 30 * 2 ** 20 }], run: littleMemory },
} as const satisfies Record<string, Scenario>
