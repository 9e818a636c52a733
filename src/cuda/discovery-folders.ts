// The folders in which CUDA libraries may lie, in the order in which they are searched.
import type { Machine, Problem } from './discovery.ts'

/** A folder that exists, and why it is searched. */
export interface Folder {
  readonly path: string
  readonly origin: string
  readonly names: ReadonlySet<string>
}

/** Below the root of a CUDA toolkit. */
const toolkitFolders = ['', '/lib64', '/lib', '/targets/x86_64-linux/lib', '/targets/sbsa-linux/lib']
/** Below site-packages/nvidia: the wheels of CUDA 13, then those of CUDA 12. */
const wheelFolders = ['/cudnn/lib', '/cu13/lib', '/cublas/lib', '/cuda_nvrtc/lib']

/** The folders to search, each once, and a problem for each path that a variable names in vain. */
export function searchFolders(machine: Machine): {
  readonly folders: readonly Folder[]
  readonly problems: readonly Problem[]
} {
  const { PULLBACK_CUDA_PATH, CUDA_HOME, CUDA_PATH } = machine.environment
  const explicit = split(PULLBACK_CUDA_PATH)
  const site = machine.sitePackages().map((path) => `${path}/nvidia`)
  const candidates = [
    ...below(explicit, [...toolkitFolders, ...wheelFolders], 'PULLBACK_CUDA_PATH'),
    ...below(split(CUDA_HOME), toolkitFolders, 'CUDA_HOME'),
    ...below(split(CUDA_PATH), toolkitFolders, 'CUDA_PATH'),
    ...below(machine.loaderFolders(), [''], 'the loader'),
    ...below(['/usr/local/cuda'], toolkitFolders, '/usr/local/cuda'),
    ...below(site, wheelFolders, 'python3'),
  ]
  const folders = new Map<string, Folder>()
  for (const { path, origin } of candidates) {
    if (folders.has(path)) continue
    const names = machine.list(path)
    if (names.length > 0) folders.set(path, { path, origin, names: new Set(names) })
  }
  const held = [...folders.values()]
  const vain = explicit.filter((root) => !held.some(({ path }) => path === root || path.startsWith(`${root}/`)))
  return {
    folders: held,
    problems: vain.map((root) => ({
      code: 'path',
      sentence: `PULLBACK_CUDA_PATH names ${root}, which is not a folder with files. Set it to the folder that holds the CUDA libraries, or unset it.`,
    })),
  }
}

function below(roots: readonly string[], folders: readonly string[], origin: string) {
  return roots.flatMap((root) => folders.map((folder) => ({ path: `${root}${folder}`, origin })))
}

/** A list of absolute paths as in PATH, without what is empty. */
function split(value: string | undefined): readonly string[] {
  return (value ?? '')
    .split(':')
    .map((path) => path.trim().replace(/\/+$/, ''))
    .filter((path) => path !== '')
}
