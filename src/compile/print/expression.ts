// One node of a kernel as an expression over registers, the same text in every C-family language: calls of prelude
// functions that each language defines on its own registers. Loads, loops and threads are the dialects' part.
import { type DType, isHalf } from '../../tensor/dtype.ts'
import { roundTo } from '../../tensor/half.ts'
import { at } from '../../tensor/shape.ts'
import type { Kernel, KernelNode } from '../kernel.ts'
import type { Numbers } from './numbers.ts'

/** What kind of register holds a dtype: f (f32, f16, bf16), d (f64), i (i32, u8), b (bool). */
export type RegisterClass = 'f' | 'd' | 'i' | 'b'

const classes: Readonly<Record<DType, RegisterClass>> = {
  f32: 'f',
  f16: 'f',
  bf16: 'f',
  f64: 'd',
  i32: 'i',
  u8: 'i',
  bool: 'b',
}

/** The register class of a dtype. */
export function classOf(dtype: DType): RegisterClass {
  return classes[dtype]
}

/** Operations whose result needs no rounding if the operands are values of the dtype. */
const exact: ReadonlySet<string> = new Set(['neg', 'abs', 'sign', 'floor', 'max', 'min', 'select'])

/** Operations on u8 whose result may lie outside of 0..255. */
const overflowing: ReadonlySet<string> = new Set(['add', 'sub', 'mul', 'neg'])

/** Where an `index` or `philox` node gets its element index from: texts for the first lane's index and the lanes' step. */
export interface Lanes {
  readonly base: string
  readonly step: string
}

/** Operations that become an expression of registers; loads and constants are made by `printConstant` and the dialects. */
export type ComputedNode = Exclude<KernelNode, { readonly op: 'load' | 'constant' }>

/** The expression for a node from the names of its arguments. */
export function printExpression(
  kernel: Kernel,
  node: ComputedNode,
  args: readonly string[],
  lanes: Lanes | undefined,
  numbers: Numbers,
): string {
  const list = args.join(', ')
  const operand = (index: number): DType => at(kernel.nodes, at('args' in node ? node.args : [], index)).dtype
  switch (node.op) {
    case 'index':
      return printCast('i32', node.dtype, `pbv_index_i(${place(lanes)})`)
    case 'philox': {
      const mask = node.bits === 32 ? -1 : 2 ** node.bits - 1
      return `pbv_philox(${list}, ${place(lanes)}, ${numbers.add('stream', node.stream)}, ${numbers.add('mask', mask)})`
    }
    case 'cast':
      return printCast(operand(0), node.dtype, list)
    case 'compare':
      return `pbv_${node.comparison}_${classOf(operand(0))}(${list})`
    case 'select':
      return `pbv_select_${classOf(node.dtype)}(${list})`
    default: {
      const call = `pbv_${node.op}_${classOf(operand(0))}(${list})`
      return exact.has(node.op) && node.dtype !== 'u8' ? call : rounded(node.dtype, call, overflowing.has(node.op))
    }
  }
}

function place(lanes: Lanes | undefined): string {
  if (lanes === undefined) throw new RangeError('internal: a node without its access')
  return `${lanes.base}, ${lanes.step}`
}

function rounded(dtype: DType, text: string, overflows: boolean): string {
  if (isHalf(dtype)) return `pbv_round_${dtype}(${text})`
  return dtype === 'u8' && overflows ? `pbv_wrap_u8(${text})` : text
}

/** A value of one dtype converted to another, rounded once. */
export function printCast(from: DType, to: DType, text: string): string {
  if (from === to) return text
  const [source, target] = [classOf(from), classOf(to)]
  if (isHalf(to)) {
    if (source === 'd') return `pbv_${to}_of_d(${text})`
    if (from === 'i32' && to === 'bf16') return `pbv_bf16_of_d(pbv_d_of_i(${text}))` // f32 would round before
    const single = source === 'f' ? text : `pbv_f_of_${source}(${text})`
    return from === 'u8' || from === 'bool' ? single : `pbv_round_${to}(${single})`
  }
  const converted = source === target ? text : `pbv_${target}_of_${source}(${text})`
  return to === 'u8' && from !== 'bool' ? `pbv_clamp_u8(${converted})` : converted
}

const inline: ReadonlySet<number> = new Set([0, 1, -1, 2, 0.5])

/** A constant in all lanes. The few that matter to the compiler stand in the text, the others are arguments. */
export function printConstant(dtype: DType, value: number, numbers: Numbers): string {
  const register = classOf(dtype)
  const rounded = roundTo(dtype, value)
  const plain = inline.has(rounded) && !Object.is(rounded, -0)
  if (plain || register === 'b') return `pbv_splat_${register}(${rounded})`
  if (register === 'i') return `pbv_splat_i((int32_t)${numbers.add('constant', rounded)})`
  const [low, high] = wordsOf(register === 'd' ? Float64Array.of(rounded) : Float32Array.of(rounded))
  const words = register === 'd' ? [high, low] : [low]
  return `pbv_splat_${register}(pbv_argument_${register}(${words.map((word) => numbers.add('constant', word)).join(', ')}))`
}

function wordsOf(value: Float32Array | Float64Array): [number, number] {
  const words = new Uint32Array(value.buffer)
  return [words[0] ?? 0, words[1] ?? 0]
}
