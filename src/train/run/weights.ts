// Weights that others trained: a file in timm's or NVIDIA's names and layout as first values of a model.
// Reading the bytes and the naming rules are files/'s business.
import { PullbackError } from '../../tensor/errors.ts'
import { tensor } from '../../tensor/ops/create.ts'
import { type Shape, sameShape, showShape } from '../../tensor/shape.ts'
import { type Tree, flatten } from '../../tensor/tree.ts'
import { parameterDraws } from '../../nn/init.ts'
import { type Layer, type Parameter, type TensorTree, type Variables, variables } from '../../nn/layer.ts'
import { isRunEntry } from '../checkpoint.ts'
import {
  type SqueezeWidth,
  type Weight,
  type WeightNaming,
  importWeight,
  recogniseNaming,
  squeezeWidth,
} from '../files/names.ts'
import { readSafetensors } from '../files/safetensors.ts'

/** The weights of a file under our paths and in our layout. */
export interface PretrainedWeights {
  readonly path: string
  readonly naming: WeightNaming
  readonly weights: ReadonlyMap<string, Weight>
  /** What the file says of itself; our checkpoints note the architecture and the names of the classes. */
  readonly metadata: ReadonlyMap<string, string>
  /** The width of the squeeze modules, read off the shapes: an option of the architecture. */
  readonly squeeze: SqueezeWidth
  /** The outputs of the last layer, if the file has it. */
  readonly classes: number | undefined
}

/** What a file and a model do not share. */
export interface WeightReport {
  /** Parameters and statistics of the model that the file does not have: they keep their random first values. */
  readonly missing: readonly string[]
  /** Weights of the file that the model does not have: they are left out. */
  readonly unexpected: readonly string[]
}

/**
 * Reads weights from a safetensors file with timm's or NVIDIA's names (ours are NVIDIA's). Of a checkpoint the model's
 * weights are read (the averages where it keeps them, for those are what its evaluations measured), and nothing else.
 *
 * @throws PullbackError `file` when the file is damaged, holds no weights, or its squeeze widths follow no rule
 */
export async function readWeights(path: string): Promise<PretrainedWeights> {
  const { tensors, metadata } = await readSafetensors(path)
  const averages = [...tensors.keys()].some((name) => name.startsWith('ema.')) ? 'ema.' : ''
  const names = [...tensors.keys()]
    .filter((name) => (averages === '' ? !isRunEntry(name) : name.startsWith(averages)))
    .map((name) => name.slice(averages.length))
  const weights = new Map<string, Weight>()
  for (const name of names) {
    const entry = tensors.get(averages + name)
    const weight = entry === undefined ? undefined : importWeight(name, entry)
    if (weight === undefined) continue
    if (weights.has(weight.path))
      throw new PullbackError('file', `[weights] ${path}: expected one tensor for '${weight.path}', got '${name}' too.`)
    weights.set(weight.path, weight)
  }
  const shapes = [...weights.values()].map((weight) => [weight.path, weight.shape] as const)
  return {
    path,
    naming: recogniseNaming(names),
    weights,
    metadata,
    squeeze: squeezeWidth(shapes),
    classes: weights.get('fc.weight')?.shape[0],
  }
}

/**
 * First values of a model: those of the file where it has them, else drawn from the seed. Every shape is checked before
 * the first tensor is made.
 *
 * @throws PullbackError `file` naming the tensor whose shape differs, or if the file has nothing of the model
 */
export function pretrainedVariables<P extends TensorTree, S extends TensorTree>(
  model: Layer<P, S>,
  inputShape: Shape,
  from: PretrainedWeights,
  seed: number,
): { readonly variables: Variables<P, S>; readonly report: WeightReport } {
  const { params, state } = model.describe(inputShape)
  const wanted = new Map([...parametersOf(params), ...parametersOf(state)])
  for (const [path, { shape }] of wanted) checkShape(from, path, shape)
  const missing = [...wanted.keys()].filter((path) => !from.weights.has(path))
  const unexpected = [...from.weights.keys()].filter((path) => !wanted.has(path))
  if (missing.length === wanted.size)
    throw new PullbackError(
      'file',
      `[weights] expected weights of this model in ${from.path}, got none of its ${wanted.size} names. Is --arch right?`,
    )
  const draw = parameterDraws(seed)
  const values = variables<P, S>(model, inputShape, (path, parameter) => {
    const weight = from.weights.get(path)
    return weight === undefined ? draw(path, parameter) : tensor(weight.data, { shape: parameter.shape })
  })
  return { variables: values, report: { missing, unexpected } }
}

/** Sentences about what a file and a model do not share; none if they agree. */
export function reportSentences({ path }: PretrainedWeights, { missing, unexpected }: WeightReport): readonly string[] {
  return [
    ...(missing.length > 0 ? [`${path}: missing, and drawn at random: ${missing.join(', ')}`] : []),
    ...(unexpected.length > 0 ? [`${path}: unexpected, and left out: ${unexpected.join(', ')}`] : []),
  ]
}

function parametersOf(tree: Tree<Parameter>): [string, Parameter][] {
  const { leaves, structure } = flatten(tree)
  return structure.paths.flatMap((path, index): [string, Parameter][] => {
    const leaf = leaves[index]
    return leaf === undefined ? [] : [[path, leaf]]
  })
}

function checkShape({ path: file, weights }: PretrainedWeights, path: string, shape: Shape): void {
  const weight = weights.get(path)
  if (weight === undefined || sameShape(weight.shape, shape)) return
  throw new PullbackError(
    'file',
    `[weights] ${file}: tensor '${path}': expected ${showShape(shape)} in this model, got ${showShape(weight.shape)}${shape.length === 4 ? ' (filters as [out, h, w, in])' : ''}. Are --arch and --num_classes right?`,
  )
}
