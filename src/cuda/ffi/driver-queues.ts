// Prototypes of the CUDA driver API for streams, events and graphs. None is asynchronous in JavaScript's sense: waiting is
// done by polling `eventDone`, which blocks nothing.
import { PullbackError } from '../../tensor/errors.ts'
import { driverErrors, driverFlags } from './driver-constants.ts'
import type { NativeLibrary } from './loader.ts'
import { type Check, statusBinder } from './status.ts'
import type { Handle, Out } from './values.ts'
import { int, made, pointer, unsigned } from './values.ts'

/** A CUstream. */
export type Stream = Handle<'stream'>
/** A CUevent. */
export type Event = Handle<'event'>
/** A CUgraph: a recording. */
export type Graph = Handle<'graph'>
/** A CUgraphExec: a recording ready to be replayed. */
export type GraphExecutable = Handle<'graph executable'>

/** How a stream stands to a capture. */
export type CaptureStatus = 'none' | 'active' | 'invalidated'

/** The driver API's calls about streams, events and graphs. */
export interface QueueCalls {
  /** A stream that does not wait for the default stream; lower numbers have priority. */
  createStream(priority: number): Stream
  destroyStream(stream: Stream): void
  /** Blocks this thread. */
  synchronizeStream(stream: Stream): void
  /** Whether all work of the stream is done. Throws what a kernel on it failed with. */
  streamDone(stream: Stream): boolean
  streamWaits(stream: Stream, event: Event): void
  createEvent(flags: number): Event
  destroyEvent(event: Event): void
  recordEvent(event: Event, stream: Stream): void
  /** Whether all work before the event's record is done. */
  eventDone(event: Event): boolean
  /** Blocks this thread. */
  synchronizeEvent(event: Event): void
  /** Milliseconds between two events that are done. */
  elapsed(from: Event, to: Event): number
  /** Starts to record what is put on the stream, in thread-local mode. */
  beginCapture(stream: Stream): void
  /** Ends the recording. Throws where it was made invalid. */
  endCapture(stream: Stream): Graph
  captureStatus(stream: Stream): CaptureStatus
  instantiateGraph(graph: Graph): GraphExecutable
  uploadGraph(graph: GraphExecutable, stream: Stream): void
  launchGraph(graph: GraphExecutable, stream: Stream): void
  destroyGraph(graph: Graph): void
  destroyGraphExecutable(graph: GraphExecutable): void
  /** How many nodes a recording has. */
  graphNodeCount(graph: Graph): number
}

/** Binds libcuda's functions for streams, events and graphs. */
export function bindQueues(library: NativeLibrary, check: Check, out: Out): QueueCalls {
  return { ...bindStreams(library, check, out), ...bindEvents(library, check, out), ...bindGraphs(library, check, out) }
}

type Streams = 'createStream' | 'destroyStream' | 'synchronizeStream' | 'streamDone' | 'streamWaits'

function bindStreams(library: NativeLibrary, check: Check, out: Out): Pick<QueueCalls, Streams> {
  const bind = statusBinder(library, check)
  const create = bind('cuStreamCreateWithPriority', 'void *', 'unsigned int', 'int')
  const destroy = bind('cuStreamDestroy_v2', 'void *')
  const synchronize = bind('cuStreamSynchronize', 'void *')
  const query = library.func('cuStreamQuery', 'int', ['void *'])
  const wait = bind('cuStreamWaitEvent', 'void *', 'void *', 'unsigned int')
  return {
    createStream: (priority) => (
      create(out.clear(), driverFlags.STREAM_NON_BLOCKING, int(priority)), out.handle('cuStreamCreateWithPriority')
    ),
    destroyStream: (stream) => destroy(pointer(stream)),
    synchronizeStream: (stream) => synchronize(pointer(stream)),
    streamDone: (stream) => ready(query(pointer(stream)), 'cuStreamQuery', check),
    streamWaits: (stream, event) => wait(pointer(stream), pointer(event), 0),
  }
}

