// Fusion: sinks over the same loops that share what they read become one kernel. The list of items is always in an
// order that can be executed; a sink joins a kernel only if the kernel may stay where it is, or move to the sink.
import { bytesOf } from '../tensor/dtype.ts'
import type { Equation, Program, Var } from '../tensor/program.ts'
import { type Shape, at, sameShape, sizeOf } from '../tensor/shape.ts'
import { ExpressionBuilder, type Load } from './expression.ts'
import { type Values, isLibrary } from './materialize.ts'
import { type Sink, sinksOf } from './sinks.ts'

/** Sinks that will be one kernel. */
export interface Group {
  readonly kind: 'group'
  sinks: readonly Sink[]
  readonly domain: Shape
  /** The loads of all sinks, but those of values made in the group. */
  loads: readonly Load[]
  /** Pointwise sinks over the results of the reductions, all over the same loops. */
  epilogue: readonly Sink[]
  /** What those read besides the results and each other. */
  epilogueLoads: readonly Load[]
  position: number
  /** Where the first item stands that reads what this group makes. */
  consumedAt: number
}

/** A library equation as an item. */
export interface LibraryItem {
  readonly kind: 'library'
  readonly equation: Equation
  readonly position: number
}

export type Item = Group | LibraryItem

const maxLoads = 16
const maxSinks = 8
/** A sink joins no kernel further back than this, or what it makes would be kept for longer; unless that costs nothing. */
const furthest = 48
/** Results of up to this many bytes may be kept for long. */
const negligible = 4096

/** The program as an ordered list of kernels-to-be and library calls. With `fuse` false every sink is its own kernel. */
export function group(program: Program, values: Values, fuse: boolean): readonly Item[] {
  return new Grouping(values, fuse).run(program)
}

class Grouping {
  readonly #values: Values
  readonly #fuse: boolean
  readonly #items: (Item | undefined)[] = []
  readonly #makers = new Map<Var, Item>()
  /** The kernels that read or make a value. */
  readonly #touching = new Map<Var, Set<Group>>()

  constructor(values: Values, fuse: boolean) {
    this.#values = values
    this.#fuse = fuse
  }

