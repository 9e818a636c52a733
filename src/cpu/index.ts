// The compiled CPU device; src/index.ts is its only user.
export { cpuDevice } from './device.ts'
export type { EngineOptions as CpuOptions } from './engine.ts'
