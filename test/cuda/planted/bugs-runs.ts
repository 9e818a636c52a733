// Planted bugs of how programs run: recorded graphs, launches, places in memory, plans, steps of training, caches.
import { type PlantedBug, bugsIn } from './bug.ts'

/** All of them. */
export const runsBugs: readonly PlantedBug[] = [
  bugsIn('src/cuda/replays.ts', [
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
    [
      'a scalar that moved is not copied in: the scale is stale',
      'bytes === 0) continue',
      'bytes <= 4) continue',
      'steps',
      'values',
    ],
    [
      'a recording is never destroyed',
      'queue.afterwards(() => driver.destroyGraph(graph)) // not before',
      '// not before',
      'steps',
      'leak',
    ],
    [
      'a replaced graph is never destroyed',
      'if (graph !== undefined) this.queue.afterwards(() => this.driver.destroyGraphExecutable(graph))',
      '',
      'steps',
      'leak',
    ],
  ]),
  bugsIn('src/cuda/executable.ts', [
    [
      'what is being read is overwritten',
      'for (const index of options.donate) device.settleReads(at(given, index))',
      '',
      'steps',
      'values',
    ],
    ['results count as written before they are', ', ticket)))', ', ticket - 1)))', 'steps', 'values'],
    [
      'a result stays in the block of the graph',
      'zip(freshTypes, zip(fresh, this.#replays.outputs)).forEach(([type, [to, from]]) => copy(stream, to, from, type))',
      '',
      'steps',
      'values',
    ],
    [
      'a donated input that was copied in is not copied back',
      "arrivals[input] === 'copied into our own'",
      'false',
      'steps',
      'values',
    ],
    [
      'what library calls hold is never released',
      'queue.afterwards(() => this.#lowered.release())',
      'queue.afterwards(() => undefined)',
      'cuDNN convolutions',
      'leak',
    ],
  ]),
  bugsIn('src/cuda/launches.ts', [
    [
      'arguments keep the addresses of the first run',
      'slots.every((address, slot) => address === this.#slots[slot])',
      'true',
      'steps',
      'values',
    ],
    [
      'library calls keep the addresses of the first run',
      'if (slots !== this.#slots) {',
      'if (slots === undefined) {',
      'cuDNN convolutions',
      'values',
    ],
    [
      'places inside the arena are forgotten',
      '= offset(at(slots, slot), bytes)\n  }',
      '= at(slots, slot)\n  }',
      'reuse',
      'values',
    ],
  ]),
  bugsIn('src/cuda/lower.ts', [
    [
      'scratch memory lies over temporaries',
      'const scratchAt = Math.ceil(plan.arenaBytes / alignment) * alignment',
      'const scratchAt = 0',
      'reductions',
      'values',
    ],
    [
      'sums that run together share their scratch memory',
      'offsets.set(step, scratchAt + used)',
      'offsets.set(step, scratchAt)',
      'joined sums',
      'values',
    ],
  ]),
  bugsIn('src/compile/memory.ts', [
    [
      'buffers overlap in the arena',
      'life.start > other.life.end) continue',
      'life.start >= other.life.end) continue',
      'reuse',
      'error',
    ],
    [
      'a donated input is overwritten before its last reader',
      'at(lives, input).end < start)',
      'at(lives, input).end <= start)',
      'donated',
      'error',
    ],
  ]),
  bugsIn('src/compile/order.ts', [
    [
      'nobody waits for the readers of what it overwrites',
      'for (const user of at(touching, other)) after.add(user)',
      'for (const user of at(writing, other)) after.add(user)',
      'reuse',
      'values',
    ],
    [
      'a step does not wait for who wrote its input',
      'for (const writer of at(writing, input)) after.add(writer)',
      '',
      'joined',
      'values',
    ],
  ]),
  bugsIn('src/cuda/runtime/cubins.ts', [
    [
      'the cache of kernels forgets the architecture',
      'cudaOptions, target.architecture, target.versions]',
      'cudaOptions, target.versions]',
      'kernel cache',
      'values',
    ],
    [
      'the cache of kernels forgets the driver’s version',
      'target.architecture, target.versions]',
      'target.architecture]',
      'kernel cache',
      'values',
    ],
  ]),
  bugsIn('src/cuda/tune/cache.ts', [
    ['what won on another GPU is taken', 'gpu: gpu.name, architecture', 'architecture', 'tuning cache', 'values'],
    ['a damaged entry is taken', 'checksum(key, entry) === stored ?', 'true ?', 'tuning cache', 'values'],
  ]),
  bugsIn('src/compile/step-key.ts', [
    [
      'steps that differ in a constant are lowered once',
      "Object.is(value, -0) ? '-0' : String(value)",
      'JSON.stringify(value)',
      'constants',
      'values',
    ],
  ]),
  bugsIn('src/compile/sums.ts', [
    ['a product with itself is expanded', 'scale: -term.scale', 'scale: term.scale', 'training', 'values'],
  ]),
  bugsIn('src/compile/affine.ts', [
    [
      'a slice begins at the beginning',
      'offset: at(start, axis) + at(stride, axis) * offset',
      'offset: at(stride, axis) * offset',
      'maps',
      'values',
    ],
  ]),
  bugsIn('src/train/step.ts', [
    [
      'the loss scale is that of the step before',
      'lossScale: adjust(old.lossScale, finite)',
      'lossScale: old.lossScale',
      'training',
      'values',
    ],
    [
      'parameters take a step that is not finite',
      'params: selectTree(finite, params, old.params)',
      'params',
      'training',
      'values',
    ],
  ]),
  bugsIn('src/cuda/together.ts', [
    [
      'joined launches have wrong first blocks',
      'firstBlocks.push(blocks)\n',
      'firstBlocks.push(index)\n',
      'joined',
      'values',
    ],
    ['a joined launch has too few blocks', 'blocks += kernels[index]?.blocks ?? 0', 'blocks += 1', 'joined', 'values'],
    [
      'a step overtakes the joined launch it needs',
      'if (key !== undefined) flush(key)\n    }',
      '}',
      'joined',
      'values',
    ],
  ]),
].flat()
