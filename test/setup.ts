// Configures fast-check in every test file: the run's seed, the scaled number of cases, and how a failure is told.
import fc from 'fast-check'
import { runs, seed } from './runs.ts'

/** Throws what fast-check would, and adds how to repeat the run. */
const tellSeed: fc.Plugin<unknown> = () => ({
  onAllRunsComplete: (details) => {
    if (!details.failed) return
    const message = fc.defaultReportMessage(details)
    throw new Error(`${message}\nRepeat with PULLBACK_SEED=${details.seed}`, { cause: details.errorInstance })
  },
})

fc.configureGlobal({ seed: seed(), numRuns: runs(100) })
fc.installGlobalPlugin(tellSeed)