  run(program: Program): readonly Item[] {
    for (const equation of program.equations) {
      if (isLibrary(equation)) this.#library(equation)
      else if (equation.outputs.some((output) => this.#values.stored.has(output)))
        for (const sink of sinksOf(equation)) this.#sink(sink)
    }
    return this.#items.filter((item) => item !== undefined)
  }

  #library(equation: Equation): void {
    const item: LibraryItem = { kind: 'library', equation, position: this.#items.length }
    for (const input of equation.inputs)
      if (input.kind === 'var') this.#consume(this.#values.storageOf(input) ?? input, item.position)
    this.#items.push(item)
    for (const output of equation.outputs) this.#makers.set(output, item)
  }

  #sink(sink: Sink): void {
    const loads = loadsOf(sink, this.#values)
    const part = !sink.whole && sink.reduce === undefined // a part of a pad or concatenation stays where it is, in order
    const joins = (host: Group): boolean => this.#tryJoin(host, sink, loads) || this.#tryFollow(host, sink, loads)
    if (this.#fuse && !part && this.#candidates(sink, loads).some(joins)) return
    const made: Group = {
      kind: 'group',
      sinks: [sink],
      domain: sink.domain,
      loads,
      epilogue: [],
      epilogueLoads: [],
      position: this.#items.length,
      consumedAt: Number.POSITIVE_INFINITY,
    }
    this.#items.push(made)
    this.#finish(made, sink, loads)
    if (!part) this.#touch(made, [sink.value, ...loads.map((load) => load.storage)])
  }

  /** The kernels that touch a value worth sharing with the sink, or one that was made with it, the latest first. */
  #candidates(sink: Sink, loads: readonly Load[]): readonly Group[] {
    const found = new Set<Group>()
    for (const { storage } of worthSharing(loads, sink))
      for (const value of [storage, ...this.#siblings(storage)])
        for (const host of this.#touching.get(value) ?? []) found.add(host)
    return [...found].sort((a, b) => b.position - a.position)
  }

  /** The results of reductions in the kernel that made this one; none for other values. */
  #siblings(value: Var): readonly Var[] {
    const maker = this.#makers.get(value)
    const results = maker?.kind === 'group' ? maker.sinks.filter(isReduced).map((sink) => sink.value) : []
    return results.includes(value) ? results.filter((other) => other !== value) : []
  }

  #touch(host: Group, values: readonly Var[]): void {
    for (const value of values) this.#touching.set(value, (this.#touching.get(value) ?? new Set()).add(host))
  }

  #tryJoin(host: Group, sink: Sink, loads: readonly Load[]): boolean {
    if (host.sinks.length >= maxSinks || !compatible(host, sink)) return false
    const inLoop = new Map(host.sinks.flatMap((other) => (other.whole ? [[other.value, other] as const] : [])))
    const made = madeBy(host)
    const direct = loads.filter((load) => made.has(load.storage))
    if (direct.some((load) => !sameAccess(load, inLoop.get(load.storage)))) return false
    if (direct.length > 0 && this.#reads(sink, made, new Set(inLoop.keys()))) return false
    const outside = loads.filter((load) => !made.has(load.storage))
    const shared = worthSharing(loads, sink).filter(
      (load) => outside.includes(load) && host.loads.some((other) => equalLoad(other, load)),
    )
    if (direct.length === 0 && shared.length === 0 && !this.#readSiblings(host, sink, outside)) return false
    const fresh = outside.filter((load) => !host.loads.some((other) => equalLoad(other, load)))
    if (host.loads.length + fresh.length > maxLoads) return false
    if (!this.#meet(host, sink, outside)) return false
    host.sinks = [...host.sinks, sink]
    host.loads = [...host.loads, ...fresh]
    this.#finish(host, sink, outside)
    this.#touch(host, [sink.value, ...fresh.map((load) => load.storage)])
    return true
  }

  /** Whether both only reduce further what one kernel has reduced: the sums and the sums of squares over each image. */
  #readSiblings(host: Group, sink: Sink, loads: readonly Load[]): boolean {
    if (sink.reduce === undefined || !host.sinks.every(isReduced)) return false
    return loads.some(({ storage }) =>
      this.#siblings(storage).some((other) => host.loads.some((load) => load.storage === other)),
    )
  }

  /** Whether a sink would read one of these from memory though `inline` is computed in its loops: by views that cancel. */
  #reads(sink: Sink, made: ReadonlySet<Var>, inline: ReadonlySet<Var>): boolean {
    return loadsOf(sink, this.#values, inline).some(({ storage }) => made.has(storage))
  }

  /** Joins a pointwise sink to the kernel whose finished results it reads, point by point. */
  #tryFollow(host: Group, sink: Sink, loads: readonly Load[]): boolean {
    if (!sink.whole || host.epilogue.length >= maxSinks || !isOverResults(host, sink)) return false
    const results = new Set([...host.sinks.filter(isReduced), ...host.epilogue].map(({ value }) => value))
    const direct = loads.filter((load) => results.has(load.storage))
    if (direct.length === 0 || direct.some((load) => !sameAccess(load, sink))) return false
    const late = new Set(host.epilogue.map(({ value }) => value))
    if (direct.some(({ storage }) => late.has(storage)) && this.#reads(sink, late, late)) return false
    const outside = loads.filter((load) => !results.has(load.storage))
    if (outside.some((load) => madeBy(host).has(load.storage))) return false
    const fresh = outside.filter((load) => !host.epilogueLoads.some((other) => equalLoad(other, load)))
    if (host.loads.length + host.epilogueLoads.length + fresh.length > maxLoads + maxSinks) return false
    if (!this.#meet(host, sink, outside)) return false
    host.epilogue = [...host.epilogue, sink]
    host.epilogueLoads = [...host.epilogueLoads, ...fresh]
    this.#finish(host, sink, outside)
    this.#touch(host, [sink.value])
    return true
  }

  /** Whether a kernel can be where a sink can be that reads these values; it moves to the end if it must and may. */
  #meet(host: Group, sink: Sink, outside: readonly Load[]): boolean {
    const ready = outside.every((load) => (this.#makers.get(load.storage)?.position ?? -1) < host.position)
    const far = this.#items.length - host.position > furthest
    if (ready ? far && !this.#mayBeEarly(sink) : far || host.consumedAt !== Number.POSITIVE_INFINITY) return false
    if (!ready) this.#moveToEnd(host)
    return true
  }

  /** Whether making the sink's value long before it is needed costs no memory worth mentioning. */
  #mayBeEarly({ value }: Sink): boolean {
    return this.#values.isOutput(value) || sizeOf(value.type.shape) * bytesOf(value.type.dtype) <= negligible
  }

  #moveToEnd(host: Group): void {
    this.#items[host.position] = undefined
    host.position = this.#items.length
    this.#items.push(host)
  }

  #finish(host: Group, sink: Sink, loads: readonly Load[]): void {
    this.#makers.set(sink.value, host)
    for (const load of loads) this.#consume(load.storage, host.position)
  }

  #consume(storage: Var, position: number): void {
    const maker = this.#makers.get(storage)
    if (maker?.kind === 'group' && maker.position !== position) maker.consumedAt = Math.min(maker.consumedAt, position)
  }
}

/** What an expression reads when nothing is computed again. */
export function loadsOf(sink: Sink, values: Values, inline: ReadonlySet<Var> = new Set()): readonly Load[] {
  const builder = new ExpressionBuilder(values, sink.domain.length, ownValue(sink, inline))
  builder.root(sink.expression)
  return builder.loads
}

/** A whole sink computes its own value instead of loading it. */
export function ownValue(sink: Sink, inline: ReadonlySet<Var>): ReadonlySet<Var> {
  return sink.whole ? new Set([...inline, sink.value]) : inline
}

/** The full-size values a sink reads; if there is none, whatever it reads: then joining saves a launch and costs nothing. */
function worthSharing(loads: readonly Load[], sink: Sink): readonly Load[] {
  const full = loads.filter(({ storage }) => isFullSize(storage, sink))
  return full.length > 0 ? full : loads
}

/** Whether a value has about as many elements as the sink's loops have points. */
function isFullSize(v: Var, sink: Sink): boolean {
  return 2 * sizeOf(v.type.shape) >= sizeOf(sink.domain)
}

function madeBy({ sinks, epilogue }: Group): ReadonlySet<Var> {
  return new Set([...sinks, ...epilogue].map(({ value }) => value))
}

function isReduced({ reduce }: Sink): boolean {
  return reduce !== undefined
}

/**
 * Whether a sink's loops are those over the results of a kernel's reductions, but for axes of one. Single numbers stay by
 * themselves: hundreds of flags and losses are launched together if their kernels are alike.
 */
function isOverResults(host: Group, sink: Sink): boolean {
  if (sizeOf(sink.domain) === 1) return false
  const reduced = host.sinks.find(isReduced)?.reduce?.axes
  if (reduced === undefined || sizeOf(reduced.map((axis) => at(host.domain, axis))) <= 1) return false
  const [first] = host.epilogue
  if (first !== undefined) return sameShape(first.domain, sink.domain)
  const longer = (extents: Shape): Shape => extents.filter((extent) => extent !== 1)
  return sameShape(longer(sink.domain), longer(host.domain.filter((_extent, axis) => !reduced.includes(axis))))
}

function compatible(host: Group, sink: Sink): boolean {
  if (!sameShape(host.domain, sink.domain)) return false
  if (sink.reduce === undefined) return true
  const reduced = host.sinks.find((other) => other.reduce !== undefined)?.reduce
  return reduced === undefined || sameShape(reduced.axes, sink.reduce.axes)
}

function sameAccess(load: Load, sink: Sink | undefined): boolean {
  return sink?.access.offset === load.access.offset && sameShape(load.access.strides, sink.access.strides)
}

function equalLoad(a: Load, b: Load): boolean {
  return a.storage === b.storage && a.access.offset === b.access.offset && sameShape(a.access.strides, b.access.strides)
}