type Events = 'createEvent' | 'destroyEvent' | 'recordEvent' | 'eventDone' | 'synchronizeEvent' | 'elapsed'

function bindEvents(library: NativeLibrary, check: Check, out: Out): Pick<QueueCalls, Events> {
  const bind = statusBinder(library, check)
  const create = bind('cuEventCreate', 'void *', 'unsigned int')
  const destroy = bind('cuEventDestroy_v2', 'void *')
  const record = bind('cuEventRecord', 'void *', 'void *')
  const query = library.func('cuEventQuery', 'int', ['void *'])
  const synchronize = bind('cuEventSynchronize', 'void *')
  const elapsed = bind('cuEventElapsedTime', 'void *', 'void *', 'void *')
  return {
    createEvent: (flags) => (create(out.clear(), unsigned(flags)), out.handle('cuEventCreate')),
    destroyEvent: (event) => destroy(pointer(event)),
    recordEvent: (event, stream) => record(pointer(event), pointer(stream)),
    eventDone: (event) => ready(query(pointer(event)), 'cuEventQuery', check),
    synchronizeEvent: (event) => synchronize(pointer(event)),
    elapsed: (from, to) => (elapsed(out.clear(), pointer(from), pointer(to)), out.float()),
  }
}

type Graphs = 'beginCapture' | 'endCapture' | 'captureStatus' | 'instantiateGraph' | 'uploadGraph' | 'launchGraph'
type MoreGraphs = 'destroyGraph' | 'destroyGraphExecutable' | 'graphNodeCount'

function bindGraphs(library: NativeLibrary, check: Check, out: Out): Pick<QueueCalls, Graphs | MoreGraphs> {
  const bind = statusBinder(library, check)
  const begin = bind('cuStreamBeginCapture_v2', 'void *', 'int')
  const end = bind('cuStreamEndCapture', 'void *', 'void *')
  const capturing = bind('cuStreamIsCapturing', 'void *', 'void *')
  const instantiate = bind('cuGraphInstantiateWithFlags', 'void *', 'void *', 'uint64_t')
  const upload = bind('cuGraphUpload', 'void *', 'void *')
  const launch = bind('cuGraphLaunch', 'void *', 'void *')
  const destroy = bind('cuGraphDestroy', 'void *')
  const destroyExecutable = bind('cuGraphExecDestroy', 'void *')
  const nodes = bind('cuGraphGetNodes', 'void *', 'void *', 'void *')
  return {
    beginCapture: (stream) => begin(pointer(stream), driverFlags.STREAM_CAPTURE_MODE_THREAD_LOCAL),
    endCapture: (stream) => (end(pointer(stream), out.clear()), made('cuStreamEndCapture', out.cell[0])),
    captureStatus: (stream) => (capturing(pointer(stream), out.clear()), captureStatus(out.int())),
    instantiateGraph: (graph) => (
      instantiate(out.clear(), pointer(graph), 0), out.handle('cuGraphInstantiateWithFlags')
    ),
    uploadGraph: (graph, stream) => upload(pointer(graph), pointer(stream)),
    launchGraph: (graph, stream) => launch(pointer(graph), pointer(stream)),
    destroyGraph: (graph) => destroy(pointer(graph)),
    destroyGraphExecutable: (graph) => destroyExecutable(pointer(graph)),
    graphNodeCount: (graph) => (nodes(pointer(graph), null, out.clear()), out.size()),
  }
}

/** A query's status: NOT_READY is an answer, not a failure. */
function ready(status: unknown, call: string, check: Check): boolean {
  if (status === driverErrors.NOT_READY) return false
  check(status, call)
  return true
}

function captureStatus(value: number): CaptureStatus {
  if (value === driverFlags.STREAM_CAPTURE_STATUS_NONE) return 'none'
  if (value === driverFlags.STREAM_CAPTURE_STATUS_ACTIVE) return 'active'
  if (value === driverFlags.STREAM_CAPTURE_STATUS_INVALIDATED) return 'invalidated'
  throw new PullbackError('internal', `internal: cuStreamIsCapturing gave ${value}`)
}
