// Planted bugs of order and lifetimes: streams and events, staging, blocks of memory, the device, what is given back.
import { type PlantedBug, bugsIn } from './bug.ts'

/** All of them. */
export const runtimeBugs: readonly PlantedBug[] = [
  bugsIn('src/cuda/runtime/staging.ts', [
    [
      'kernels do not wait for an upload',
      'if (start + slotBytes >= bytes.length) this.queue.computeWaits(slot.event)',
      '',
      'steps',
      'values',
    ],
    [
      'a slot of pinned memory is filled again before its copy has run',
      'slot.used && !this.driver.eventDone(slot.event)',
      'false',
      'long copies',
      'values',
    ],
    ['small uploads lie in one place', 'slot.filled += Math', 'slot.filled += 0 * Math', 'steps', 'values'],
    [
      'every piece of an upload goes to the beginning',
      'this.driver.copyToDevice(offset(to, start), ',
      'this.driver.copyToDevice(to, ',
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
    [
      'a blocking read uses the slot of a read under way',
      'this.#slot(this.#reads, 1)',
      'this.#slot(this.#reads, 0)',
      'long copies',
      'values',
    ],
    ['a blocking read does not wait', 'this.queue.waitSync(ready)\n', '\n', 'biases', 'values'],
  ]),
  bugsIn('src/cuda/runtime/queue.ts', [
    [
      'a ticket counts as done when it is given',
      'return this.#completed >= ticket',
      'return this.#submitted >= ticket',
      'steps',
      'values',
    ],
    [
      'tickets are marked on the stream of copies',
      'this.driver.recordEvent(event, this.compute)',
      'this.driver.recordEvent(event, this.copy)',
      'steps',
      'values',
    ],
    ['events are never destroyed', 'cleanup.later(() => this.#destroyEvents())', '', 'steps', 'leak'],
  ]),
  bugsIn('src/cuda/device.ts', [
    [
      'a copy may have memory that kernels have yet to read',
      "allocate(bytes, 'copy')",
      "allocate(bytes, 'compute')",
      'blocks in use',
      'values',
    ],
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
    [
      'donated memory that nobody takes over is lost',
      'if (handedOver) return',
      "if (storage.state === 'donated') return",
      'donated',
      'values',
    ],
  ]),
  bugsIn('src/cuda/runtime/cleanup.ts', [
    ['what was made before a failure is kept', '    attempt(() => cleanup.release())\n', '', 'failing calls', 'leak'],
  ]),
  bugsIn('src/cuda/runtime/index.ts', [
    ['the session is never closed', 'noted.later(() => cleanup.release())', '', 'failing calls', 'leak'],
  ]),
  bugsIn('src/cuda/runtime/allocator.ts', [
    [
      'a copy does not wait for the users of what it gets',
      'if (awaited !== undefined) this.order.copyWaits(awaited.after)',
      '',
      'much kept',
      'values',
    ],
    [
      'a freed block counts as free of users at once',
      'this.#poolOf(span).give(span, this.order.submitted)',
      'this.#poolOf(span).give(span, 0)',
      'blocks in use',
      'values',
    ],
    [
      'memory is returned while it is used',
      'spans.idle(done)',
      'spans.idle(Number.POSITIVE_INFINITY)',
      'blocks in use',
      'fault',
    ],
    ['a block is never free again', 'this.#holders -= 1\n', '\n', 'little memory', 'error'],
    [
      'a block is freed while somebody holds it',
      'if (this.#holders === 0) this.free(this)',
      'this.free(this)',
      'steps',
      'values',
    ],
    [
      'memory that runs out is not waited for',
      'this.order.waitSync(this.order.submitted)\n',
      '\n',
      'little memory',
      'error',
    ],
  ]),
  bugsIn('src/cuda/runtime/spans.ts', [
    [
      'what is left of a span begins too early',
      'start: found.start + bytes,',
      'start: found.start,',
      'steps',
      'values',
    ],
    [
      'a span grows over neighbours in use',
      'before?.start ?? span.start',
      'before?.start ?? 0',
      'blocks in use',
      'values',
    ],
  ]),
].flat()
