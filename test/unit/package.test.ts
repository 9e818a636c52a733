// The package as a newcomer meets it: importing is silent and quick, opens no native library, and every name is documented.
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import ts from 'typescript'
import { describe, expect, it } from 'vitest'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../../', import.meta.url))
const index = fileURLToPath(new URL('../../src/index.ts', import.meta.url))

/** Runs one module in its own Node, as a user's first import would, in an environment without the variables we read. */
function inFreshNode(source: string): Promise<{ stdout: string; stderr: string }> {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(PULLBACK|VITEST|NODE)/.test(name)))
  return run(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', source], {
    cwd: root,
    env,
    timeout: 25_000,
  })
}

describe('importing the package', () => {
  it('prints nothing, leaves nothing running, changes no global', async () => {
    const { stdout, stderr } = await inFreshNode(`
      const state = () => JSON.stringify([
        Reflect.ownKeys(globalThis).map(String).sort(),
        process.eventNames().map((name) => [String(name), process.listenerCount(name)]).sort(),
        process.cwd(), process.env,
      ])
      const before = state()
      const handles = process.getActiveResourcesInfo().length
      await import(${JSON.stringify(index)})
      if (state() !== before) throw new Error('changed: ' + before + ' -> ' + state())
      const left = process.getActiveResourcesInfo()
      if (left.length > handles) throw new Error('left running: ' + left.join(', '))
    `)
    expect({ stdout, stderr }).toEqual({ stdout: '', stderr: '' })
  })

  it.runIf(process.platform === 'linux')(
    'opens no native library: neither koffi nor sharp, no CUDA, no BLAS',
    async () => {
      const { stdout } = await inFreshNode(`
      import { readFileSync } from 'node:fs'
      const mapped = () => new Set(readFileSync('/proc/self/maps', 'utf8').match(/\\S+\\.(?:node|so)[\\d.]*$/gm))
      const before = mapped()
      await import(${JSON.stringify(index)})
      console.log(JSON.stringify([...mapped()].filter((file) => !before.has(file))))
    `)
      expect(JSON.parse(stdout)).toEqual([])
    },
  )

  it('is quick', async () => {
    const { stdout } = await inFreshNode(`
      await import('node:fs')
      const start = performance.now()
      await import(${JSON.stringify(index)})
      console.log(performance.now() - start)
    `)
    // tsx compiles every file here, on a machine that other tests share; the built package takes a tenth of this.
    expect(Number(stdout)).toBeLessThan(5000)
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

  it('hold the transformations and the namespaces, and no default', async () => {
    const exported = await inFreshNode(`
      const names = Object.keys(await import(${JSON.stringify(index)}))
      console.log(JSON.stringify(names))
    `)
    const names = JSON.parse(exported.stdout) as string[]
    expect(names).not.toContain('default')
    expect(names).toEqual(
      expect.arrayContaining(['grad', 'jit', 'nn', 'random', 'train', 'tree', 'valueAndGrad', 'vjp']),
    )
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
