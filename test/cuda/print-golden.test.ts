// The CUDA text of one block's kernels, pinned, so that a change of the printer shows as a diff.
import { expect, it } from 'vitest'
import { cudaDialect, printKernel } from '../../src/compile/print/index.ts'
import { kernelsOf, smallPlan } from './print-plans.ts'

it('the kernels of a training step of one block in f16', async () => {
  const launches = kernelsOf(smallPlan('f16', 1)).flatMap((kernel) => printKernel(kernel, cudaDialect).launches)
  const seen = new Set<string>()
  const parts = launches.map(({ source, parts: blocks, numbers }) => {
    const call = `// ${source.name}: ${blocks} blocks (${numbers.join(' ')})\n`
    const text = seen.has(source.name) ? '' : `${source.text}\n`
    seen.add(source.name)
    return call + text
  })
  await expect(parts.join('')).toMatchFileSnapshot('../golden/cuda-one-block.txt')
})
