// What a planted bug is: one text of one file replaced, and who must notice.
import type { Edit } from './instance.ts'
import type { ScenarioName } from './scenarios.ts'
import type { ComplaintKind } from './watch.ts'

/** A bug, and what catches it. */
export interface PlantedBug extends Edit {
  /** What is wrong, in words. */
  readonly name: string
  /** The scenario that must complain. */
  readonly scenario: ScenarioName
  /** Of what it must complain. */
  readonly caught: ComplaintKind
}

/** The bugs of one file: [name, text, what takes its place, scenario, complaint]. */
export function bugsIn(
  file: string,
  list: readonly (readonly [string, string, string, ScenarioName, ComplaintKind])[],
): readonly PlantedBug[] {
  return list.map(([name, from, to, scenario, caught]) => ({ name, file, from, to, scenario, caught }))
}
