// Where devices keep what they compiled between runs. What lies in the folder is each device's own business.
import { accessSync, constants, mkdirSync, mkdtempSync, statSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { PullbackError } from '../tensor/errors.ts'

/**
 * The folder for compiled kernels: PULLBACK_CACHE, else XDG_CACHE_HOME/pullback, else ~/.cache/pullback, made with mode
 * 0700; where none of the last two can be written to, a private folder for this process alone.
 *
 * @throws PullbackError `file` if PULLBACK_CACHE is set and cannot be used.
 */
export function cacheFolder(environment: NodeJS.ProcessEnv = process.env): string {
  const chosen = environment['PULLBACK_CACHE']
  if (chosen !== undefined && chosen !== '') {
    const problem = prepare(chosen)
    if (problem === undefined) return chosen
    throw new PullbackError('file', `[cache] cannot use PULLBACK_CACHE=${chosen}: ${problem}. Choose another folder.`)
  }
  const base = environment['XDG_CACHE_HOME'] ?? ''
  const usual = join(base === '' ? join(homedir(), '.cache') : base, 'pullback')
  return prepare(usual) === undefined ? usual : mkdtempSync(join(tmpdir(), 'pullback-'))
}

/** Makes the folder; what is wrong with it, if anything: code of other users must never be loaded from it. */
function prepare(folder: string): string | undefined {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    accessSync(folder, constants.W_OK | constants.X_OK)
    const { uid, mode } = statSync(folder)
    if (process.getuid !== undefined && uid !== process.getuid()) return 'it belongs to another user'
    return (mode & 0o022) !== 0 ? 'other users may write to it' : undefined
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}
