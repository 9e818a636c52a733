// Planted bugs of our own kernels of convolutions, pooling and products, and of what cuDNN and cuBLASLt are asked for.
import { type PlantedBug, bugsIn } from './bug.ts'

/** All of them. */
export const ownBugs: readonly PlantedBug[] = [
  bugsIn('src/cuda/kernels/pooling.ts', [
    ['windows begin in the padding', 'y0 = PB_MAX(0, top), y1', 'y0 = top, y1', 'pooling', 'values'],
    [
      'the last window of a pixel is left out',
      '(ix + padLeft) / strideX + 1);',
      '(ix + padLeft) / strideX);',
      'pooling',
      'values',
    ],
    [
      'places of maxima have too little scratch memory',
      "outputs(pool) * (placeType(pool) === 'u8' ? 1 : 4)",
      'outputs(pool) / 2',
      'pooling',
      'fault',
    ],
  ]),
  bugsIn('src/cuda/conv/engines.ts', [
    [
      'engines that give other bits each time are taken',
      "...(deterministic ? (['NONDETERMINISTIC'] as const) : []),",
      '',
      'cuDNN convolutions',
      'values',
    ],
    [
      'Tensor Cores are taken where IEEE was asked for',
      "...(dtype === 'f32' && precision === 'ieee' ? (['TENSOR_CORE'] as const) : []),",
      '',
      'cuDNN convolutions',
      'values',
    ],
  ]),
  bugsIn('src/cuda/kernels/conv.ts', [
    [
      'a convolution has one group too few',
      'outers: groups, rows, columns: outGroup, depth }',
      'outers: groups - 1, rows, columns: outGroup, depth }',
      'own convolutions',
      'values',
    ],
    [
      'padding is taken from the other axis',
      'padTop: conv.padding[0][0], padLeft: conv.padding[1][0]',
      'padTop: conv.padding[1][0], padLeft: conv.padding[0][0]',
      'own convolutions',
      'values',
    ],
    ['tables are read before they are filled', '  }\n  pb_barrier();`', '  }`', 'own convolutions', 'values'],
  ]),
  bugsIn('src/cuda/kernels/products.ts', [
    [
      'a tile is multiplied before it is whole',
      '\n    pb_barrier();\n    if (at + ${tileDepth} < end) {',
      '\n    if (at + ${tileDepth} < end) {',
      'own convolutions',
      'bits',
    ],
    [
      'a tile is overwritten while others multiply it',
      '{\n    pb_barrier();\n    pb_stage<${tile.rows}',
      '{\n    pb_stage<${tile.rows}',
      'own convolutions',
      'bits',
    ],
  ]),
  bugsIn('src/cuda/kernels/grouped.ts', [
    [
      'scratch memory for one partial result too few',
      'scratchBytes: parts * elements * 4',
      'scratchBytes: (parts - 1) * elements * 4',
      'grouped convolutions',
      'fault',
    ],
    [
      'not all partial results of a filter gradient are added',
      'elements, parts',
      'elements, parts - 1',
      'grouped convolutions',
      'values',
    ],
  ]),
  bugsIn('src/cuda/kernels/grouped-rows.ts', [
    [
      'a row is used before everybody’s copies are there',
      'pb_barrier();\n      ask((slot',
      'ask((slot',
      'grouped convolutions',
      'bits',
    ],
    [
      'a row is used while it is copied',
      'pb_async_wait<STAGES - 2>();\n',
      'pb_async_wait<STAGES - 1>();\n',
      'grouped convolutions',
      'values',
    ],
    [
      'groups mix',
      'if (to >= channels || to / CG != from / CG) return 0;',
      'if (to >= channels) return 0;',
      'grouped convolutions',
      'values',
    ],
  ]),
  bugsIn('src/cuda/kernels/grouped-combine.ts', [
    [
      'partial results are added before they are stored',
      'shared[pb_thread()] = sum;\n  pb_barrier();',
      'shared[pb_thread()] = sum;',
      'grouped convolutions',
      'bits',
    ],
  ]),
  bugsIn('src/cuda/fusions/totals.ts', [
    [
      'both sums are the first',
      'offset: at(kinds, index) * channels',
      'offset: 0',
      'around grouped convolutions',
      'values',
    ],
    [
      'what the last block has of a sum is left out',
      "{ extent: parts, role: 'reduce' }",
      "{ extent: parts - 1, role: 'reduce' }",
      'around grouped convolutions',
      'values',
    ],
  ]),
  bugsIn('src/cuda/kernels/grouped-epilogue.ts', [
    [
      'sums are of all that is stored, where ReLU was closed too',
      'if (!(T::wide((uint16_t)before) > 0.0f)) pair &= 0xffff0000u;',
      '',
      'around grouped convolutions',
      'values',
    ],
  ]),
  bugsIn('src/cuda/kernels/grouped-stream.ts', [
    [
      'the mean is taken for the sum that it is a part of',
      'v.mean[k] *= from.factor;',
      '',
      'around grouped convolutions',
      'values',
    ],
  ]),
  bugsIn('src/cuda/fusions/tasks.ts', [
    [
      'nothing is made of the sums that came with a convolution',
      'last === undefined ? [] :',
      'last !== undefined ? [] :',
      'training',
      'values',
    ],
  ]),
  bugsIn('src/cuda/fusions/group.ts', [
    [
      'what others read of a chain stays inside',
      ' || at(readers, buffer).some((reader) => !members.includes(reader))',
      '',
      'chains of rows',
      'error',
    ],
    ['what is left of a chain reads a value inside', 'later.includes(buffer) ||', '', 'chains of rows', 'error'],
  ]),
  bugsIn('src/cuda/fusions/rows.ts', [
    [
      'a chain reads what is only made behind it',
      ' && ![...shared, ...along].some((buffer) => later.has(buffer))',
      '',
      'chains of rows',
      'error',
    ],
  ]),
  bugsIn('src/cuda/fusions/order.ts', [
    [
      'what is left of a chain comes too late',
      'if (steps.some(({ inputs, outputs }) => [...inputs, ...outputs].some((buffer) => wanted.has(buffer)))) release()',
      '',
      'chains of rows',
      'error',
    ],
  ]),
  bugsIn('src/cuda/kernels/grouped-filter.ts', [
    [
      'the pairs’ sums are added before they are stored',
      '    }\n    pb_barrier();\n    if (pair == 1) return;',
      '    }\n    if (pair == 1) return;',
      'grouped convolutions',
      'values',
    ],
    [
      'every block writes the first partial result',
      '(int64_t)(pb_block() / ((e.channels + 63) / 64)) * e.channels',
      '0 * e.channels',
      'grouped convolutions',
      'values',
    ],
  ]),
  bugsIn('src/cuda/kernels/grouped-tiling.ts', [
    [
      'shared memory for one stage too few',
      "if (direction === 'forward') return stages * stride * pitch",
      "if (direction === 'forward') return (stages - 1) * stride * pitch",
      'grouped convolutions',
      'fault',
    ],
  ]),
  bugsIn('src/cuda/conv/graph.ts', [
    [
      'padding before and after are exchanged',
      'CONVOLUTION_PRE_PADDINGS: integers(padding.map(([before]) => before)),\n    CONVOLUTION_POST_PADDINGS: integers(padding.map(([, after]) => after)),',
      'CONVOLUTION_PRE_PADDINGS: integers(padding.map(([, after]) => after)),\n    CONVOLUTION_POST_PADDINGS: integers(padding.map(([before]) => before)),',
      'cuDNN convolutions',
      'values',
    ],
    [
      'strides are those of the other layout',
      'TENSOR_STRIDES: integers(order.map((axis) => at(strides, axis)))',
      'TENSOR_STRIDES: integers(stridesOf(order.map((axis) => at(shape, axis))))',
      'cuDNN convolutions',
      'values',
    ],
  ]),
  bugsIn('src/cuda/conv/problem.ts', [
    [
      'TF32 where IEEE was asked for',
      "precision: dtype === 'f32' ? precision : 'tf32',",
      "precision: 'tf32',",
      'cuDNN convolutions',
      'values',
    ],
  ]),
  bugsIn('src/cuda/conv/plans.ts', [
    [
      'operands keep the addresses of the first execution',
      'if (this.#pack !== undefined && wanted.every((address, index) => address === this.#addresses[index]))',
      'if (this.#pack !== undefined)',
      'cuDNN convolutions',
      'values',
    ],
    ['variant packs are never destroyed', 'pack?.scope.release()', '', 'cuDNN convolutions', 'leak'],
  ]),
  bugsIn('src/cuda/conv/candidates.ts', [
    [
      'a plan’s scratch memory is not asked for',
      'scratchBytes: workspaceBytes,',
      'scratchBytes: 0,',
      'cuDNN convolutions',
      'error',
    ],
    ['plans are never destroyed', '() => plan.release(), ', '', 'cuDNN convolutions', 'leak'],
  ]),
  bugsIn('src/cuda/matmul/operation.ts', [
    [
      'TF32 in products where IEEE was asked for',
      "'32F_FAST_TF32' : '32F_PEDANTIC'",
      "'32F_FAST_TF32' : '32F_FAST_TF32'",
      'products',
      'values',
    ],
    [
      'a matrix has the other one’s rows',
      'createLayout(types[dtype], columns, rows, columns)',
      'createLayout(types[dtype], columns, rows, Math.max(columns, rows))',
      'products',
      'values',
    ],
  ]),
  bugsIn('src/cuda/matmul/candidates.ts', [
    [
      'a product keeps the bias of its first run',
      "'BIAS_POINTER', at(operands, 2))",
      "'BIAS_POINTER', (operation.bias ??= at(operands, 2)))",
      'biases',
      'values',
    ],
    ['a product’s descriptors are never destroyed', '    operation?.release()\n', '\n', 'products', 'leak'],
  ]),
].flat()
