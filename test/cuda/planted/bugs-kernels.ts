// Planted bugs of what kernels compute and how they are launched, and of what the libraries are asked for.
import { type PlantedBug, bugsIn } from './bug.ts'

const printed = [
  ...bugsIn('src/compile/print/cuda-map.ts', [
    ['the last share of a sum is left out', 'const splits = Math.ceil(units / unitsPerSplit)', 'const splits = Math.max(1, Math.floor(units / unitsPerSplit))', 'reductions', 'values'],
    ['blocks for the last results are missing', 'Math.ceil(groups / (blockThreads / depth)) * splits', 'Math.max(1, Math.floor(groups / (blockThreads / depth))) * splits', 'reductions', 'values'],
    ['vectors are read where rows are not aligned for them', 'return [offset, ...map, ...reduce, row, split].every((stride) => stride % count === 0)', 'return offset % count === 0', 'maps', 'fault'],
  ]),
  ...bugsIn('src/compile/print/cuda.ts', [
    ['the tail of a map has no block', 'finish(scope, Math.ceil(map.threads / blockThreads), undefined)', 'finish(scope, Math.max(1, Math.floor(map.threads / blockThreads)), undefined)', 'maps', 'values'],
    ['threads past the end go on', 'lines.add(`if (q >= (${index})${numbers.add(\'threads\', map.threads)}) return;`)', '', 'reuse', 'fault'],
    ['rows have a wrong stride', "if (loops) terms.push(...products([access.row], () => 'r0'))", '', 'maps', 'values'],
  ]),
  ...bugsIn('src/compile/print/cuda-reduce.ts', [
    ['a share is read past its end', 'g < groups ? PB_MIN(units, first + share) : 0', 'g < groups ? first + share : 0', 'reductions', 'fault'],
    ['one thread too many writes a result', "lines.block('if (g < groups && place == 0)'", "lines.block('if (g < groups && place < 2)'", 'reductions', 'bits'],
    ['blocks of one group all write the same share', '(int64_t)split * ', '0 * ', 'reductions', 'values'],
  ]),
  ...bugsIn('src/compile/print/partials.ts', [
    ['scratch memory is too small for the partial results', 'Math.ceil((splits * total * bytesOf(', 'Math.ceil((Math.ceil(splits / 2) * total * bytesOf(', 'reductions', 'fault'],
    ['partial results overlap', 'offsets.push(bytes)', 'offsets.push(0)', 'reductions', 'values'],
    ['not all partial results are added', "{ extent: splits, role: 'reduce' }", "{ extent: splits - 1, role: 'reduce' }", 'reductions', 'values'],
  ]),
]

const prelude = [
  ...bugsIn('src/cuda/prelude-memory.ts', [
    ['threads add sums that others have not stored', 's[k * 256 + t] = x[k];\n  pb_barrier();', 's[k * 256 + t] = x[k];', 'one sum', 'values'],
    ['a sum by halves does not wait in between', 's[k * 256 + t + half * stride]);\n    }\n    pb_barrier();', 's[k * 256 + t + half * stride]);\n    }', 'one sum', 'bits'],
    ['a barrier only some threads reach', '      for (int k = 0; k < V; ++k) s[k * 256 + t] = Op::of(s[k * 256 + t], s[k * 256 + t + half * stride]);\n    }\n    pb_barrier();', '      for (int k = 0; k < V; ++k) s[k * 256 + t] = Op::of(s[k * 256 + t], s[k * 256 + t + half * stride]);\n    pb_barrier();\n    }', 'one sum', 'fault'],
  ]),
  ...bugsIn('src/cuda/prelude-registers.ts', [
    ['the larger of a number and NaN is the number', 'a < b || b != b ? b : a', 'a < b ? b : a', 'the largest', 'values'],
  ]),
  ...bugsIn('src/cuda/prelude-blocks.ts', [
    ['the place of the largest ignores NaN', 'return x > best || (x != x && best == best);', 'return x > best;', 'where the largest is', 'values'],
    ['a running count mixes its two buffers', 'to[t] = from[t] + (t >= stride ? from[t - stride] : 0);\n    pb_barrier();', 'to[t] = from[t] + (t >= stride ? from[t - stride] : 0);', 'indexed', 'fault'],
  ]),
  ...bugsIn('src/cuda/prelude-device.ts', [
    ['a joined launch never finds its last kernels', 'step > 0; step /= 2)', 'step > 1; step /= 2)', 'joined', 'values'],
    ['blocks of a joined launch keep their number in all', '{pb_block() - (uint32_t)first[i]}', '{pb_block()}', 'joined', 'values'],
  ]),
]

