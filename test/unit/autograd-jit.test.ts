// jit by example: what is traced and when, donation, captured tensors, results that are inputs, and mistakes.
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { autocast, grad, jit, verifyPrograms } from '../../src/autograd/index.ts'
import { scalar, setDefaultDevice } from '../../src/tensor/dispatch.ts'
import * as ops from '../../src/tensor/ops/index.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import { type Tensor, storageOf } from '../../src/tensor/tensor.ts'

const { add, mul, sum, tensor } = ops

beforeAll(() => {
  setDefaultDevice(referenceDevice())
  verifyPrograms(true)
})

afterEach(() => {
  vi.unstubAllEnvs()
  vi.restoreAllMocks()
})

const numbers = async (x: Tensor): Promise<number[]> => [...(await x.data())]

function failure(body: () => unknown): string {
  try {
    body()
  } catch (error) {
    return `${(error as { code?: string }).code ?? 'none'}: ${(error as Error).message}`
  }
  return 'nothing was thrown'
}

describe('the cache', () => {
  test('traces once for each tree, shape, dtype and static leaf', async () => {
    let traces = 0
    const f = jit((p: Record<string, Tensor>, by: number | string | boolean | null) => {
      traces += 1
      return mul(p['a'] ?? tensor(0), typeof by === 'number' ? by : 1)
    })
    const a = tensor([1, 2])
    expect(await numbers(f({ a }, 2))).toEqual([2, 4])
    expect(await numbers(f({ a: tensor([3, 4]) }, 2))).toEqual([6, 8])
    expect(traces).toBe(1)
    const calls: [Record<string, Tensor>, number | string | boolean | null][] = [
      [{ a, b: a }, 2],
      [{ a: tensor([1, 2, 3]) }, 2],
      [{ a: tensor([1, 2], { dtype: 'f64' }) }, 2],
      [{ a }, 3],
      [{ a }, -0],
      [{ a }, 0],
      [{ a }, '2'],
      [{ a }, true],
      [{ a }, null],
    ]
    for (const [p, by] of calls) f(p, by)
    expect(traces).toBe(1 + calls.length)
    for (const [p, by] of calls) f(p, by)
    expect(traces).toBe(1 + calls.length)
    f.clear()
    f({ a }, 2)
    expect(traces).toBe(2 + calls.length)
  })

  test('takes a number without memory for the tensor it is, not for its value', async () => {
    let traces = 0
    const f = jit((x: Tensor) => {
      traces += 1
      return add(x, 1)
    })
    expect([await f(scalar(1)).item(), await f(scalar(2)).item(), await f(tensor(3)).item()]).toEqual([2, 3, 4])
    expect(traces).toBe(1)
  })

  test('notes a function that is traced again and again', () => {
    vi.stubEnv('PULLBACK_LOG', 'info')
    const write = vi.spyOn(process.stderr, 'write').mockReturnValue(true)
    const f = jit((x: Tensor, by: number) => mul(x, by), { label: 'scale' })
    const x = tensor(1)
    for (let by = 0; by < 12; by++) f(x, by)
    const notes = write.mock.calls.map(([text]) => String(text)).filter((text) => /traced \d+ times/.test(text))
    expect(notes).toEqual([expect.stringMatching(/^\[scale\] traced 9 times/)])
  })

  test('shows program and plan without running', () => {
    const f = jit((x: Tensor) => mul(add(x, 1), 2), { label: 'f' })
    expect(f.program(tensor([1, 2])).equations.map(({ primitive }) => primitive)).toEqual([
      'broadcast',
      'add',
      'broadcast',
      'mul',
    ])
    expect(f.plan(tensor([1, 2]))).toContain('add')
  })
})

describe('results', () => {
  test('are fresh tensors, also where they are inputs, repeated, numbers or no tensors at all', async () => {
    const f = jit((x: Tensor) => ({ x, again: [x, x], y: add(x, 1), zero: ops.zeros([]), name: 'n', none: undefined }))
    const x = tensor([1, 2])
    const r = f(x)
    const all = [r.x, ...r.again, r.y]
    expect(new Set([x, ...all]).size).toBe(5)
    x.dispose()
    r.x.dispose()
    expect(await Promise.all(r.again.map(numbers))).toEqual([
      [1, 2],
      [1, 2],
    ])
    expect([await r.zero.item(), r.name, r.none]).toEqual([0, 'n', undefined])
  })

  test('keep their values when the state they came with is donated to the next step', async () => {
    const step = jit(
      (s: { w: Tensor; n: Tensor }) => ({ state: { w: mul(s.w, 2), n: add(s.n, 1) }, loss: sum(s.w), seen: s.w }),
      { donate: [0] },
    )
    const a = step({ w: tensor([1, 2]), n: ops.zeros([], 'i32') })
    const b = step(a.state)
    expect([await a.loss.item(), await numbers(a.seen), await b.loss.item(), await numbers(b.seen)]).toEqual([
      3,
      [1, 2],
      6,
      [2, 4],
    ])
    expect([await numbers(b.state.w), await b.state.n.item()]).toEqual([[4, 8], 2])
  })
})

