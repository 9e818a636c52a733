// Planted bugs of fused kernels: how they are printed, and what of the prelude they use.
import { type PlantedBug, bugsIn } from './bug.ts'

/** All of them. */
export const printedBugs: readonly PlantedBug[] = [
  bugsIn('src/compile/print/cuda-map.ts', [
    [
      'the last share of a sum is left out',
      'const splits = Math.ceil(units / unitsPerSplit)',
      'const splits = Math.max(1, Math.floor(units / unitsPerSplit))',
      'reductions',
      'values',
    ],
    [
      'blocks for the last results are missing',
      'const slabs = Math.ceil(groups / (blockThreads / depth))',
      'const slabs = Math.max(1, Math.floor(groups / (blockThreads / depth)))',
      'reductions',
      'values',
    ],
    [
      'vectors are read where rows are not aligned for them',
      'return [offset, ...map, ...reduce, row, split].every((stride) => stride % count === 0)',
      'return offset % count === 0',
      'maps',
      'fault',
    ],
  ]),
  bugsIn('src/compile/print/cuda.ts', [
    [
      'the tail of a map has no block',
      'finish(scope, Math.ceil(map.threads / blockThreads), undefined)',
      'finish(scope, Math.max(1, Math.floor(map.threads / blockThreads)), undefined)',
      'maps',
      'values',
    ],
    [
      'threads past the end go on',
      "lines.add(`if (q >= (${index})${numbers.add('threads', map.threads)}) return;`)",
      '',
      'reuse',
      'fault',
    ],
    ['rows have a wrong stride', "if (loops) terms.push(...products([access.row], () => 'r0'))", '', 'maps', 'values'],
  ]),
  bugsIn('src/compile/print/cuda-epilogue.ts', [
    [
      'an epilogue reads its first operand for all',
      "order.operands + position, 'const '",
      "order.operands, 'const '",
      'training',
      'values',
    ],
  ]),
  bugsIn('src/cuda/runtime/counters.ts', [
    [
      'counters begin with what is in memory',
      'this.driver.fill8(block.address, 0,',
      'this.driver.fill8(block.address, 1,',
      'reductions',
      'values',
    ],
  ]),
  bugsIn('src/compile/print/cuda-reduce.ts', [
    [
      'not all partial results are added',
      's < (g < groups ? splits : 0)',
      's < (g < groups ? splits - 1 : 0)',
      'reductions',
      'values',
    ],

    [
      'partial results lie in the order in which blocks arrive',
      "lines.block('if (g < groups && place == 0)', () => {\n    partials.forEach(({ name }, i) => {\n      lines.add(`pb_store<pb_${at(types, i)}, ${lanes}>(${name} + (int64_t)split",
      "lines.block('if (g < groups && place == 0)', () => {\n    lines.add('static uint32_t arrived;')\n    partials.forEach(({ name }, i) => {\n      lines.add(`pb_store<pb_${at(types, i)}, ${lanes}>(${name} + (int64_t)(arrived++ % splits)",
      'rounded sum',
      'bits',
    ],
    [
      'one thread too many writes a partial result',
      "lines.block('if (g < groups && place == 0)', () => {\n    partials.forEach",
      "lines.block('if (g < groups && place < 2)', () => {\n    partials.forEach",
      'reductions',
      'bits',
    ],

    [
      'a share is read past its end',
      'g < groups ? PB_MIN(units, first + share) : 0',
      'g < groups ? first + share : 0',
      'reductions',
      'fault',
    ],

    ['blocks of one group all write the same share', '(int64_t)split * ', '0 * ', 'reductions', 'values'],
  ]),
  bugsIn('src/compile/print/cuda-reduce.ts', [
    [
      'a batch of units goes on behind the last',
      "const inside = 'u + j * depth < stop'",
      "const inside = 'u < stop'",
      'reductions',
      'values',
    ],
  ]),
  bugsIn('src/compile/print/cuda-units.ts', [
    [
      'a batch of units is read again',
      '_base += ${times(batch, `${access.name}_step`)};',
      '_base += ${times(1, `${access.name}_step`)};',
      'reductions',
      'values',
    ],
  ]),
  bugsIn('src/compile/print/partials.ts', [
    [
      'scratch memory is too small for the partial results',
      'Math.ceil((splits * total * bytesOf(',
      'Math.ceil((Math.ceil(splits / 2) * total * bytesOf(',
      'reductions',
      'fault',
    ],
    ['partial results overlap', 'offsets.push(bytes)', 'offsets.push(0)', 'reductions', 'values'],
  ]),
  bugsIn('src/cuda/prelude-memory.ts', [
    ['no fence before a block counts itself', 'pb_fence();\n    last', 'last', 'rounded sum', 'fault'],
    [
      'no fence before partial results are read',
      '*counter = 0;\n    pb_fence();',
      '*counter = 0;',
      'rounded sum',
      'fault',
    ],
    ['the last block but one counts as the last', '+ 1 == count;', '+ 2 == count;', 'rounded sum', 'values'],
    ['the counter of blocks is not zero again', 'if (last != 0) *counter = 0;', '', 'joined sums', 'values'],

    [
      'threads add sums that others have not stored',
      's[k * 256 + t] = x[k];\n  pb_barrier();',
      's[k * 256 + t] = x[k];',
      'one sum',
      'values',
    ],
    [
      'a sum by halves does not wait in between',
      's[k * 256 + t + half * stride]);\n    }\n    pb_barrier();',
      's[k * 256 + t + half * stride]);\n    }',
      'one sum',
      'bits',
    ],
    [
      'a barrier only some threads reach',
      '      for (int k = 0; k < V; ++k) s[k * 256 + t] = Op::of(s[k * 256 + t], s[k * 256 + t + half * stride]);\n    }\n    pb_barrier();',
      '      for (int k = 0; k < V; ++k) s[k * 256 + t] = Op::of(s[k * 256 + t], s[k * 256 + t + half * stride]);\n    pb_barrier();\n    }',
      'one sum',
      'fault',
    ],
    [
      'shared memory is used again too early',
      'x[k] = s[k * 256 + t];\n  pb_barrier();',
      'x[k] = s[k * 256 + t];',
      'two sums',
      'bits',
    ],
  ]),
  bugsIn('src/cuda/prelude-registers.ts', [
    [
      'the larger of a number and NaN is the number',
      'a < b || b != b ? b : a',
      'a < b ? b : a',
      'the largest',
      'values',
    ],
    ['random bits are mixed one time too few', 'round < 10;', 'round < 9;', 'random', 'values'],
  ]),
  bugsIn('src/cuda/prelude-blocks.ts', [
    [
      'the place of the largest ignores NaN',
      'return !(x <= best) && best == best;',
      'return x > best;',
      'where the largest is',
      'values',
    ],
    [
      'a running count mixes its two buffers',
      'to[t] = from[t] + (t >= stride ? from[t - stride] : 0);\n    pb_barrier();',
      'to[t] = from[t] + (t >= stride ? from[t - stride] : 0);',
      'indexed',
      'fault',
    ],
  ]),
  bugsIn('src/cuda/prelude-device.ts', [
    [
      'a joined launch never finds its last kernels',
      'step > 0; step /= 2)',
      'step > 1; step /= 2)',
      'one launch',
      'values',
    ],
    [
      'blocks of a joined launch keep their number in all',
      '{pb_block() - (uint32_t)first[i]}',
      '{pb_block()}',
      'one launch',
      'values',
    ],
  ]),
  bugsIn('src/compile/print/expression.ts', [
    [
      'what is no number counts as finite',
      'const call = `pbv_${node.op}_${classOf(operand(0))}(${list})`',
      "const call = node.op === 'isFinite' ? `pbv_ne_f(pbv_abs_f(${list}), pbv_infinity_f())` : `pbv_${node.op}_${classOf(operand(0))}(${list})`",
      'finite',
      'values',
    ],
    [
      'a 16-bit result is not rounded',
      'if (isHalf(dtype)) return `pbv_round_${dtype}(${text})`',
      'if (isHalf(dtype)) return text',
      'rounding',
      'values',
    ],
  ]),
].flat()
