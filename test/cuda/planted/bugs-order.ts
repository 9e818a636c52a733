// Planted bugs of order, memory and lifetimes: streams and events, staging, blocks, recorded graphs, plans, caches.
import { type PlantedBug, bugsIn } from './bug.ts'

const copies = bugsIn('src/cuda/runtime/staging.ts', [
  [
    'kernels do not wait for an upload',
    'if (start + slotBytes >= bytes.length) this.queue.computeWaits(slot.event)',
    '',
    'steps',
    'values',
  ],
  [
    'a slot of pinned memory is filled again before its copy has run',
    'if (slot.used) this.queue.guard(() => this.driver.synchronizeEvent(slot.event))',
    '',
    'long copies',
    'values',
  ],
  [
    'every piece of an upload goes to the beginning',
    'this.driver.copyToDevice(offset(to, start), slot',
    'this.driver.copyToDevice(to, slot',
    'long copies',
    'values',
  ],
  [
    'elements are taken before their copy has arrived',
    'await this.queue.until(() => this.driver.eventDone(slot.event))',
    '',
    'long copies',
    'values',
  ],
  ['reads do not take turns', 'await before\n', '\n', 'long copies', 'values'],
  ['a blocking read uses the slot of a read under way', 'this.#slot(this.#reads, 1)', 'this.#slot(this.#reads, 0)', 'long copies', 'values'],
  ['a blocking read does not wait', 'this.queue.waitSync(ready)\n', '\n', 'biases', 'values'],
])

const queue = bugsIn('src/cuda/runtime/queue.ts', [
  ['a ticket counts as done when it is given', 'return this.#completed >= ticket', 'return this.#submitted >= ticket', 'steps', 'values'],
  ['events are never destroyed', 'cleanup.later(() => this.#destroyEvents())', '', 'steps', 'leak'],
])

const device = bugsIn('src/cuda/device.ts', [
  ['a copy may have memory that kernels have yet to read', "allocate(bytes, 'copy')", "allocate(bytes, 'compute')", 'blocks in use', 'values'],
  ['a read does not wait for the copy made for it', 'ready: kept.ready }', 'ready }', 'steps', 'values'],
  ['copies for reads are never freed', 'mine.kept?.block.release()', '', 'steps', 'values'],
  [
    'a program may have too small an arena',
    'if (this.#arena !== undefined && this.#arena.bytes >= bytes) return this.#arena',
    'if (this.#arena !== undefined) return this.#arena',
    'shared arena',
    'values',
  ],
  [
    'a read copy overtakes the pieces that are travelling',
    'staging.computeWaitsForReads()\n',
    '\n',
    'steps',
    'values',
  ],
])

const allocator = bugsIn('src/cuda/runtime/allocator.ts', [
  [
    'a freed block counts as free of users at once',
    'this.#poolOf(span).give(span, this.order.submitted)',
    'this.#poolOf(span).give(span, 0)',
    'blocks in use',
    'values',
  ],
  ['memory is returned while it is used', 'spans.idle(done)', 'spans.idle(Number.POSITIVE_INFINITY)', 'blocks in use', 'fault'],
  ['a block is never free again', 'this.#holders -= 1\n', '\n', 'little memory', 'error'],
  ['a block is freed while somebody holds it', 'if (this.#holders === 0) this.free(this)', 'this.free(this)', 'steps', 'values'],
  ['memory that runs out is not waited for', 'this.order.waitSync(this.order.submitted)\n', '\n', 'little memory', 'error'],
])

const spans = bugsIn('src/cuda/runtime/spans.ts', [
  ['what is left of a span begins too early', 'start: found.start + bytes,', 'start: found.start,', 'steps', 'values'],
  ['a span grows over neighbours in use', 'before?.start ?? span.start', 'before?.start ?? 0', 'blocks in use', 'values'],
])

