// The part `bits`: the same steps give the same bits on a device opened anew, and without graphs.
import { type Outcome, differingLeaves, trainSmall } from '../support/small-training.ts'
import { type Gpu, type Part, type Tell, attempt, sized, withDevice } from './part.ts'

type Precision = 'f16' | 'f32'

function trained(gpu: Gpu, precision: Precision, graphs: '0' | '1'): Promise<Outcome> {
  const environment = { PULLBACK_GRAPHS: graphs, PULLBACK_VERIFY: '' }
  const run = { precision, steps: sized(gpu, 10, 3) }
  return withDevice(gpu, { environment }, (device) => trainSmall(device, run))
}

async function compare(gpu: Gpu, tell: Tell, precision: Precision): Promise<void> {
  const first = await trained(gpu, precision, '1')
  const told = (how: string, other: Outcome): void => {
    const differing = differingLeaves(other, first)
    tell.compared({
      name: `steps in ${precision} ${how}, leaves with other bits`,
      ...{ cases: first.size, worst: differing.length, tolerance: 0 },
      ...(differing[0] === undefined ? {} : { where: differing.slice(0, 3).join(', ') }),
    })
  }
  told('on a device opened anew', await trained(gpu, precision, '1'))
  told('without graphs', await trained(gpu, precision, '0'))
}

export const bits: Part = {
  says: 'the same training steps on two devices one after the other, with and without graphs: equal bits',
  seconds: 90,
  run: async (gpu, tell) => {
    const precisions = gpu.size === 'small' ? (['f16'] as const) : (['f16', 'f32'] as const)
    for (const precision of precisions) await attempt(tell, precision, () => compare(gpu, tell, precision))
  },
}
