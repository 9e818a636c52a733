// What was found of CUDA, as lines of text: for `pullback doctor` and for the header of a run. Pure.
import type { Discovery, Found, Problem } from './discovery.ts'
import { type Versions, showCuda, showLibrary } from './discovery-versions.ts'

/** What a report is made from; discovery-probe.ts makes it. */
export interface Findings {
  readonly discovery: Discovery
  readonly versions: Versions
  readonly problems: readonly Problem[]
}

/** One line for each library and GPU, and one for each problem. */
export function doctorLines({ discovery, versions, problems }: Findings): readonly string[] {
  const libraries = Object.entries(libraryDetails({ discovery, versions }))
  return [
    ...libraries.map(([name, text]) => `${label(name)}${text}`),
    ...(versions.gpus ?? []).map(
      ({ name, capability }, index) =>
        `${label(`GPU ${index}`)}${name}, compute capability ${Math.trunc(capability / 10)}.${capability % 10}`,
    ),
    ...(problems.length === 0
      ? ['CUDA can be used.']
      : ['CUDA cannot be used:', ...problems.map(({ sentence }) => `- ${sentence}`)]),
  ]
}

/** Each library's version, and where it was found. */
export function libraryDetails({
  discovery,
  versions: { driver, nvrtc, cublasLt, cudnn },
}: Pick<Findings, 'discovery' | 'versions'>): Readonly<Record<string, string>> {
  return {
    driver: place(discovery.driver, driver && `CUDA ${showCuda(driver.version)}`),
    NVRTC: place(discovery.nvrtc, nvrtc && `${showCuda(nvrtc.version)}, ${architectures(nvrtc.architectures)}`),
    cuBLASLt: place(discovery.cublasLt, cublasLt && showLibrary(cublasLt.version)),
    cuDNN: place(discovery.cudnn, cudnn && `${showLibrary(cudnn.version)} for CUDA ${showCuda(cudnn.cuda)}`),
  }
}

function place(found: Found | undefined, version: string | undefined): string {
  return found === undefined
    ? 'not found'
    : `${version ?? 'cannot be asked'}, in ${found.folder} (from ${found.origin})`
}

function label(name: string): string {
  return `${name}:`.padEnd(10)
}

function architectures(known: readonly number[]): string {
  return known.length === 0 ? 'no architectures' : `sm_${known[0] ?? ''} to sm_${known.at(-1) ?? ''}`
}
