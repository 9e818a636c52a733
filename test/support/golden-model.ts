// The small SE-ResNeXt of test/golden as a model with its values, and the distance by which results are judged.
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type ResNet, type ResNetParams, type ResNetState, resnet, variables } from '../../src/nn/index.ts'
import { tensor } from '../../src/tensor/ops/index.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { type Tree, flatten } from '../../src/tensor/tree.ts'
import { importWeight } from '../../src/train/files/names.ts'
import { readSafetensors } from '../../src/train/files/safetensors.ts'
import { toFloat32 } from '../../src/train/files/widen.ts'

const folder = fileURLToPath(new URL('../golden/', import.meta.url))

interface ModelConfig {
  readonly blocks: readonly number[]
  readonly widths: readonly number[]
  readonly expansion: number
  readonly cardinality: number
  readonly stem: number
  readonly classes: number
  readonly imageSize: number
  readonly batch: number
  readonly squeezeRatio: number | null
  readonly squeezeWidth: number | null
}

interface Document {
  readonly config: ModelConfig
  readonly weights: string
  readonly expected: string
  readonly loss: { readonly labelSmoothing: number }
  readonly optimizer: {
    readonly steps: number
    readonly learningRate: number
    readonly momentum: number
    readonly weightDecay: number
  }
  readonly noDecay: readonly string[]
  readonly losses: readonly number[]
}

/** One variant: the model, its initial values, and what PyTorch made of them, under our names and in our layout. */
export interface GoldenModel {
  readonly document: Document
  readonly model: ResNet
  /** Fresh tensors on the default device. */
  readonly initial: () => { readonly params: ResNetParams; readonly state: ResNetState }
  readonly expected: ReadonlyMap<string, Float32Array>
  readonly initialValues: ReadonlyMap<string, Float32Array>
  readonly images: () => Tensor
  readonly targets: () => Tensor
}

/** Reads a variant of the small SE-ResNeXt. */
export async function goldenModel(variant: 'paper' | 'nvidia'): Promise<GoldenModel> {
  const document = JSON.parse(readFileSync(`${folder}seresnext-small-${variant}.json`, 'utf8')) as Document
  const { config } = document
  const initialValues = await weightsOf(document.weights)
  const expected = new Map<string, Float32Array>()
  for (const [name, file] of (await readSafetensors(folder + document.expected)).tensors)
    expected.set(
      name,
      name === 'images' ? toFloat32(name, file) : (importWeight(name, file)?.data ?? new Float32Array()),
    )
  const shape = [config.batch, config.imageSize, config.imageSize, 3]
  const model = modelOf(config)
  return {
    document,
    model,
    initial: () => variables(model, shape, (path, p) => tensor(found(initialValues, path), { shape: p.shape })),
    expected,
    initialValues,
    images: () => tensor(found(expected, 'images'), { shape }),
    targets: () => tensor(found(expected, 'targets'), { shape: [config.batch, config.classes] }),
  }
}

function modelOf(config: ModelConfig): ResNet {
  return resnet({
    layers: config.blocks,
    widths: config.widths,
    expansion: config.expansion,
    cardinality: config.cardinality,
    stemChannels: config.stem,
    classes: config.classes,
    squeeze: config.squeezeWidth === null ? { ratio: config.squeezeRatio ?? 0 } : { width: config.squeezeWidth },
  })
}

/** The weights of a file under our paths and in our layout. */
async function weightsOf(file: string): Promise<Map<string, Float32Array>> {
  const weights = new Map<string, Float32Array>()
  for (const [name, entry] of (await readSafetensors(folder + file)).tensors) {
    const weight = importWeight(name, entry)
    if (weight !== undefined) weights.set(weight.path, weight.data)
  }
  return weights
}

/** The tiny model of timm's own class: our logits of its image, and timm's. */
export async function timmModel() {
  const document = JSON.parse(readFileSync(`${folder}timm-small.json`, 'utf8')) as Omit<Document, 'loss'>
  const { tensors } = await readSafetensors(folder + document.expected)
  const weights = await weightsOf(document.weights)
  const [model, image] = [modelOf(document.config), found(tensors, 'image')]
  const used = new Set<string>()
  const { params, state } = variables(model, image.shape, (path, { shape }) => {
    used.add(path)
    return tensor(found(weights, path), { shape })
  })
  const x = tensor(toFloat32('image', image), { shape: image.shape })
  const [logits] = model.apply(params, state, x, { training: false })
  return {
    logits: await logits.data(),
    expected: toFloat32('logits', found(tensors, 'logits')),
    unused: [...weights.keys()].filter((path) => !used.has(path)),
  }
}

/** A value that must be there. */
export function found<V>(map: ReadonlyMap<string, V>, name: string): V {
  const value = map.get(name)
  if (value === undefined) throw new Error(`no '${name}' in the golden file`)
  return value
}

/** The leaves of a tree as numbers, by path with a prefix. */
export async function named(tree: unknown, prefix = ''): Promise<Map<string, ArrayLike<number>>> {
  const { leaves, structure } = flatten(tree as Tree<Tensor>)
  const data = await Promise.all(leaves.map((leaf) => leaf.data()))
  return new Map(structure.paths.map((path, index) => [prefix + path, data[index] ?? []]))
}

/** norm(a - b) / norm(b). */
export function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new Error(`expected ${b.length} elements, got ${a.length}`)
  let [difference, norm] = [0, 0]
  for (let i = 0; i < b.length; i++) {
    difference += ((a[i] ?? Number.NaN) - (b[i] ?? 0)) ** 2
    norm += (b[i] ?? 0) ** 2
  }
  return Math.sqrt(difference / norm)
}

/** A tensor's name and distance. */
export interface Row {
  readonly name: string
  readonly error: number
}

/** The distances of all named tensors, worst first. */
export function ranked(
  actual: ReadonlyMap<string, ArrayLike<number>>,
  expected: (name: string) => ArrayLike<number>,
): readonly Row[] {
  const rows = [...actual].map(([name, values]) => ({ name, error: distance(values, expected(name)) }))
  const height = ({ error }: Row): number => (Number.isNaN(error) ? Infinity : error)
  return rows.sort((a, b) => height(b) - height(a))
}

/** Prints the worst of them. */
export function printRanked(title: string, rows: readonly Row[]): void {
  const worst = rows.slice(0, 4).map(({ name, error }) => `  ${error.toExponential(2)} ${name}`)
  console.log([`${title}: ${rows.length} tensors, worst first`, ...worst].join('\n'))
}
