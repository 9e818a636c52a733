// grad and jit in ten lines: fits a line by gradient descent, in one compiled step. `npx tsx examples/quickstart.ts`.
import { type Tensor, add, jit, mean, mul, square, sub, tensor, valueAndGrad } from 'pullback'

const x = tensor([0, 1, 2, 3])
const y = tensor([1, 3, 5, 7]) // y = 2 x + 1

type Line = { slope: Tensor; offset: Tensor }
const loss = (p: Line) => mean(square(sub(add(mul(x, p.slope), p.offset), y)))
const step = jit((p: Line) => {
  const [error, gradient] = valueAndGrad(loss)(p) // the gradient of { slope, offset } is { slope, offset }
  const line = { slope: sub(p.slope, mul(gradient.slope, 0.1)), offset: sub(p.offset, mul(gradient.offset, 0.1)) }
  return { error, line }
})

let line: Line = { slope: tensor(0), offset: tensor(0) }
let error = tensor(0)
for (let i = 0; i < 200; i++) ({ error, line } = step(line)) // compiled at the first call
console.log(
  `y = ${(await line.slope.item()).toFixed(3)} x + ${(await line.offset.item()).toFixed(3)}, error ${await error.item()}`,
)
