// The sources loaded once more, all of their modules anew, with one text of one file replaced: a process can hold many such
// instances side by side. Files are translated one by one and kept, so an instance costs what its modules do when they start.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { Script } from 'node:vm'
import { transformSync } from 'esbuild'

/** One text of one file, and what takes its place. */
export interface Edit {
  /** From the root of the repository: `src/cuda/replays.ts`. */
  readonly file: string
  /** Occurs in the file exactly once. */
  readonly from: string
  readonly to: string
}

const root = fileURLToPath(new URL('../../../', import.meta.url))
const requireHere = createRequire(import.meta.url)

interface Module {
  exports: unknown
}
type Body = (module: Module, require: (name: string) => unknown) => void

/** The bodies of files as they are, by path. */
const translated = new Map<string, Body>()

/** How often the edit's text occurs in its file. */
export function occurrences({ file, from }: Edit): number {
  return readFileSync(join(root, file), 'utf8').split(from).length - 1
}

/**
 * Loads modules by their path from the root, with all that they import of the repository; every call makes an instance of
 * its own, whose modules know nothing of those of another.
 *
 * @throws Error where the edit's text does not occur exactly once.
 */
export function instance(edit?: Edit): (path: string) => unknown {
  if (edit !== undefined && occurrences(edit) !== 1)
    throw new Error(`expected '${edit.from}' exactly once in ${edit.file}, found it ${occurrences(edit)} times`)
  const edited = edit === undefined ? undefined : join(root, edit.file)
  const modules = new Map<string, Module>()
  const load = (path: string): unknown => {
    const known = modules.get(path)
    if (known !== undefined) return known.exports
    const module: Module = { exports: {} }
    modules.set(path, module)
    const body = path === edited && edit !== undefined ? translate(path, edit) : bodyOf(path)
    body(module, (name) => (name.startsWith('.') ? load(join(dirname(path), name)) : requireHere(name)))
    return module.exports
  }
  return (path) => load(join(root, path))
}

function bodyOf(path: string): Body {
  const body = translated.get(path) ?? translate(path)
  translated.set(path, body)
  return body
}

/** A module as a function of itself and of what gets it others. */
function translate(path: string, edit?: Edit): Body {
  const text = readFileSync(path, 'utf8')
  const { code } = transformSync(edit === undefined ? text : text.replace(edit.from, () => edit.to), {
    ...{ loader: 'ts', format: 'cjs', target: 'node20', sourcefile: path },
    define: { 'import.meta.url': JSON.stringify(pathToFileURL(path).href) },
  })
  return new Script(`(function (module, require) {${code}\n})`, { filename: path }).runInThisContext() as Body
}