describe('donation', () => {
  const step = jit((s: { w: Tensor; v: Tensor }, x: Tensor) => ({ w: add(s.w, x), v: s.v }), {
    donate: [0],
    label: 'step',
  })

  test('gives the tensors up and says where', async () => {
    const s = { w: tensor([1]), v: tensor([2]) }
    const x = tensor([3])
    step(s, x)
    expect(await numbers(x)).toEqual([3])
    expect(failure(() => add(s.w, 1))).toMatch(/^donated: \[add\] this f32\[1\] was donated at .*autograd-jit.test.ts/)
    expect(failure(() => step(s, x))).toMatch(/^donated: \[step\]/)
  })

  test('refuses a tensor that is passed twice', () => {
    const t = tensor([1])
    expect(failure(() => step({ w: t, v: t }, tensor([1])))).toMatch(
      /^value: \[step\] expected each donated tensor once, got one f32\[1\] as '0.v' and '0.w'/,
    )
    expect(failure(() => step({ w: t, v: tensor([1]) }, t))).toMatch(/'0.w' and '1'/)
    const closes = jit((x: Tensor) => add(x, t), { donate: [0] })
    expect(failure(() => closes(t))).toMatch(/and a tensor the function closes over/)
    expect(t.toString()).toContain('[1]')
  })

  test('means nothing inside another transformation', async () => {
    const f = jit((x: Tensor) => mul(x, x), { donate: [0] })
    const x = tensor(3)
    expect([await grad(f)(x).item(), await x.item()]).toEqual([6, 3])
  })
})

describe('captured tensors', () => {
  test('are inputs of the program, not constants in it', async () => {
    const w = tensor([1, 2])
    const f = jit((x: Tensor) => mul(x, w), { label: 'f' })
    expect(await numbers(f(tensor([3, 4])))).toEqual([3, 8])
    expect(f.program(tensor([3, 4])).inputs.length).toBe(2)
    w.dispose()
    expect(failure(() => f(tensor([3, 4])))).toMatch(
      /^disposed: \[f, which closed over it\] this f32\[2\] was disposed at .*autograd-jit/,
    )
  })

  test('of an outer trace are simply part of it', async () => {
    const outer = (x: Tensor): Tensor => sum(jit((y: Tensor) => mul(x, y))(mul(x, 2)))
    expect(await grad(outer)(tensor(3)).item()).toBe(12)
    expect(await jit(grad(outer))(tensor(3)).item()).toBe(12)
  })
})

describe('mistakes', () => {
  test('a Promise, a value read, a value kept, a leaf that is neither tensor nor static', () => {
    const x = tensor([1])
    expect(failure(() => jit(async () => x)())).toMatch(/^trace: \[jit\(anonymous function\)\].*got a Promise/)
    expect(failure(() => jit((y: Tensor) => mul(y, Number(y)))(x))).toMatch(/^trace: /)
    let kept: Tensor | undefined
    jit((y: Tensor) => (kept = add(y, 1)), { label: 'step' })(x)
    expect(failure(() => add(kept ?? x, 1))).toMatch(/^trace: .*was traced by step, which has ended/)
    expect(failure(() => jit((y: unknown) => y as Tensor)({ a: [new Float32Array(1)] }))).toMatch(
      /^value: .*got Float32Array at '0.a.0'/,
    )
    expect(failure(() => jit((y: unknown) => y as Tensor)(() => x))).toMatch(/^value: .*got function at '0'/)
  })

  test('tensors of two devices', () => {
    const elsewhere = tensor([1], { device: referenceDevice() })
    expect(failure(() => jit((a: Tensor, b: Tensor) => add(a, b))(tensor([1]), elsewhere))).toMatch(/^device: /)
    expect(failure(() => jit((a: Tensor) => add(a, elsewhere))(tensor([1])))).toMatch(/^device: /)
    expect(failure(() => jit((a: Tensor) => add(a, 1), { device: referenceDevice() })(tensor([1])))).toMatch(
      /^device: .*expected arguments on/,
    )
  })
})

test('under autocast a jitted function has its own program', () => {
  const f = jit((a: Tensor, b: Tensor) => ops.matmul(a, b))
  const x = ops.ones([2, 2])
  expect([f(x, x).dtype, autocast(f, { compute: 'bf16' })(x, x).dtype, f(x, x).dtype]).toEqual(['f32', 'bf16', 'f32'])
})

test('calls of several kinds in turn each run their own program, and none is traced twice', async () => {
  let traces = 0
  const f = jit((x: { v: Tensor; by?: number }, y: Tensor) => {
    traces += 1
    return add(mul(x.v, x.by ?? 1), y)
  })
  const [pair, triple] = [tensor([1, 2]), tensor([1, 2, 3])]
  for (const _ of [1, 2]) {
    expect(await numbers(f({ v: pair }, pair))).toEqual([2, 4])
    expect(await numbers(f({ v: pair }, tensor([10, 20])))).toEqual([11, 22])
    expect(await numbers(f({ v: pair, by: 3 }, pair))).toEqual([4, 8])
    expect(await numbers(f({ v: pair, by: -0 }, pair))).toEqual([1, 2])
    expect(await numbers(f({ v: pair, by: 0 }, pair))).toEqual([1, 2])
    expect(await numbers(f({ v: triple, by: 0 }, triple))).toEqual([1, 2, 3])
    expect(await numbers(f({ v: scalar(2), by: 0 }, pair))).toEqual([1, 2])
  }
  expect(traces).toBe(6) // twice the first kind
  pair.dispose()
  expect(failure(() => f({ v: scalar(2), by: 0 }, pair))).toMatch(/^disposed: .*was disposed/)
})

