// `npm run test:deviceless`: what NVIDIA's real libraries say of our bindings, kernels and plans on a machine that may have
// no GPU. It is apart from `npm test` because the libraries are a gigabyte that few machines have.
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'
import base from '../../vitest.config.ts'

export default defineConfig({
  ...base,
  root: fileURLToPath(new URL('../..', import.meta.url)),
  test: {
    ...base.test,
    include: [
      'test/deviceless/*.test.ts',
      'test/cuda/{headers,ffi-real,matmul-real,print-nvrtc,grouped-nvrtc,kernels-nvrtc,rows-nvrtc,products,together}.test.ts',
    ],
    exclude: [],
    testTimeout: 300_000,
    hookTimeout: 600_000,
  },
})
