// The ResNet family: ResNet (He et al., 2015), ResNeXt (Xie et al., 2016) and SE-ResNeXt (Hu et al., 2018), built from
// layers. Parameter names are those of NVIDIA's published models.
import { ValueError } from '../tensor/errors.ts'
import { at, zip } from '../tensor/shape.ts'
import { functions, relu } from './activations.ts'
import { residual, serial } from './compose.ts'
import { conv2d, globalAvgPool, maxPool2d } from './conv.ts'
import { linear } from './linear.ts'
import { batchNorm } from './norm.ts'
import { squeezeExcite } from './squeeze-excite.ts'

/** What distinguishes the members of the family. */
export interface ResNetOptions {
  /** Blocks in each stage. Each stage after the first halves the image. */
  readonly layers: readonly number[]
  /** Channels of the 3x3 convolutions: those of the first stage (doubled by each stage), or of every stage. */
  readonly widths: number | readonly number[]
  /** A block's output channels are its width times this. */
  readonly expansion: number
  /** Groups of the 3x3 convolutions; 1 unless said otherwise. */
  readonly cardinality?: number
  /** Squeeze-and-excitation in every block: a number of units, or the output channels divided by a ratio. */
  readonly squeeze?: { readonly width: number } | { readonly ratio: number } | undefined
  /** The number of classes; 1000 unless said otherwise. */
  readonly classes?: number
  /** Channels of the first convolution; 64 unless said otherwise. */
  readonly stemChannels?: number
  /** Whether the last batch norm of each block starts with gamma 0, so that the block starts as its shortcut. */
  readonly lastBnZeroInit?: boolean
  /** Kaiming's fan of the initial convolutions; fanIn unless said otherwise. */
  readonly convInit?: 'fanIn' | 'fanOut'
}

/** What may be chosen of a named architecture. */
export type ArchitectureOptions = Partial<ResNetOptions>

/** A member of the ResNet family: a layer from images [n, h, w, 3] to logits [n, classes]. */
export type ResNet = ReturnType<typeof resnet>

/** The parameters of a ResNet. */
export type ResNetParams = Parameters<ResNet['apply']>[0]
/** The running statistics of a ResNet. */
export type ResNetState = Parameters<ResNet['apply']>[1]

/**
 * Builds a ResNet: a 7x7 stem with max pooling, stages of bottleneck blocks, global average pooling, a linear layer.
 *
 * @example resnet({ layers: [1, 1], widths: 16, expansion: 2, cardinality: 4, squeeze: { ratio: 8 }, classes: 4 })
 * @throws ValueError if the widths do not fit the stages or the cardinality.
 */
export function resnet(options: ResNetOptions) {
  const { layers, expansion, classes = 1000, stemChannels = 64 } = options
  const widths = stageWidths(options)
  const stages = zip(layers, widths).map(([blocks, width], stage) =>
    serial(
      Array.from({ length: blocks }, (_, block) => {
        const stride = stage > 0 && block === 0 ? 2 : 1
        const inputs = stage + block === 0 ? stemChannels : at(widths, block === 0 ? stage - 1 : stage) * expansion
        return bottleneck({ ...options, width, stride, project: stride !== 1 || inputs !== width * expansion })
      }),
    ),
  )
  return serial({
    conv1: conv2d({ features: stemChannels, kernel: 7, stride: 2, padding: 3, bias: false, init: convInit(options) }),
    bn1: batchNorm(),
    relu: relu(),
    pool: maxPool2d(3, { stride: 2, padding: 1 }),
    layers: serial(stages),
    mean: globalAvgPool(),
    fc: linear(classes),
  })
}

interface BlockOptions extends ResNetOptions {
  readonly width: number
  readonly stride: 1 | 2
  /** Whether the shortcut is a convolution: where the block changes the shape. */
  readonly project: boolean
}

