// A program made ready for the CPU device: its plan, the native program, and what happens to storages when it runs.
import type { Plan } from '../compile/index.ts'
import { describeStep, showPlan, showProfile } from '../compile/index.ts'
import type { CompileOptions, Executable, Storage } from '../tensor/device.ts'
import { InternalError } from '../tensor/errors.ts'
import { type TensorType, sameType, showType } from '../tensor/program.ts'
import { at, zip } from '../tensor/shape.ts'
import type { CpuDevice } from './device.ts'
import type { Pointer } from './ffi/runtime.ts'
import { lowerPlan } from './lower.ts'
import type { Block } from './memory.ts'
import { type BoundLaunch, isSmall, makeProgram, sumBySteps } from './program.ts'
import { CpuStorage, liveStorage } from './storage.ts'

/** A compiled program on the CPU device. */
export class CpuExecutable implements Executable {
  readonly arenaBytes: number
  readonly #launches: readonly BoundLaunch[]
  readonly #program: Pointer
  readonly #io: BigInt64Array
  /** For each output the input whose storage it takes over, or undefined. */
  readonly #takeovers: readonly (number | undefined)[]
  #released = false

  constructor(
    private readonly device: CpuDevice,
    private readonly plan: Plan,
    private readonly types: readonly TensorType[],
    private readonly options: CompileOptions,
  ) {
    const { launches, arenaBytes, io } = lowerPlan(plan)
    const total = (key: 'bytes' | 'flops'): number => plan.steps.reduce((sum, step) => sum + step[key], 0)
    this.arenaBytes = arenaBytes
    this.#launches = launches
    this.#program = makeProgram(device.engine, launches, io, isSmall(launches, total('bytes'), total('flops')))
    this.#io = new BigInt64Array(io)
    this.#takeovers = plan.outputs.map((buffer) => {
      const { place } = at(plan.buffers, buffer)
      return place.kind === 'input' ? place.index : undefined
    })
  }

  run(inputs: readonly Storage[]): readonly Storage[] {
    const { device, options } = this
    device.assertOpen(options.label)
    if (this.#released) throw new InternalError(`${options.label} runs after its executable was released`)
    const given = this.check(inputs)
    for (const index of options.donate) device.settleReads(at(given, index))
    const arena = device.arena(this.arenaBytes)
    const blocks = this.outputBlocks(given)
    given.forEach(({ block }, index) => (this.#io[index] = block.address))
    blocks.forEach(({ address }, index) => (this.#io[given.length + index] = address))
    const ticket = device.engine.submit(this.#program, arena, this.#io)
    for (const index of options.donate) device.donate(at(given, index), this.#takeovers.includes(index))
    return zip(this.types, blocks).map(([type, block]) => device.hold(new CpuStorage(device, type, block, ticket)))
  }

  toString(): string {
    return showPlan(this.plan)
  }

  release(): void {
    if (this.#released) return
    this.#released = true
    this.device.engine.dispose(this.#program)
    this.device.forget(this)
  }

  /** The time of each step so far, as text: what PULLBACK_PROFILE=1 prints at the end. */
  profile(): string {
    const nanoseconds = new Float64Array(this.#launches.length)
    const runs = this.device.engine.calls.profile(this.#program, nanoseconds)
    const bySteps = sumBySteps(this.#launches, nanoseconds, this.plan.steps.length)
    return showProfile(this.plan, this.options.label, { nanoseconds: bySteps, runs, describe: describeStep })
  }

  /** The blocks of the outputs: taken over or fresh; all or none, should memory run out. */
  private outputBlocks(given: readonly CpuStorage[]): Block[] {
    const fresh: Block[] = []
    try {
      return zip(this.types, this.#takeovers).map(([type, input]) => {
        if (input !== undefined) return at(given, input).block
        const block = this.device.fresh(type)
        fresh.push(block)
        return block
      })
    } catch (error) {
      for (const block of fresh) this.device.giveBack(block)
      throw error
    }
  }

  private check(inputs: readonly Storage[]): CpuStorage[] {
    const { label } = this.options
    const buffers = this.plan.inputs
    if (inputs.length !== buffers.length)
      throw new InternalError(`${label} takes ${buffers.length} inputs, got ${inputs.length}`)
    return zip(buffers, inputs).map(([buffer, storage], index) => {
      const { type } = at(this.plan.buffers, buffer)
      if (!sameType(type, storage.type))
        throw new InternalError(`${label} takes ${showType(type)} as input ${index}, got ${showType(storage.type)}`)
      return liveStorage(this.device, storage, `input ${index} of ${label}`)
    })
  }
}
