// All scenarios by name.
import type { Scenario } from './scenario.ts'
import { kernelScenarios } from './scenarios-kernels.ts'
import { libraryScenarios } from './scenarios-library.ts'
import { orderScenarios } from './scenarios-order.ts'
import { trainingScenarios } from './scenarios-training.ts'

const scenarios = {
  ...orderScenarios,
  ...kernelScenarios,
  ...libraryScenarios,
  ...trainingScenarios,
} as const satisfies Record<string, Scenario>

/** The name of a scenario. */
export type ScenarioName = keyof typeof scenarios

/** All names. */
export const scenarioNames = Object.keys(scenarios) as readonly ScenarioName[]

/** A scenario. */
export function scenarioNamed(name: ScenarioName): Scenario {
  return scenarios[name]
}
