// The package as a newcomer meets it: importing is silent and quick, opens no native library, and every name is documented.
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import ts from 'typescript'
import { beforeAll, describe, expect, it } from 'vitest'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../../', import.meta.url))
const index = fileURLToPath(new URL('../../src/index.ts', import.meta.url))

/** What importing the package did to a fresh process. */
interface Import {
  readonly printed: string
  readonly globals: string[]
  readonly listeners: string[]
  readonly environment: string[]
  readonly resources: string[]
  readonly libraries: string[]
  readonly names: string[]
}

/** A program that imports a module and tells what that changed. */
const probe = (module: string): string => `
  process.report.excludeNetwork = true
  const look = () => ({
    globals: Reflect.ownKeys(globalThis).map(String),
    listeners: process.eventNames().flatMap((name) => Array(process.listenerCount(name)).fill().map((_, i) => String(name) + i)),
    environment: [...Object.entries(process.env).map(String), process.cwd()],
    resources: process.getActiveResourcesInfo().map((name, i, all) => name + all.slice(0, i).filter((n) => n === name).length),
    libraries: process.report.getReport().sharedObjects,
  })
  const before = look()
  const names = Object.keys(await import(${JSON.stringify(module)}))
  const after = look()
  const added = Object.fromEntries(Object.keys(after).map((key) => [key, after[key].filter((x) => !before[key].includes(x))]))
  process.stdout.write('\\nREPORT' + JSON.stringify({ ...added, names }), () => process.exit(0))
`

/** Imports a module in a Node of its own, as a user's first import would, without the variables of this run. */
async function importAlone(module = index): Promise<Import> {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(PULLBACK|VITEST|NODE)/.test(name)))
  const options = { cwd: root, env, timeout: 50_000 }
  const { stdout, stderr } = await run(
    process.execPath,
    ['--import', 'tsx', '--input-type=module', '--eval', probe(module)],
    options,
  )
  const [printed = '', report = ''] = stdout.split('\nREPORT')
  return { ...(JSON.parse(report) as Omit<Import, 'printed'>), printed: printed + stderr }
}

describe('importing the package', () => {
  let seen: Import
  beforeAll(async () => {
    seen = await importAlone()
  })

  it('prints nothing', () => {
    expect(seen.printed).toBe('')
  })

  it('changes no global, no environment variable, and listens to nothing', () => {
    expect([...seen.globals, ...seen.environment, ...seen.listeners]).toEqual([])
  })

  it('leaves nothing running', () => {
    expect(seen.resources).toEqual([])
  })

  it('opens no native library: neither koffi nor sharp, no CUDA, no BLAS', async () => {
    expect(seen.libraries).toEqual([])
    // The same look sees a library that is opened.
    expect((await importAlone('koffi')).libraries).toEqual([expect.stringMatching(/koffi\.node$/)])
  })

  it('gives the transformations and the namespaces, and no default', () => {
    expect(seen.names).not.toContain('default')
    const main = ['grad', 'jit', 'nn', 'random', 'train', 'tree', 'valueAndGrad', 'vjp']
    expect(seen.names).toEqual(expect.arrayContaining(main))
  })
})

describe('the public names', () => {
  it('all have a docstring', { timeout: 60_000 }, () => {
    const config = ts.readConfigFile(`${root}tsconfig.json`, (path) => ts.sys.readFile(path))
    const { options } = ts.parseJsonConfigFileContent(config.config, ts.sys, root)
    const program = ts.createProgram([index], options)
    const checker = program.getTypeChecker()
    const names = exportedSymbols(checker, program.getSourceFile(index), '')
    expect(names.length).toBeGreaterThan(20)
    expect(names.filter(({ symbol }) => !documented(checker, symbol)).map(({ path }) => path)).toEqual([])
  })
})

describe('package.json', () => {
  it('runs no install script and pins what native code and tests depend on', async () => {
    const manifest = JSON.parse(await readFile(`${root}package.json`, 'utf8')) as {
      scripts: Record<string, string>
      dependencies: Record<string, string>
      version: string
    }
    expect(Object.keys(manifest.scripts)).not.toEqual(
      expect.arrayContaining([expect.stringMatching(/^(pre|post)?(install|prepare)$/)]),
    )
    for (const version of Object.values(manifest.dependencies)) expect(version).toMatch(/^\d+\.\d+\.\d+$/)
    expect(await readFile(`${root}CHANGELOG.md`, 'utf8')).toContain(`## [${manifest.version}]`)
  })
})

interface Named {
  readonly path: string
  readonly symbol: ts.Symbol
}

/** The exports of a module, and of the namespaces it exports, each under its dotted path. */
function exportedSymbols(checker: ts.TypeChecker, file: ts.Node | undefined, prefix: string): Named[] {
  const module = file && checker.getSymbolAtLocation(file)
  if (!module) throw new Error(`[package] expected a module with exports at ${index}`)
  return checker.getExportsOfModule(module).flatMap((symbol) => {
    const path = `${prefix}${symbol.name}`
    const target = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol
    const inner = target.flags & ts.SymbolFlags.ValueModule ? target.declarations?.[0] : undefined
    return inner ? exportedSymbols(checker, inner, `${path}.`) : [{ path, symbol: target }]
  })
}

function documented(checker: ts.TypeChecker, symbol: ts.Symbol): boolean {
  return symbol.getDocumentationComment(checker).length > 0
}