/** 1x1, grouped 3x3 (with the stride) and 1x1 convolutions, squeeze-and-excitation, the shortcut, ReLU. */
function bottleneck(options: BlockOptions) {
  const { width, stride, expansion, cardinality = 1, lastBnZeroInit = false } = options
  const out = width * expansion
  const shared = { bias: false, init: convInit(options) } as const
  const squeezed = squeezeWidth(options, out)
  const squeeze: { squeeze?: ReturnType<typeof squeezeExcite> } =
    squeezed === undefined ? {} : { squeeze: squeezeExcite(squeezed) }
  const body = serial({
    conv1: conv2d({ features: width, kernel: 1, ...shared }),
    bn1: batchNorm(),
    relu1: relu(),
    conv2: conv2d({ features: width, kernel: 3, stride, padding: 1, groups: cardinality, ...shared }),
    bn2: batchNorm(),
    relu2: relu(),
    conv3: conv2d({ features: out, kernel: 1, ...shared }),
    bn3: batchNorm({ gamma: lastBnZeroInit ? 0 : 1 }),
    ...squeeze,
  })
  const projection = serial([conv2d({ features: out, kernel: 1, stride, ...shared }), batchNorm()])
  return residual(body, options.project ? projection : undefined, { activation: functions.relu })
}

function squeezeWidth({ squeeze }: ResNetOptions, channels: number): number | undefined {
  if (squeeze === undefined) return undefined
  if ('width' in squeeze) return squeeze.width
  return Math.max(1, Math.floor(channels / squeeze.ratio))
}

function stageWidths({ layers, widths, cardinality = 1 }: ResNetOptions): readonly number[] {
  const list = typeof widths === 'number' ? layers.map((_, stage) => widths * 2 ** stage) : widths
  if (list.length !== layers.length)
    throw new ValueError(`[resnet] expected ${layers.length} widths, one for each stage, got ${list.length}.`)
  const misfit = list.find((width) => width % cardinality !== 0)
  if (misfit !== undefined)
    throw new ValueError(`[resnet] expected widths that the cardinality ${cardinality} divides, got ${misfit}.`)
  return list
}

function convInit({ convInit: fan = 'fanIn' }: ResNetOptions): 'kaimingFanIn' | 'kaimingFanOut' {
  return fan === 'fanIn' ? 'kaimingFanIn' : 'kaimingFanOut'
}

const se = { squeeze: { ratio: 16 } } as const
const x32x4d = { widths: 128, expansion: 2, cardinality: 32 } as const

/** SE-ResNeXt101-32x4d: 48,955,416 parameters with the paper's squeeze, 45,251,128 with `squeeze: { width: 16 }`. */
export const seResNeXt101_32x4d = (options: ArchitectureOptions = {}): ResNet =>
  resnet({ layers: [3, 4, 23, 3], ...x32x4d, ...se, ...options })
/** SE-ResNeXt50-32x4d. */
export const seResNeXt50_32x4d = (options: ArchitectureOptions = {}): ResNet =>
  resnet({ layers: [3, 4, 6, 3], ...x32x4d, ...se, ...options })
/** SE-ResNeXt26-32x4d: two blocks a stage. */
export const seResNeXt26_32x4d = (options: ArchitectureOptions = {}): ResNet =>
  resnet({ layers: [2, 2, 2, 2], ...x32x4d, ...se, ...options })
/** ResNeXt101-32x4d: 44,177,704 parameters. */
export const resNeXt101_32x4d = (options: ArchitectureOptions = {}): ResNet =>
  resnet({ layers: [3, 4, 23, 3], ...x32x4d, ...options })
/** ResNet-50: 25,557,032 parameters. */
export const resNet50 = (options: ArchitectureOptions = {}): ResNet =>
  resnet({ layers: [3, 4, 6, 3], widths: 64, expansion: 4, ...options })

/** The named architectures, by the names of the command line. */
export const architectures = {
  /** SE-ResNeXt101-32x4d. */
  'se-resnext101-32x4d': seResNeXt101_32x4d,
  /** SE-ResNeXt50-32x4d. */
  'se-resnext50-32x4d': seResNeXt50_32x4d,
  /** SE-ResNeXt26-32x4d. */
  'se-resnext26-32x4d': seResNeXt26_32x4d,
  /** ResNeXt101-32x4d. */
  'resnext101-32x4d': resNeXt101_32x4d,
  /** ResNet-50. */
  resnet50: resNet50,
} as const satisfies Readonly<Record<string, (options?: ArchitectureOptions) => ResNet>>

/** The name of an architecture. */
export type ArchitectureName = keyof typeof architectures
