// The layers, losses and models in one place.
export { functions as activations, gelu, leakyRelu, relu, sigmoid, silu, tanh } from './activations.ts'
export {
  type AnyLayer,
  type NamedLayers,
  type ParamsOfEach,
  type ResidualOptions,
  type StateOfEach,
  identity,
  residual,
  serial,
} from './compose.ts'
export {
  type Conv2dOptions,
  type Conv2dParams,
  avgPool2d,
  conv2d,
  globalAvgPool,
  maxPool2d,
} from './conv.ts'
export { dropout } from './dropout.ts'
export { type Fan, type Initializer, type Seed, constant, kaimingNormal, torchUniform } from './init.ts'
export {
  type Description,
  type Layer,
  type Mode,
  type Nothing,
  Parameter,
  type ParamsOf,
  type StateOf,
  type TensorTree,
  type Variables,
  layer,
  pure,
  variables,
} from './layer.ts'
export { type LinearParams, flatten, linear } from './linear.ts'
export {
  type CrossEntropyOptions,
  crossEntropyRows,
  huber,
  l2Penalty,
  meanAbsoluteError,
  meanSquaredError,
  sigmoidCrossEntropy,
  softmaxCrossEntropy,
  weightedMean,
} from './losses.ts'
export { type BatchNormOptions, type BatchNormParams, type BatchNormState, batchNorm } from './norm.ts'
export {
  type ArchitectureName,
  type ArchitectureOptions,
  type ResNet,
  type ResNetOptions,
  type ResNetParams,
  type ResNetState,
  architectures,
  resNeXt101_32x4d,
  resNet50,
  resnet,
  seResNeXt101_32x4d,
  seResNeXt26_32x4d,
  seResNeXt50_32x4d,
} from './resnet.ts'
export { type SqueezeExciteParams, squeezeExcite } from './squeeze-excite.ts'
