// All planted bugs.
import type { PlantedBug } from './bug.ts'
import { kernelBugs } from './bugs-kernels.ts'
import { orderBugs } from './bugs-order.ts'

export const plantedBugs: readonly PlantedBug[] = [...orderBugs, ...kernelBugs]
