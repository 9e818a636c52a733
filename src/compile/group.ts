// Fusion: sinks over the same loops that share what they read become one kernel. The list of items is always in an
// order that can be executed; a sink joins a kernel only if the kernel may stay where it is, or move to the sink.
import { bytesOf } from '../tensor/dtype.ts'
import type { Equation, Program, Var } from '../tensor/program.ts'
import { type Shape, sameShape, sizeOf } from '../tensor/shape.ts'
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
    if (this.#fuse && !part && this.#candidates(sink, loads).some((host) => this.#tryJoin(host, sink, loads))) return
    const made: Group = {
      kind: 'group',
      sinks: [sink],
      domain: sink.domain,
      loads,
      position: this.#items.length,
      consumedAt: Number.POSITIVE_INFINITY,
    }
    this.#items.push(made)
    this.#finish(made, sink, loads)
    if (!part) this.#touch(made, [sink.value, ...loads.map((load) => load.storage)])
  }

  /** The kernels that touch a value worth sharing with the sink, the latest first. */
  #candidates(sink: Sink, loads: readonly Load[]): readonly Group[] {
    const found = new Set<Group>()
    for (const { storage } of worthSharing(loads, sink))
      for (const host of this.#touching.get(storage) ?? []) found.add(host)
    return [...found].sort((a, b) => b.position - a.position)
  }

  #touch(host: Group, values: readonly Var[]): void {
    for (const value of values) this.#touching.set(value, (this.#touching.get(value) ?? new Set()).add(host))
  }

  #tryJoin(host: Group, sink: Sink, loads: readonly Load[]): boolean {
    if (host.sinks.length >= maxSinks || !compatible(host, sink)) return false
    const inLoop = new Map(host.sinks.flatMap((other) => (other.whole ? [[other.value, other] as const] : [])))
    const made = new Set(host.sinks.map((other) => other.value))
    const direct = loads.filter((load) => made.has(load.storage))
    if (direct.some((load) => !sameAccess(load, inLoop.get(load.storage)))) return false
    const outside = loads.filter((load) => !made.has(load.storage))
    const shared = worthSharing(loads, sink).filter(
      (load) => outside.includes(load) && host.loads.some((other) => equalLoad(other, load)),
    )
    if (direct.length === 0 && shared.length === 0) return false
    const fresh = outside.filter((load) => !host.loads.some((other) => equalLoad(other, load)))
    if (host.loads.length + fresh.length > maxLoads) return false
    const ready = outside.every((load) => (this.#makers.get(load.storage)?.position ?? -1) < host.position)
    const far = this.#items.length - host.position > furthest
    if (ready ? far && !this.#mayBeEarly(sink) : far || host.consumedAt !== Number.POSITIVE_INFINITY) return false
    if (!ready) this.#moveToEnd(host)
    host.sinks = [...host.sinks, sink]
    host.loads = [...host.loads, ...fresh]
    this.#finish(host, sink, outside)
    this.#touch(host, [sink.value, ...fresh.map((load) => load.storage)])
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
