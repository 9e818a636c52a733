// Models small enough for tests, by the names that the spawned programs know them by.
import { nn } from 'pullback'
import type { Architectures } from '../../examples/imagenet/program.ts'

export const toys: Architectures = {
  toy: (options) =>
    nn.resnet({
      layers: [1, 1],
      widths: 8,
      expansion: 2,
      cardinality: 2,
      stemChannels: 8,
      squeeze: { ratio: 4 },
      ...options,
    }),
}
