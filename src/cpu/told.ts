// What the compiled device tells of a program it made ready (PULLBACK_LOG), and where its plan can be read.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Plan, showPlan } from '../compile/index.ts'
import { logLine } from '../tensor/log.ts'
import { digest } from './compiler.ts'

/** A program made ready. */
export interface Compilation {
  readonly label: string
  /** Equations of the program; one for a single operation outside of jit. */
  readonly equations: number
  readonly plan: Plan
  readonly arenaBytes: number
  /** Milliseconds from program to plan, and from plan to native code. */
  readonly planned: number
  readonly prepared: number
  /** The cache's folder. */
  readonly folder: string
}

/** One line at info (debug for single operations), and with debug the plan as a file. */
export function tellCompilation({ label, equations, plan, ...rest }: Compilation): void {
  const { arenaBytes, planned, prepared, folder } = rest
  logLine(
    equations > 1 ? 'info' : 'debug',
    () =>
      `[${label}] compiled for cpu: ${plan.steps.length} steps, arena ${(arenaBytes / 1e6).toFixed(1)} MB, planned in ${planned.toFixed(0)} ms, ready in ${prepared.toFixed(0)} ms`,
  )
  if (equations > 1) logLine('debug', () => `[${label}] plan written to ${writePlan(label, plan, folder)}`)
}

function writePlan(label: string, plan: Plan, folder: string): string {
  const text = `${showPlan(plan)}\n`
  const plans = join(folder, 'plans')
  mkdirSync(plans, { recursive: true, mode: 0o700 })
  const path = join(plans, `${label.replaceAll(/\W+/g, '-')}-${digest(text)}.txt`)
  writeFileSync(path, text)
  return path
}