const expressions = [
  ...bugsIn('src/compile/print/expression.ts', [
    ['what is no number counts as finite', 'const call = `pbv_${node.op}_${classOf(operand(0))}(${list})`', "const call = node.op === 'isFinite' ? `pbv_ne_f(pbv_abs_f(${list}), pbv_infinity_f())` : `pbv_${node.op}_${classOf(operand(0))}(${list})`", 'finite', 'values'],
    ['a 16-bit result is not rounded', 'if (isHalf(dtype)) return `pbv_round_${dtype}(${text})`', 'if (isHalf(dtype)) return text', 'rounding', 'values'],
  ]),
  ...bugsIn('src/compile/affine.ts', [
    ['a slice begins at the beginning', 'offset: at(start, axis) + at(stride, axis) * offset', 'offset: at(stride, axis) * offset', 'maps', 'values'],
  ]),
  ...bugsIn('src/train/step.ts', [
    ['the loss scale is that of the step before', 'lossScale: adjust(old.lossScale, finite)', 'lossScale: old.lossScale', 'training', 'values'],
    ['parameters take a step that is not finite', 'params: selectTree(finite, params, old.params)', 'params', 'training', 'values'],
  ]),
]

const joined = bugsIn('src/cuda/together.ts', [
  ['joined launches have wrong first blocks', 'firstBlocks.push(blocks)\n', 'firstBlocks.push(index)\n', 'joined', 'values'],
  ['a joined launch has too few blocks', 'blocks += kernels[index]?.blocks ?? 0', 'blocks += 1', 'joined', 'values'],
  ['a step overtakes the joined launch it needs', 'if (key !== undefined) flush(key)\n    }', '}', 'joined', 'values'],
])

const own = [
  ...bugsIn('src/cuda/kernels/conv.ts', [
    ['a convolution has one group too few', 'outers: groups, rows, columns: outGroup, depth }', 'outers: groups - 1, rows, columns: outGroup, depth }', 'own convolutions', 'values'],
    ['padding is taken from the other axis', 'padTop: conv.padding[0][0], padLeft: conv.padding[1][0]', 'padTop: conv.padding[1][0], padLeft: conv.padding[0][0]', 'own convolutions', 'values'],
    ['tables are read before they are filled', "  }\n  pb_barrier();`", "  }`", 'own convolutions', 'values'],
  ]),
  ...bugsIn('src/cuda/kernels/products.ts', [
    ['a tile is multiplied before it is whole', '\n    pb_barrier();\n    if (at + ${tileDepth} < end) {', '\n    if (at + ${tileDepth} < end) {', 'own convolutions', 'bits'],
    ['a tile is overwritten while others multiply it', '{\n    pb_barrier();\n    pb_stage<${tile.rows}', '{\n    pb_stage<${tile.rows}', 'own convolutions', 'bits'],
  ]),
  ...bugsIn('src/cuda/kernels/grouped.ts', [
    ['scratch memory for one partial result too few', 'scratchBytes: parts * elements * 4', 'scratchBytes: (parts - 1) * elements * 4', 'grouped convolutions', 'fault'],
    ['not all partial results of a filter gradient are added', 'numbers: [elements, parts]', 'numbers: [elements, parts - 1]', 'grouped convolutions', 'values'],
  ]),
  ...bugsIn('src/cuda/kernels/grouped-rows.ts', [
    ['a row is used before everybody’s copies are there', 'pb_async_wait<STAGES - 2>();\n      pb_barrier();', 'pb_async_wait<STAGES - 2>();', 'grouped convolutions', 'bits'],
    ['a row is used while it is copied', 'pb_async_wait<STAGES - 2>();\n', 'pb_async_wait<STAGES - 1>();\n', 'grouped convolutions', 'values'],
    ['groups mix', "if (to >= channels || to / CG != from / CG) return 0;", "if (to >= channels) return 0;", 'grouped convolutions', 'values'],
  ]),
  ...bugsIn('src/cuda/kernels/grouped-filter.ts', [
    ['the pairs’ sums are added before they are stored', '    }\n    pb_barrier();\n    if (pair == 1) return;', '    }\n    if (pair == 1) return;', 'grouped convolutions', 'values'],
    ['partial results are added before they are stored', 'shared[pb_thread()] = sum;\n  pb_barrier();', 'shared[pb_thread()] = sum;', 'grouped convolutions', 'bits'],
    ['every block writes the first partial result', '(int64_t)(pb_block() / ((e.channels + 63) / 64)) * e.channels', '0 * e.channels', 'grouped convolutions', 'values'],
  ]),
  ...bugsIn('src/cuda/kernels/grouped-tiling.ts', [
    ['shared memory for one stage too few', "if (direction === 'forward') return stages * stride * pitch", "if (direction === 'forward') return (stages - 1) * stride * pitch", 'grouped convolutions', 'fault'],
  ]),
]

