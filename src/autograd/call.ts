// One call of a compiled function: its tensors, where it runs, and which program it needs. The thousands of leaves of a
// training step are recognised along the tree of the call before; texts are made for calls of a new kind only.
import type { Device } from '../tensor/device.ts'
import { commonDevice, defaultDevice } from '../tensor/dispatch.ts'
import { PullbackError, ValueError } from '../tensor/errors.ts'
import { type TensorType, sameType, showType } from '../tensor/program.ts'
import { Tensor } from '../tensor/tensor.ts'
import { type Structure, fitsAlong } from '../tensor/tree.ts'
import { type Partition, partition } from './partition.ts'
import { currentRewriter } from './rewriter.ts'

/** What one call needs to know of its arguments. */
export interface Call {
  readonly inputs: Partition
  readonly device: Device
  readonly key: string
}

/** A kind of calls that need the same program. */
export interface CallKind {
  readonly device: Device
  readonly rewriting: string
  readonly structure: Structure
  readonly leaves: readonly LeafKind[]
}

/** What a leaf is: a tensor of a type, or a static value. */
interface LeafKind {
  readonly type: TensorType | undefined
  readonly value: unknown
}

/**
 * The arguments of a call taken apart.
 *
 * @throws ValueError for a leaf that is neither tensor nor static, PullbackError 'device' for tensors on several devices,
 * DisposedError for one that is gone.
 */
export function describeCall(label: string, args: readonly unknown[], chosen: Device | undefined): Call {
  const inputs = partition(args)
  const common = inputs.tensors.some((x) => x.live(label).kind === 'stored')
    ? commonDevice(label, inputs.tensors)
    : undefined
  if (chosen !== undefined && common !== undefined && chosen !== common)
    throw new PullbackError(
      'device',
      `[${label}] expected arguments on ${chosen.name}, got ${common.name}. Use transfer(tensor, device).`,
    )
  const leaves = inputs.leaves.map((leaf, i) => leafKey(label, leaf, inputs.structure.paths[i] ?? ''))
  const key = [rewriting(), inputs.structure.key, ...leaves].join(' ')
  return { inputs, device: chosen ?? common ?? commonDevice(label, []), key }
}

/** The kind of a call. Holds none of its tensors. */
export function kindOf({ inputs, device }: Call): CallKind {
  const leaves = inputs.leaves.map((leaf) =>
    leaf instanceof Tensor
      ? { type: { shape: leaf.shape, dtype: leaf.dtype }, value: undefined }
      : { type: undefined, value: leaf },
  )
  return { device, rewriting: rewriting(), structure: inputs.structure, leaves }
}

/**
 * The tensors of arguments that make a call of this kind, in order; undefined where they make another.
 *
 * @throws DisposedError for a tensor that is gone.
 */
export function tensorsOfKind(
  label: string,
  kind: CallKind,
  args: readonly unknown[],
  chosen: Device | undefined,
): readonly Tensor[] | undefined {
  if (rewriting() !== kind.rewriting) return undefined
  const tensors: Tensor[] = []
  let [index, stored] = [0, false]
  const accept = (leaf: unknown): boolean => {
    const known = kind.leaves[index++]
    if (known?.type === undefined) return known !== undefined && Object.is(leaf, known.value)
    if (!(leaf instanceof Tensor) || !sameType(leaf, known.type)) return false
    const payload = leaf.live(label)
    if (payload.kind === 'stored' && payload.storage.device !== kind.device) return false
    stored ||= payload.kind === 'stored'
    tensors.push(leaf)
    return true
  }
  if (!fitsAlong(kind.structure, args, accept)) return undefined
  return stored || (chosen ?? defaultDevice()) === kind.device ? tensors : undefined
}

function rewriting(): string {
  return currentRewriter()?.key ?? ''
}

/** A leaf as part of the key: a tensor by its type, anything static by its value. */
function leafKey(label: string, leaf: unknown, path: string): string {
  if (leaf instanceof Tensor) return showType(leaf)
  switch (typeof leaf) {
    case 'number':
      return Object.is(leaf, -0) ? '-0' : String(leaf)
    case 'string':
      return JSON.stringify(leaf)
    case 'boolean':
      return String(leaf)
    case 'bigint':
      return `${leaf}n`
    default:
      throw new ValueError(
        `[${label}] expected tensors, numbers, strings or booleans in the arguments, got ${typeof leaf === 'object' ? (leaf?.constructor.name ?? 'null') : typeof leaf} at '${path}'. Wrap numbers in tensor(...); close over anything else.`,
      )
  }
}
