// How tests run: in forked processes (native code may crash one, never the runner), two at a time, with a printed seed.
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  resolve: { alias: { pullback: fileURLToPath(new URL('./src/index.ts', import.meta.url)) } },
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/gpu/**', 'test/deviceless/**', '**/node_modules/**'],
    globalSetup: ['test/seed.ts'],
    setupFiles: ['test/setup.ts'],
    env: { PULLBACK_VERIFY: '1' },
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    teardownTimeout: 10_000,
    reporters: ['default'],
    coverage: { provider: 'v8', include: ['src/**/*.ts'], reporter: ['text-summary', 'html'] },
  },
})