test('a call like the one before goes to the device that its tensors are on', async () => {
  const f = jit((x: Tensor) => add(x, 1))
  const here = tensor([1])
  expect(await numbers(f(here))).toEqual([2])
  const before = setDefaultDevice(referenceDevice())
  const there = tensor([5])
  const { device } = storageOf(f(there), 'test')
  expect(device).toBe(storageOf(there, 'test').device)
  expect(device).not.toBe(storageOf(f(here), 'test').device)
  expect(await numbers(f(here))).toEqual([2])
  if (before !== undefined) setDefaultDevice(before)
})

test('a state of any structure goes around without being traced again, and looks as it was returned', async () => {
  let traces = 0
  type State = Readonly<Record<string, unknown>>
  const bump = (node: unknown): unknown => {
    if (Array.isArray(node)) return node.map(bump)
    if (typeof node !== 'object' || node === null) return node
    if ('dtype' in node) return add(node as Tensor, 1)
    return Object.fromEntries(Object.entries(node).map(([key, child]) => [key, bump(child)]))
  }
  const step = jit(
    (state: State) => {
      traces += 1
      return bump(state) as State
    },
    { donate: [0] },
  )
  const odd = JSON.parse('{"__proto__": {}, "10": {}, "2": {}, "b": {}, "": [], "none": null, "a.b": {}}') as State
  const start: State = {
    ...odd,
    10: tensor(1),
    2: [tensor(2), {}, []],
    b: { w: tensor(3), name: 'b', by: -0 },
    'a.b': {},
  }
  const show = async (node: unknown): Promise<unknown> => {
    if (Array.isArray(node)) return Promise.all(node.map(show))
    if (typeof node !== 'object' || node === null) return node
    if ('dtype' in node) return (node as Tensor).item()
    return Promise.all(Object.entries(node).map(async ([key, child]) => [key, await show(child)]))
  }
  let state = start
  for (let count = 0; count < 4; count++) state = step(state)
  expect(traces).toBe(1)
  expect(await show(state)).toEqual([
    ['2', [6, [], []]],
    ['10', 5],
    ['', []],
    ['__proto__', []],
    ['a.b', []],
    [
      'b',
      [
        ['by', -0],
        ['name', 'b'],
        ['w', 7],
      ],
    ],
    ['none', null],
  ])
  expect(Object.getPrototypeOf(state)).toBe(Object.prototype)
  expect(JSON.stringify(Object.keys({ ...state }))).toBe('["2","10","","__proto__","a.b","b","none"]')
})

test('a tensor may be in two places where it is not donated, at calls of a kind that was seen before too', async () => {
  const f = jit((pair: { a: Tensor; b: Tensor }) => add(mul(pair.a, 10), pair.b))
  const [x, y] = [tensor([1]), tensor([2])]
  const calls = [f({ a: x, b: y }), f({ a: x, b: x }), f({ a: y, b: y }), f({ b: x, a: y })]
  expect(await Promise.all(calls.map(numbers))).toEqual([[12], [11], [22], [21]])
})

test('a place of an array that was never filled is told from one that is, and so is a key that is not enumerable', async () => {
  const f = jit(([a, b]: readonly (Tensor | undefined)[]) => (a === undefined ? mul(b!, 1) : add(a, b!)))
  const sparse: Tensor[] = []
  sparse[1] = tensor([1])
  expect(await numbers(f(sparse))).toEqual([1])
  expect(await numbers(f([tensor([10]), tensor([1])]))).toEqual([11])
  const g = jit(({ a, b }: { a: Tensor; b?: Tensor }) => (b === undefined ? mul(a, 1) : add(a, b)))
  expect(await numbers(g({ a: tensor([1]), b: tensor([2]) }))).toEqual([3])
  const hidden = Object.defineProperty({ a: tensor([1]), c: tensor([3]) }, 'b', { value: tensor([2]) })
  expect(await numbers(g(hidden))).toEqual([1])
})

test('a donated tensor in two places is found at calls of a kind that was seen before too', () => {
  const step = jit((s: { w: Tensor; v: Tensor }) => ({ w: add(s.w, 1), v: add(s.v, 1) }), {
    donate: [0],
    label: 'step',
  })
  const state = step(step({ w: tensor([1]), v: tensor([2]) }))
  const twice = { w: state.w, v: state.w }
  for (const _ of [1, 2]) expect(failure(() => step(twice))).toMatch(/^value: .*got one f32\[1\] as '0.v' and '0.w'/)
  expect(step(state).w.dtype).toBe('f32') // what was refused was not given up
})
