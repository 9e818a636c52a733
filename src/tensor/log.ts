// What the library tells on stderr while it works, as far as PULLBACK_LOG asks for it. What a program prints about its run
// (progress, records) is the program's; errors are thrown, not logged.

/**
 * `error`: nothing but the error that ends a program. `warn` (unless said otherwise): what works, but not as it should.
 * `info`: devices chosen, functions traced and compiled, kernels built. `debug`: single operations and the files their plans
 * are written to as well; programs print the stack of the error that ends them.
 */
export type LogLevel = 'error' | 'warn' | 'info' | 'debug'

/** From the least to the most; each level includes those before it. */
export const logLevels: readonly LogLevel[] = ['error', 'warn', 'info', 'debug']

const usual: LogLevel = 'warn'

/** The last setting seen and what it means, so that a wrong one is told once. */
let known: { readonly setting: string; readonly level: LogLevel } = { setting: '', level: usual }

/** Whether lines of this level are wanted: PULLBACK_LOG is that level or a later one. */
export function logs(level: LogLevel): boolean {
  return logLevels.indexOf(level) <= logLevels.indexOf(chosenLevel(process.env['PULLBACK_LOG'] ?? ''))
}

/** Writes a line to stderr if its level is wanted; the text is made only then. */
export function logLine(level: LogLevel, text: () => string): void {
  if (logs(level)) process.stderr.write(`${text()}\n`)
}

function chosenLevel(setting: string): LogLevel {
  if (setting === known.setting) return known.level
  const level = logLevels.find((name) => name === setting.toLowerCase())
  known = { setting, level: level ?? usual }
  if (level === undefined && setting !== '')
    process.stderr.write(
      `[log] expected PULLBACK_LOG to be ${logLevels.join(', ')}, got '${setting}'. Taken as ${usual}.\n`,
    )
  return known.level
}