const replays = bugsIn('src/cuda/replays.ts', [
  [
    'a graph is replayed though its memory moved',
    'if (this.#graph === undefined || !sameMemory || keeps',
    'if (this.#graph === undefined || keeps',
    'shared arena',
    'values',
  ],
  [
    'a graph is replayed with the address of somebody else’s input',
    '(bound.block === block || bound.block.holders === 1)',
    'true',
    'steps',
    'values',
  ],
  ['a scalar that moved is not copied in: the scale is stale', 'bytes === 0) continue', 'bytes <= 4) continue', 'steps', 'values'],
  ['a recording is never destroyed', 'queue.afterwards(() => driver.destroyGraph(graph))\n    return', 'return', 'steps', 'leak'],
  [
    'a replaced graph is never destroyed',
    'if (graph !== undefined) this.queue.afterwards(() => this.driver.destroyGraphExecutable(graph))',
    '',
    'steps',
    'leak',
  ],
])

const executable = bugsIn('src/cuda/executable.ts', [
  ['what is being read is overwritten', 'for (const index of options.donate) device.settleReads(at(given, index))', '', 'steps', 'values'],
  ['results count as written before they are', 'new CudaStorage(device, type, block, ticket)', 'new CudaStorage(device, type, block, ticket - 1)', 'steps', 'values'],
  [
    'a result stays in the block of the graph',
    'zip(freshTypes, zip(fresh, this.#replays.outputs)).forEach(([type, [to, from]]) => copy(stream, to, from, type))',
    '',
    'steps',
    'values',
  ],
  ['a donated input that was copied in is not copied back', "arrivals[input] === 'copied into our own'", 'false', 'steps', 'values'],
  ['what library calls hold is never released', 'queue.afterwards(() => this.#lowered.release())', 'queue.afterwards(() => undefined)', 'cuDNN convolutions', 'leak'],
])

const launches = bugsIn('src/cuda/launches.ts', [
  [
    'arguments keep the addresses of the first run',
    'slots.every((address, slot) => address === this.#slots[slot])',
    'true',
    'steps',
    'values',
  ],
  ['library calls keep the addresses of the first run', 'if (slots !== this.#slots) {', 'if (slots === undefined) {', 'cuDNN convolutions', 'values'],
  ['places inside the arena are forgotten', '= offset(at(slots, slot), bytes)\n  }', '= at(slots, slot)\n  }', 'reuse', 'values'],
])

const lower = bugsIn('src/cuda/lower.ts', [
  ['scratch memory lies over temporaries', 'const scratchAt = Math.ceil(plan.arenaBytes / alignment) * alignment', 'const scratchAt = 0', 'reductions', 'values'],
  ['sums that run together share their scratch memory', 'offsets.set(step, scratchAt + used)', 'offsets.set(step, scratchAt)', 'joined sums', 'values'],
])

const plans = [
  ...bugsIn('src/compile/memory.ts', [
    ['buffers overlap in the arena', 'life.start > other.life.end) continue', 'life.start >= other.life.end) continue', 'reuse', 'error'],
    ['a donated input is overwritten before its last reader', 'at(lives, input).end < start)', 'at(lives, input).end <= start)', 'donated', 'error'],
  ]),
  ...bugsIn('src/compile/order.ts', [
    ['nobody waits for the readers of what it overwrites', 'for (const user of at(touching, other)) after.add(user)', 'for (const user of at(writing, other)) after.add(user)', 'reuse', 'values'],
    ['a step does not wait for who wrote its input', 'for (const writer of at(writing, input)) after.add(writer)', '', 'joined', 'values'],
  ]),
]

const caches = [
  ...bugsIn('src/cuda/runtime/cubins.ts', [
    ['the cache of kernels forgets the architecture', 'cudaOptions, target.architecture, target.versions]', 'cudaOptions, target.versions]', 'kernel cache', 'values'],
    ['the cache of kernels forgets the driver’s version', 'target.architecture, target.versions]', 'target.architecture]', 'kernel cache', 'values'],
  ]),
  ...bugsIn('src/cuda/tune/cache.ts', [
    ['what won on another GPU is taken', 'gpu: gpu.name, architecture', 'architecture', 'tuning cache', 'values'],
    ['a damaged entry is taken', 'checksum(key, entry) === stored ?', 'true ?', 'tuning cache', 'values'],
  ]),
]

/** All of them. */
export const orderBugs: readonly PlantedBug[] = [
  ...[copies, queue, device, allocator, spans, replays, executable, launches, lower, plans, caches].flat(),
]
