// What one run of a program moves in the GPU's memory, counted from its plan and from how its steps are done: operands and
// results, and what libraries write to their workspaces and read back. Nothing is timed.
import { workOf } from '../compile/index.ts'
import { bytesOf } from '../tensor/dtype.ts'
import { at, range, sizeOf } from '../tensor/shape.ts'
import type { CudaPlan } from './fusions/arrange.ts'
import type { CudaStep } from './fusions/fusion.ts'
import type { Way } from './lower.ts'

/** Bytes of device memory, reads and writes together. */
export interface Traffic {
  /** Operands and results of fused kernels. */
  readonly kernels: number
  /** Operands and results of library steps, and of those that are fused with kernels, as if they were not. */
  readonly libraries: number
  /** Workspaces and scratch memory, written once and read once. */
  readonly workspaces: number
  /** The same of convolutions by cuDNN that convert an operand's layout: the workspace holds at least one whole operand. */
  readonly conversions: number
}

/** The traffic of one run of a plan whose steps are done in these ways. */
export function trafficOf(plan: CudaPlan, ways: readonly Way[]): Traffic {
  const all = range(plan.steps.length)
  const scratch = (chosen: (step: number) => boolean): number =>
    all.filter(chosen).reduce((sum, step) => sum + 2 * at(ways, step).scratchBytes, 0)
  const converts = (step: number): boolean => convertsLayout(at(plan.steps, step), at(ways, step))
  const ofKind = (...kinds: readonly CudaStep['kind'][]): number =>
    workOf(
      plan,
      all.filter((step) => kinds.includes(at(plan.steps, step).kind)),
    ).bytes
  return {
    kernels: ofKind('kernel'),
    libraries: ofKind('library', 'fused'),
    workspaces: scratch((step) => !converts(step)),
    conversions: scratch(converts),
  }
}

/** All of it. */
export function totalTraffic({ kernels, libraries, workspaces, conversions }: Traffic): number {
  return kernels + libraries + workspaces + conversions
}

/** In megabytes, a part each. */
export function showTraffic(traffic: Traffic): string {
  const { kernels, libraries, workspaces, conversions } = traffic
  const mb = (bytes: number): string => (bytes / 1e6).toFixed(1)
  return `moves ${mb(totalTraffic(traffic))} MB: kernels ${mb(kernels)}, library calls ${mb(libraries)}, workspaces ${mb(workspaces)}, layout conversions ${mb(conversions)}`
}

/** Whether a way of a convolution that is not our own has room for a copy of the smaller of its two images. */
function convertsLayout(step: CudaStep, { id, scratchBytes }: Way): boolean {
  if (step.kind !== 'library' || id === undefined || id.startsWith('own:')) return false
  const { primitive, inputs, outputs } = step.equation
  if (!primitive.startsWith('conv2d')) return false
  const images = primitive === 'conv2dFilterGrad' ? inputs : [at(inputs, 0), at(outputs, 0)]
  const bytes = images.map(({ type }) => sizeOf(type.shape) * bytesOf(type.dtype))
  return scratchBytes >= Math.min(...bytes)
}
