// The real machine, as discovery asks for it: folders, the dynamic loader's cache, and python3's packages.
import { spawnSync } from 'node:child_process'
import { readdirSync, realpathSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Machine } from './discovery.ts'

/** Folders every loader searches, and where a driver lies on WSL and in NVIDIA's containers. */
const defaultFolders = [
  '/lib/x86_64-linux-gnu',
  '/usr/lib/x86_64-linux-gnu',
  '/lib/aarch64-linux-gnu',
  '/usr/lib/aarch64-linux-gnu',
  '/lib64',
  '/usr/lib64',
  '/usr/lib/wsl/lib',
  '/usr/local/nvidia/lib64',
]

const sitePackagesProgram =
  'import site, sysconfig; print("\\n".join([sysconfig.get_path("purelib"), *site.getsitepackages(), site.getusersitepackages()]))'

/** This machine. Programs are asked at most once, and only when discovery asks. */
export function thisMachine(environment: NodeJS.ProcessEnv = process.env): Machine {
  return {
    environment,
    list: (folder) => attempt(() => readdirSync(folder)) ?? [],
    realPath: (path) => attempt(() => realpathSync(path)) ?? path,
    loaderFolders: once(() => [
      ...(environment['LD_LIBRARY_PATH'] ?? '').split(':').filter((path) => path.startsWith('/')),
      ...cachedFolders(output('ldconfig', ['-p'], environment) ?? output('/sbin/ldconfig', ['-p'], environment) ?? ''),
      ...defaultFolders,
    ]),
    sitePackages: once(() => [
      ...new Set(
        (output('python3', ['-c', sitePackagesProgram], environment) ?? '').split('\n').filter((path) => path !== ''),
      ),
    ]),
  }
}

/** The folders of what `ldconfig -p` prints that hold one of our libraries. */
export function cachedFolders(printed: string): readonly string[] {
  const paths = printed.split('\n').flatMap((line) => {
    const path = /=> (\/\S*\/lib(?:cuda|nvrtc|cublasLt|cudnn)\.so\S*)/.exec(line)?.[1]
    return path === undefined ? [] : [dirname(path)]
  })
  return [...new Set(paths)]
}

function output(program: string, parameters: readonly string[], environment: NodeJS.ProcessEnv): string | undefined {
  const result = spawnSync(program, parameters, { encoding: 'utf8', env: environment, timeout: 30_000 })
  return result.error === undefined && result.status === 0 ? result.stdout : undefined
}

function once<T>(ask: () => T): () => T {
  let answer: { readonly value: T } | undefined
  return () => (answer ??= { value: ask() }).value
}

function attempt<T>(action: () => T): T | undefined {
  try {
    return action()
  } catch {
    return undefined
  }
}
