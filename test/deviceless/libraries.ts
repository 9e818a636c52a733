// The real libraries as the tests without a device use them: found as the CUDA device finds them, or in the wheels, and a
// session of cuDNN for a GPU that is not there.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type CudnnSession, propertiesSession } from '../../src/cuda/conv/index.ts'
import { discover } from '../../src/cuda/discovery.ts'
import { thisMachine } from '../../src/cuda/discovery-machine.ts'
import { type Libraries, probe } from '../../src/cuda/discovery-probe.ts'
import { koffiNative } from '../../src/cuda/ffi/loader.ts'
import { absent, headerFolders, nvidiaFolder } from '../cuda/wheels.ts'
import { loadStubDriver } from './stub-driver.ts'

const native = koffiNative()

function machine() {
  const path = process.env['PULLBACK_CUDA_PATH'] ?? nvidiaFolder()
  return thisMachine({ ...process.env, ...(path === undefined ? {} : { PULLBACK_CUDA_PATH: path }) })
}

/** What is found on this machine: PULLBACK_CUDA_PATH first, then the wheels. */
export function findLibraries(): Libraries {
  return probe(machine(), native).libraries
}

/** Sees to it that cuDNN's engines with run-time compilation can plan; false, and why is printed, where they cannot. */
export function provideDriver(): boolean {
  if (discover(machine()).driver !== undefined) return true
  const header = headerFolders()
    ?.map((folder) => join(folder, 'cuda.h'))
    .find(existsSync)
  if (header === undefined) absent('engines that compile at run time are not tried, because there is no cuda.h')
  else loadStubDriver(native, header)
  return header !== undefined
}

/** What cuDNN is told about an H200. */
export function h200Properties(): string {
  return readFileSync(new URL('../golden/h200-device-properties.json', import.meta.url), 'utf8')
}

/** A session that plans for an H200. */
export function h200Session({ cudnn }: Libraries): CudnnSession {
  if (cudnn === undefined) throw new Error('no cuDNN')
  return propertiesSession(cudnn, h200Properties())
}

/** In place of what lowers fused steps, where a plan has none. */
export function unfused(): never {
  throw new Error('a plan that was not fused has a fused step')
}
