// Small WebAssembly functions, written as expressions and assembled here: for loops on the host that need the products of
// 64 bits and the vectors that JavaScript lacks. What they compute, and what to do without them, is up to those who write
// them. An operand is the code that leaves it on the stack; the names are those of the specification's text format.
import { range } from './shape.ts'

/** Instructions in binary form. */
export type Code = readonly number[]

// Of the global WebAssembly, which Node has and its types do not name, what is used here.
declare const WebAssembly:
  | {
      readonly validate: (bytes: Uint8Array) => boolean
      readonly Module: new (bytes: Uint8Array) => object
      readonly Instance: new (module: object, imports: object) => { readonly exports: Exports }
    }
  | undefined

interface Exports {
  readonly memory: { readonly buffer: ArrayBuffer }
  readonly run: (...parameters: number[]) => void
}

const binary =
  (opcode: number) =>
  (a: Code, b: Code): Code => [...a, ...b, opcode]
const vector =
  (opcode: number) =>
  (...operands: Code[]): Code => [...operands.flat(), 0xfd, ...unsigned(opcode)]
const constants = (values: ArrayBufferView): Code => [
  0xfd,
  0x0c,
  ...new Uint8Array(values.buffer, values.byteOffset, 16),
]

/** Integers of 32 bits. */
export const i32 = {
  const: (value: number): Code => [0x41, ...signed(value | 0)],
  ltU: binary(0x49),
  add: binary(0x6a),
  and: binary(0x71),
  shrU: binary(0x76),
} as const

type Lanes = readonly [number, number, number, number]

/** Four integers of 32 bits. */
export const i32x4 = {
  const: (lanes: Lanes): Code => constants(Int32Array.from(lanes)),
  same: (value: number): Code => constants(new Int32Array(4).fill(value)),
  splat: vector(0x11),
  lane: (a: Code, lane: number): Code => [...a, 0xfd, 0x1b, lane],
  eq: vector(0x37),
  allTrue: vector(0xa3),
  add: vector(0xae),
  /** Lanes of a (0 to 3) and of b (4 to 7), in a new order. */
  shuffle: (a: Code, b: Code, lanes: Lanes): Code => [
    ...[...a, ...b, 0xfd, 0x0d],
    ...lanes.flatMap((lane) => range(4).map((byte) => 4 * lane + byte)),
  ],
} as const

/** Two integers of 64 bits. */
export const i64x2 = {
  same: (value: bigint): Code => constants(BigInt64Array.of(value, value)),
  shrU: (a: Code, bits: number): Code => [...a, ...i32.const(bits), 0xfd, ...unsigned(0xcd)],
  /** The products of lanes 0 and 1, or 2 and 3, of two i32x4. */
  extmulLowU: vector(0xde),
  extmulHighU: vector(0xdf),
} as const

/** Two numbers as JavaScript has them. */
export const f64x2 = {
  same: (value: number): Code => constants(Float64Array.of(value, value)),
  splat: vector(0x14),
  sqrt: vector(0xef),
  add: vector(0xf0),
  sub: vector(0xf1),
  mul: vector(0xf2),
  /** Of the lanes 0 and 1 of an i32x4. */
  convertLowU: vector(0xff),
  /** Rounded to single precision, to the lanes 0 and 1 of an f32x4. */
  demote: vector(0x5e),
} as const

/** 128 bits, whatever they are. */
export const v128 = {
  load: (address: Code, offset = 0): Code => [...address, 0xfd, 0x00, 0, ...unsigned(offset)],
  store: (address: Code, value: Code, offset = 0): Code => [...address, ...value, 0xfd, 0x0b, 0, ...unsigned(offset)],
  and: vector(0x4e),
  or: vector(0x50),
  xor: vector(0x51),
} as const

/** Does `body`, and again as long as `again` is not 0. */
export function repeat(body: Code, again: Code): Code {
  return [0x03, 0x40, ...body, ...again, 0x0d, 0, 0x0b]
}

/** Calls the function's `outside` unless `condition` is 0. */
export function unless(condition: Code, outside: Code): Code {
  return [...condition, 0x04, 0x40, 0x05, ...outside, 0x10, 0, 0x0b]
}

const types = { i32: 0x7f, f64: 0x7c, v128: 0x7b } as const
type ValueType = keyof typeof types

/** A function and its memory. */
export interface WasmFunction<Parameter extends string, Variable extends string> {
  /** In pages of 64 KiB. */
  readonly pages: number
  readonly parameters: Readonly<Record<Parameter, ValueType>>
  readonly variables: Readonly<Record<Variable, ValueType>>
  readonly body: (names: {
    readonly get: (name: Parameter | Variable) => Code
    readonly set: (name: Parameter | Variable, value: Code) => Code
  }) => Code
  /** What {@link unless} calls, with one i32. */
  readonly outside?: (value: number) => void
}

/** The function and its memory's bytes, or undefined where Node cannot run it: without WebAssembly, or its vectors. */
export function makeWasm<Parameter extends string, Variable extends string>(
  definition: WasmFunction<Parameter, Variable>,
): { readonly run: Exports['run']; readonly memory: ArrayBuffer } | undefined {
  if (typeof WebAssembly === 'undefined') return undefined
  const bytes = assemble(definition)
  if (!WebAssembly.validate(bytes)) return undefined
  const imports = { host: { outside: definition.outside ?? (() => undefined) } }
  const { run, memory } = new WebAssembly.Instance(new WebAssembly.Module(bytes), imports).exports
  return { run, memory: memory.buffer }
}

function assemble<P extends string, V extends string>({
  pages,
  parameters,
  variables,
  body,
}: WasmFunction<P, V>): Uint8Array {
  const typesOf = (names: Readonly<Record<string, ValueType>>): number[] =>
    Object.values(names).map((type) => types[type])
  const places = [...Object.keys(parameters), ...Object.keys(variables)]
  const get = (name: P | V): Code => [0x20, ...unsigned(places.indexOf(name))]
  const set = (name: P | V, value: Code): Code => [...value, 0x21, ...unsigned(places.indexOf(name))]
  const locals = typesOf(variables).map((type) => [1, type])
  const code = [...unsigned(locals.length), ...locals.flat(), ...body({ get, set }), 0x0b]
  const sections: readonly (readonly [id: number, content: Code])[] = [
    [1, [2, 0x60, 1, types.i32, 0, 0x60, ...counted(typesOf(parameters)), 0]],
    [2, [1, ...name('host'), ...name('outside'), 0, 0]],
    [3, [1, 1]],
    [5, [1, 0, ...unsigned(pages)]],
    [7, [2, ...name('run'), 0, 1, ...name('memory'), 2, 0]],
    [10, [1, ...counted(code)]],
  ]
  const head = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]
  return Uint8Array.from([...head, ...sections.flatMap(([id, content]) => [id, ...counted(content)])])
}

function name(text: string): Code {
  return counted(range(text.length).map((i) => text.charCodeAt(i)))
}

/** Bytes behind their number. */
function counted(bytes: Code): Code {
  return [...unsigned(bytes.length), ...bytes]
}

/** A whole number in LEB128: seven bits a byte, the low ones first. */
function unsigned(value: number): Code {
  return value < 128 ? [value] : [(value & 127) | 128, ...unsigned(value >>> 7)]
}

/** The same for a number that may be negative. */
function signed(value: number): Code {
  const low = value & 127
  const rest = value >> 7
  const last = (rest === 0 && low < 64) || (rest === -1 && low >= 64)
  return last ? [low] : [low | 128, ...signed(rest)]
}
