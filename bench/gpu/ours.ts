// Our contender of a row: the model on the first GPU, asked over stdin as protocol.ts says. With --profile the steps are
// launched one by one and timed, and `finish` tells the dearest.
import { createInterface } from 'node:readline'
import { performance } from 'node:perf_hooks'
import { parseArgs } from 'node:util'
import { Worker } from 'node:worker_threads'
import { workOf } from '../../src/compile/index.ts'
import { CudaDevice } from '../../src/cuda/device.ts'
import { describeCudaStep } from '../../src/cuda/fusions/fusion.ts'
import type { CudaExecutable } from '../../src/cuda/executable.ts'
import { driverFlags } from '../../src/cuda/ffi/driver-constants.ts'
import type { Event } from '../../src/cuda/ffi/driver-queues.ts'
import { cudaDevice } from '../../src/cuda/index.ts'
import { totalTraffic, trafficOf } from '../../src/cuda/traffic.ts'
import { PullbackError, type Tensor, jit, nn, setDefaultDevice, tensor, train } from '../../src/index.ts'
import { at, range } from '../../src/tensor/shape.ts'
import type { Block, Facts, Request } from './protocol.ts'
import { rooflineSeconds } from './roofline.ts'
import type { Workload } from './rows.ts'

/** Steps that are enqueued before the oldest of them is waited for. */
const ahead = 2
const shownSteps = 10

/** Enqueues one step; gives a result to read, and the milliseconds of the host for the batch and for the call. */
type Step = () => { readonly result: Tensor; readonly upload: number; readonly call: number }

const { values } = parseArgs({
  options: {
    mode: { type: 'string', default: 'training' },
    precision: { type: 'string', default: 'f16' },
    batch: { type: 'string', default: '256' },
    size: { type: 'string', default: '224' },
    model: { type: 'string', default: 'se-resnext101-32x4d' },
    profile: { type: 'boolean', default: false },
  },
})
const workload = { ...values, batch: Number(values.batch), size: Number(values.size) } as Workload
const shape = [workload.batch, workload.size, workload.size, 3] as const
const precision = workload.precision === 'tf32' ? 'f32' : workload.precision
const tiny = { layers: [1, 1], widths: 64, expansion: 2, cardinality: 16, squeeze: { ratio: 16 }, classes: 10 } as const

// Nobody is left behind: a thread watches, because this one is held while kernels are tuned and compiled.
const watch = `setInterval(() => { if (process.ppid !== ${process.ppid}) process.kill(process.pid, 'SIGKILL') }, 1000)`
new Worker(watch, { eval: true, execArgv: [] }).unref()

const opening = performance.now()
const device = cudaDevice({ precision: 'tf32', profile: values.profile })
if (!(device instanceof CudaDevice)) throw new Error('cudaDevice gave another device')
setDefaultDevice(device)
const { queue, session } = device.runtime
const { driver } = session
const free = driver.memoryInfo().free
let leastFree = free
const opened = performance.now()
let step: Step | undefined

await serve()
await device.close()

async function serve(): Promise<void> {
  for await (const line of createInterface({ input: process.stdin })) {
    const request = JSON.parse(line) as Request
    answer(await attempted(request))
    if (request.do === 'finish') return
  }
}

function answer(fields: Facts): void {
  process.stdout.write(`${JSON.stringify(fields)}\n`)
}

async function attempted(request: Request): Promise<Facts> {
  try {
    if (request.do === 'prepare') return { ok: true, ...(await prepare(request.warmup)) }
    return { ok: true, ...(request.do === 'block' ? await block(request.steps) : finish()) }
  } catch (error) {
    const kind = error instanceof PullbackError && error.code === 'out-of-memory' ? 'out-of-memory' : 'error'
    return { ok: false, kind, error: error instanceof Error ? (error.stack ?? error.message) : String(error) }
  }
}

async function prepare(warmup: number): Promise<Facts> {
  const began = performance.now()
  const made = workload.mode === 'training' ? await training() : inference()
  step = made
  const built = performance.now()
  await valueOf(made().result)
  const ready = performance.now()
  for (const _ of range(Math.max(0, warmup - 2))) made().result.dispose()
  const value = await valueOf(made().result)
  noteMemory()
  return {
    version: session.description,
    model: workload.model,
    gpu: session.gpu.name,
    open_s: (opened - opening) / 1000,
    build_s: (built - began) / 1000,
    first_step_s: (ready - built) / 1000,
    warmup_s: (performance.now() - ready) / 1000,
    value,
    ...planFacts(),
  }
}

function network() {
  return workload.model === 'tiny' ? nn.resnet(tiny) : nn.seResNeXt101_32x4d()
}

/** The batch on the host; it is copied at each step. */
function hostBatch() {
  const classes = workload.model === 'tiny' ? 10 : 1000
  const bytes = workload.batch * workload.size ** 2 * 3
  return {
    images: Uint8Array.from({ length: bytes }, (_, i) => (Math.imul(i, 2654435761) >>> 24) & 255),
    labels: Int32Array.from({ length: workload.batch }, (_, i) => i % classes),
  }
}

