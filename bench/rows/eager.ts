// The overhead of one eager operation: enqueueing it, and enqueueing and reading it.
import { add, defaultDevice, tensor } from '../../src/index.ts'
import { print } from './measure.ts'

const count = 2000
const x = tensor(new Float32Array(16).fill(1))
await add(x, x).data()

let start = performance.now()
let last = x
for (let i = 0; i < count; i++) {
  const next = add(last, x)
  if (last !== x) last.dispose()
  last = next
}
const enqueued = performance.now() - start
await last.data()
start = performance.now()
for (let i = 0; i < count; i++) {
  const next = add(x, x)
  await next.data()
  next.dispose()
}
const read = performance.now() - start
print({
  library: 'pullback',
  op: 'eager add of 16 elements',
  enqueue_us: (enqueued / count) * 1000,
  enqueue_and_read_us: (read / count) * 1000,
})
await defaultDevice().close()
