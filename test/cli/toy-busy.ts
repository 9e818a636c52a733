// A program with minutes of native work in its queue that stops on signals as main.ts does: spawned by tests.
import { device, full, matmul, setDefaultDevice } from 'pullback'
import { main, stopOnSignals } from '../../examples/imagenet/program.ts'

await main(async () => {
  setDefaultDevice(device('cpu'))
  using stop = stopOnSignals((name) => void process.stdout.write(`${name}: finishing\n`))
  const w = full([2048, 2048], 1 / 2048)
  let x = matmul(w, w)
  for (let step = 0; step < 1000; step++) {
    const next = matmul(x, w)
    x.dispose()
    x = next
  }
  process.stdout.write('queued\n')
  await x.data()
  process.stdout.write('done\n')
  return stop.exitCode
})
