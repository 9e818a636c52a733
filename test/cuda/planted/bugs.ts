// All planted bugs.
import type { PlantedBug } from './bug.ts'
import { printedBugs } from './bugs-kernels.ts'
import { ownBugs } from './bugs-libraries.ts'
import { runtimeBugs } from './bugs-order.ts'
import { runsBugs } from './bugs-runs.ts'

export const plantedBugs: readonly PlantedBug[] = [...runtimeBugs, ...runsBugs, ...printedBugs, ...ownBugs]