const libraries = [
  ...bugsIn('src/cuda/conv/graph.ts', [
    ['padding before and after are exchanged', 'CONVOLUTION_PRE_PADDINGS: integers(padding.map(([before]) => before)),\n    CONVOLUTION_POST_PADDINGS: integers(padding.map(([, after]) => after)),', 'CONVOLUTION_PRE_PADDINGS: integers(padding.map(([, after]) => after)),\n    CONVOLUTION_POST_PADDINGS: integers(padding.map(([before]) => before)),', 'cuDNN convolutions', 'values'],
    ['strides are those of the other layout', 'TENSOR_STRIDES: integers(order.map((axis) => at(strides, axis)))', 'TENSOR_STRIDES: integers(stridesOf(order.map((axis) => at(shape, axis))))', 'cuDNN convolutions', 'values'],
  ]),
  ...bugsIn('src/cuda/conv/problem.ts', [
    ['TF32 where IEEE was asked for', "precision: dtype === 'f32' ? precision : 'tf32',", "precision: 'tf32',", 'cuDNN convolutions', 'values'],
  ]),
  ...bugsIn('src/cuda/conv/plans.ts', [
    ['operands keep the addresses of the first execution', 'if (this.#pack !== undefined && wanted.every((address, index) => address === this.#addresses[index]))', 'if (this.#pack !== undefined)', 'cuDNN convolutions', 'values'],
    ['variant packs are never destroyed', 'pack?.scope.release()', '', 'cuDNN convolutions', 'leak'],
  ]),
  ...bugsIn('src/cuda/conv/candidates.ts', [
    ['a plan’s scratch memory is not asked for', 'scratchBytes: workspaceBytes,', 'scratchBytes: 0,', 'cuDNN convolutions', 'error'],
    ['plans are never destroyed', '() => plan.release(), ', '', 'cuDNN convolutions', 'leak'],
  ]),
  ...bugsIn('src/cuda/matmul/operation.ts', [
    ['TF32 in products where IEEE was asked for', "'32F_FAST_TF32' : '32F_PEDANTIC'", "'32F_FAST_TF32' : '32F_FAST_TF32'", 'products', 'values'],
    ['a matrix has the other one’s rows', 'createLayout(types[dtype], columns, rows, columns)', 'createLayout(types[dtype], columns, rows, Math.max(columns, rows))', 'products', 'values'],
  ]),
  ...bugsIn('src/cuda/matmul/candidates.ts', [
    ['a product keeps the bias of its first run', "'BIAS_POINTER', at(operands, 2))", "'BIAS_POINTER', (operation.bias ??= at(operands, 2)))", 'biases', 'values'],
    ['a product’s descriptors are never destroyed', '    operation?.release()\n', '\n', 'products', 'leak'],
  ]),
]

/** All of them. */
export const kernelBugs: readonly PlantedBug[] = [printed, prelude, expressions, joined, own, libraries].flat()
