// The simulated GPU earns its trust: every bug of a list, planted into the sources, is caught by a small scenario, with the
// complaint that the list says; and the sources as they are pass all scenarios without one.
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Simulation, simulation } from '../../sim/library.ts'
import type { PlantedBug } from './bug.ts'
import { plantedBugs } from './bugs.ts'
import { instance, occurrences } from './instance.ts'
import type { Results } from './scenario.ts'
import { type ScenarioName, scenarioNames } from './scenarios.ts'
import { type Complaint, complaints, expectedOf } from './watch.ts'

const asTheyAre = instance()
const expected = new Map<ScenarioName, Results>()

let sim: Simulation
beforeAll(async () => {
  sim = await simulation()
}, 600_000)
afterAll(() => {
  sim.seed(0)
  sim.alignRight(0)
  sim.memory(8 * 2 ** 30)
})

async function expectedFor(name: ScenarioName): Promise<Results> {
  const known = expected.get(name) ?? (await expectedOf(asTheyAre, name, sim))
  expected.set(name, known)
  return known
}

/** What is said of a bug, until it is what the list says. */
async function saidOf(bug: PlantedBug): Promise<readonly Complaint[]> {
  const wanted = await expectedFor(bug.scenario)
  return complaints(instance(bug), bug.scenario, sim, wanted, ({ kind }) => kind === bug.caught)
}

describe('the list of planted bugs', () => {
  it('is not shorter than it was, and has no bug twice', () => {
    expect(plantedBugs.length).toBeGreaterThanOrEqual(60)
    expect(new Set(plantedBugs.map(({ name }) => name)).size).toBe(plantedBugs.length)
    expect(new Set(plantedBugs.map(({ file, from, to }) => [file, from, to].join('\n'))).size).toBe(plantedBugs.length)
  })

  it('has not rotted: the text of each is in its file, once', () => {
    const rotten = plantedBugs.filter((bug) => occurrences(bug) !== 1)
    expect(rotten.map((bug) => `${bug.name}: ${occurrences(bug)} times in ${bug.file}`)).toEqual([])
  })

  it('uses every scenario', () => {
    const used = new Set(plantedBugs.map(({ scenario }) => scenario))
    expect(scenarioNames.filter((name) => !used.has(name))).toEqual([])
  })
})

describe('the sources as they are', { timeout: 120_000 }, () => {
  it.each(scenarioNames)('pass: %s', async (name) => {
    expect(await complaints(asTheyAre, name, sim, await expectedFor(name))).toEqual([])
  })
})

describe('is caught', { timeout: 120_000 }, () => {
  it.each(plantedBugs)('$file: $name ($caught)', async (bug) => {
    const said = await saidOf(bug)
    expect(
      said.map(({ kind }) => kind),
      said.map(({ text }) => text).join('\n'),
    ).toContain(bug.caught)
  })
})
