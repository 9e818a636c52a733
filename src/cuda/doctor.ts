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
  const { driver, nvrtc, cublasLt, cudnn, gpus } = versions
  return [
    line('driver', discovery.driver, driver && `CUDA ${showCuda(driver.version)}`),
    line('NVRTC', discovery.nvrtc, nvrtc && `${showCuda(nvrtc.version)}, ${architectures(nvrtc.architectures)}`),
    line('cuBLASLt', discovery.cublasLt, cublasLt && showLibrary(cublasLt.version)),
    line('cuDNN', discovery.cudnn, cudnn && `${showLibrary(cudnn.version)} for CUDA ${showCuda(cudnn.cuda)}`),
    ...(gpus ?? []).map(
      ({ name, capability }, index) =>
        `${label(`GPU ${index}`)}${name}, compute capability ${Math.trunc(capability / 10)}.${capability % 10}`,
    ),
    ...(problems.length === 0
      ? ['CUDA can be used.']
      : ['CUDA cannot be used:', ...problems.map(({ sentence }) => `- ${sentence}`)]),
  ]
}

function line(name: string, found: Found | undefined, version: string | undefined): string {
  if (found === undefined) return `${label(name)}not found`
  return `${label(name)}${version ?? 'cannot be asked'}, in ${found.folder} (from ${found.origin})`
}

function label(name: string): string {
  return `${name}:`.padEnd(10)
}

function architectures(known: readonly number[]): string {
  return known.length === 0 ? 'no architectures' : `sm_${known[0] ?? ''} to sm_${known.at(-1) ?? ''}`
}
