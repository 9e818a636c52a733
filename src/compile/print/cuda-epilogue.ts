// What one thread of a CUDA kernel makes of the results it has finished, a column at a time.
import type { DType } from '../../tensor/dtype.ts'
import { at, range } from '../../tensor/shape.ts'
import { type Kernel, epilogueAlone } from '../kernel.ts'
import { operandPositions, pointerOrder } from './cuda-pointers.ts'
import { type CudaAccess, type CudaScope, cudaRegisters, cudaStorage, lane, products } from './cuda-points.ts'
import { classOf, printCast, printConstant, printExpression } from './expression.ts'
import { argumentsOf } from './levels.ts'

/** Where an access is for this thread's group. */
export function placeOfResult({ nest }: CudaScope, access: CudaAccess): string {
  const terms = [access.offset, ...products(access.map, (axis) => `i${axis}`)]
  return [...terms, ...(nest.form === 'column' ? products([access.column], () => 'c') : [])].join(' + ')
}

/** Computes and stores the epilogue of the thread's group from its results r0, r1, ... */
export function printEpilogue(scope: CudaScope, lanes: number): void {
  const { kernel, lines, epilogue } = scope
  const last = epilogueAlone(kernel)?.kernel
  if (last === undefined) return
  const order = pointerOrder(kernel, scope.partials !== undefined)
  const positions = operandPositions(kernel)
  const point = (access: CudaAccess, dtype: DType, pointer: number, constant: string): void => {
    const type = `${constant}${cudaStorage[dtype]}`
    lines.add(`${type} *const ${access.name} = (${type} *)a.p[${pointer}] + ${placeOfResult(scope, access)};`)
  }
  epilogue.inputs.forEach((access, i) => {
    const position = positions[i]
    if (position !== undefined) point(access, at(last.inputs, i).dtype, order.operands + position, 'const ')
  })
  epilogue.nodes.forEach((access) => {
    if (access !== undefined) lines.add(`const int64_t ${access.name} = ${placeOfResult(scope, access)};`)
  })
  epilogue.stores.forEach((access, i) => {
    point(access, at(last.stores, i).dtype, order.lastStores + i, '')
  })
  const load = (input: number): string => {
    const { reduction, dtype } = at(kernel.epilogue?.inputs ?? [], input)
    const { name, column } = at(epilogue.inputs, input)
    return reduction === undefined ? `pb_get<pb_${dtype}>(${lane(name, column)})` : `r${reduction}[k]`
  }
  lines.add('PB_UNROLL')
  lines.block(`for (int k = 0; k < ${lanes}; ++k)`, () => {
    for (const index of range(last.nodes.length)) printLastNode(scope, last, index, load)
    last.stores.forEach(({ node, dtype }, i) => {
      const { name, column } = at(epilogue.stores, i)
      const value = printCast(at(last.nodes, node).dtype, dtype, `e${node}`)
      lines.add(`pb_put<pb_${dtype}>(${lane(name, column)}, ${value});`)
    })
  })
}

/** Declares one value of the epilogue for column k. */
function printLastNode(scope: CudaScope, last: Kernel, index: number, load: (input: number) => string): void {
  const node = at(last.nodes, index)
  const own = scope.epilogue.nodes[index]
  const place = own === undefined ? undefined : { base: lane(own.name, own.column), step: '0' }
  const value = (): string => {
    if (node.op === 'constant') return printConstant(node.dtype, node.value, scope.numbers)
    if (node.op === 'load') return load(node.input)
    return printExpression(
      last,
      node,
      argumentsOf(node).map((arg) => `e${arg}`),
      place,
      scope.numbers,
    )
  }
  scope.lines.add(`const ${cudaRegisters[classOf(node.dtype)]} e${index} = ${value()};`)
}
