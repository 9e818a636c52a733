// The devices a law is tried on. A machine without a C compiler says so and tries the reference alone.
import { cpuDevice } from '../../src/cpu/index.ts'
import type { Device } from '../../src/tensor/device.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'

/** The reference, and the compiled CPU device where there is a compiler: by name, for describe.each. */
export function testDevices(): readonly (readonly [name: string, device: Device])[] {
  const cpu = cpuDevice()
  if (cpu === undefined) console.warn('no C compiler found: these tests run on the reference device alone')
  return [['reference', referenceDevice()], ...(cpu === undefined ? [] : [['cpu', cpu] as const])]
}
