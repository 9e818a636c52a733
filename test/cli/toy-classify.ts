// classify.ts with a model small enough for tests: spawned by them as a program of its own.
import { run } from '../../examples/imagenet/classify.ts'
import { main } from '../../examples/imagenet/program.ts'
import { toys } from './toys.ts'

await main(async () => {
  await run(process.argv.slice(2), toys)
  return 0
})