async function training(): Promise<Step> {
  const model = network()
  const optimizer = train.sgd({ momentum: 0.875, weightDecay: 2 ** -14 })
  const run = train.makeTrainStep(model, { optimizer, precision, labelSmoothing: 0.1 })
  const lossScale = train.defaultLossScale(precision)
  let state = await train.initTrainState(model.init(0, shape), { optimizer, seed: 0, lossScale })
  const [rate, host] = [tensor(0.001), hostBatch()]
  return () => {
    const start = performance.now()
    const batch = { images: tensor(host.images, { shape }), labels: tensor(host.labels) }
    const uploaded = performance.now()
    const [next, { loss, ...metrics }] = run(state, batch, rate)
    const call = performance.now() - uploaded
    state = next
    train.disposeTree(batch)
    train.disposeTree(metrics)
    return { result: loss, upload: uploaded - start, call }
  }
}

function inference(): Step {
  const model = network()
  const { params, state } = model.init(0, shape)
  const host = hostBatch()
  const infer = jit((p: typeof params, s: typeof state, x: Tensor) =>
    train.predict(model, precision, p, s, train.normalize(x)),
  )
  return () => {
    const start = performance.now()
    const images = tensor(host.images, { shape })
    const uploaded = performance.now()
    const result = infer(params, state, images)
    const call = performance.now() - uploaded
    images.dispose()
    return { result, upload: uploaded - start, call }
  }
}

/** The mean over the images: of what a sum of losses holds, or of the logits. Waits for everything. */
async function valueOf(result: Tensor): Promise<number> {
  const elements = Float64Array.from((await result.data()) as ArrayLike<number>)
  result.dispose()
  const count = workload.mode === 'training' ? workload.batch : elements.length
  return elements.reduce((sum, element) => sum + element, 0) / count
}

/** One untimed step, then `steps` timed ones, with an event behind each. */
async function block(steps: number): Promise<Block> {
  if (step === undefined) throw new Error('block before prepare')
  const events: Event[] = []
  const [tickets, seen, calls, uploads]: [number[], number[], number[], number[]] = [[], [], [], []]
  const see = async (index: number): Promise<void> => {
    await queue.wait(at(tickets, index))
    seen.push(performance.now())
  }
  let last: Tensor | undefined
  try {
    for (const index of range(steps + 1)) {
      if (index >= ahead) await see(index - ahead)
      const { result, upload, call } = step()
      last?.dispose()
      last = result
      tickets.push(queue.submitted)
      events.push(recorded())
      calls.push(call)
      uploads.push(upload)
    }
    while (seen.length <= steps) await see(seen.length)
    await device.synchronize()
    driver.synchronizeEvent(at(events, steps))
    const each = range(steps)
    return {
      events_ms: each.map((i) => driver.elapsed(at(events, i), at(events, i + 1))),
      wall_ms: each.map((i) => at(seen, i + 1) - at(seen, i)),
      host_ms: calls.slice(1),
      upload_ms: uploads.slice(1),
      value: last === undefined ? Number.NaN : await valueOf(last),
    }
  } finally {
    for (const event of events) driver.destroyEvent(event)
  }
}

function recorded(): Event {
  session.enter()
  const event = driver.createEvent(driverFlags.EVENT_DEFAULT)
  driver.recordEvent(event, queue.compute)
  return event
}

/** Only while the others are not there yet: the driver tells of all processes together. */
function noteMemory(): void {
  session.enter()
  leastFree = Math.min(leastFree, driver.memoryInfo().free)
}

/** The program of the step: the one with the most launches. */
function program(): CudaExecutable | undefined {
  const [first, ...others] = device instanceof CudaDevice ? device.executables : []
  return others.reduce((most, other) => (most !== undefined && most.launches >= other.launches ? most : other), first)
}

function planFacts(): Facts {
  const executable = program()
  if (executable === undefined) return {}
  const { plan, ways, launches } = executable
  const { bytes, flops } = workOf(plan, range(plan.steps.length))
  const traffic = trafficOf(plan, ways)
  return {
    launches,
    plan_steps: plan.steps.length,
    plan_bytes: bytes,
    plan_flops: flops,
    traffic,
    traffic_mb_per_image: totalTraffic(traffic) / 1e6 / workload.batch,
    roofline_s: rooflineSeconds(executable.planned, session.gpu.name, workload.precision),
  }
}

function finish(): Facts {
  return { peak_bytes: device.memory().peak, driver_bytes: free - leastFree, ...profileFacts() }
}

/** The dearest steps. */
function profileFacts(): Facts {
  const executable = program()
  const times = executable?.times()
  if (executable === undefined || times === undefined || times.runs === 0) return {}
  const { plan, ways } = executable
  const joined = (step: number): readonly number[] => executable.joined(step)
  const milliseconds = [...times.nanoseconds].map((sum) => sum / times.runs / 1e6)
  const dearest = range(plan.steps.length).sort((a, b) => at(milliseconds, b) - at(milliseconds, a))
  return {
    profiled_runs: times.runs,
    profiled_ms: milliseconds.reduce((sum, ms) => sum + ms, 0),
    dearest: dearest.slice(0, shownSteps).map((index) => ({
      step: index,
      what: describeCudaStep(at(plan.steps, index)),
      by: at(ways, index).id ?? 'fused kernel',
      workspace: at(ways, index).scratchBytes,
      together_with: joined(index).length,
      ...workOf(plan, [index, ...joined(index)]),
      ms: at(milliseconds, index),
    })),
  }
}
