// Chooses one fast-check seed for the whole run, prints it, and hands it to every worker through the environment.
import { randomInt } from 'node:crypto'

/** Runs once, before any worker starts. Set PULLBACK_SEED to repeat a run. */
export default function chooseSeed(): void {
  process.env['PULLBACK_SEED'] ??= String(randomInt(2 ** 31))
  console.log(`fast-check seed ${process.env['PULLBACK_SEED']} (repeat with PULLBACK_SEED=...)`)
}
