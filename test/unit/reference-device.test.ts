// The reference device as a Device: results are storage of their own, memory is counted, donation and release take
// effect, and any use afterwards is a fault that says so.
import { beforeEach, describe, expect, test } from 'vitest'
import type { CompileOptions, Device, Storage } from '../../src/tensor/device.ts'
import type { DType } from '../../src/tensor/dtype.ts'
import { InternalError } from '../../src/tensor/errors.ts'
import { encode } from '../../src/tensor/half.ts'
import { type Equation, type Program, literal, variable } from '../../src/tensor/program.ts'
import { referenceDevice } from '../../src/tensor/reference/device.ts'
import { interpret } from '../../src/tensor/reference/interpreter.ts'
import { value } from './reference-run.ts'

const type = { shape: [3], dtype: 'f32' } as const
const [a, b, sum, doubled] = [variable(type), variable(type), variable(type), variable(type)]
const add = { primitive: 'add', inputs: [a, b], params: {}, outputs: [sum] } as const satisfies Equation
const twice = { primitive: 'add', inputs: [sum, sum], params: {}, outputs: [doubled] } as const satisfies Equation
const program: Program = { inputs: [a, b], equations: [add, twice], outputs: [doubled, sum] }
const options: CompileOptions = { optimize: 'none', donate: [], label: 'test' }

let device: Device
let put: (dtype: DType, ...data: readonly number[]) => Storage

beforeEach(() => {
  device = referenceDevice()
  put = (dtype, ...data) => device.upload(encode(dtype, data), { shape: [data.length], dtype })
})

const read = (storage: Storage | undefined): number[] => [...storage!.device.readSync(storage!)]

describe('running', () => {
  test('gives the outputs in order and leaves the inputs alone', () => {
    const inputs = [put('f32', 1, 2, 3), put('f32', 10, 20, 30)]
    const outputs = device.compile(program, options).run(inputs)
    expect(outputs.map(read)).toEqual([
      [22, 44, 66],
      [11, 22, 33],
    ])
    expect(inputs.map(read)).toEqual([
      [1, 2, 3],
      [10, 20, 30],
    ])
    expect(outputs.map((output) => output.type)).toEqual([type, type])
  })

  test('an input that is an output, an output given twice and a literal are all storage of their own', () => {
    const executable = device.compile({ inputs: [a], equations: [], outputs: [a, a, literal(0.1, 'f16')] }, options)
    const input = put('f32', 1, 2, 3)
    const outputs = executable.run([input])
    for (const output of outputs.slice(0, 2)) device.release(output)
    expect(read(input)).toEqual([1, 2, 3])
    expect(read(outputs[2])).toEqual([...encode('f16', [0.1])])
  })

  test('one storage may be several inputs', () => {
    const input = put('f32', 1, 2, 3)
    expect(read(device.compile(program, options).run([input, input])[0])).toEqual([4, 8, 12])
  })

  test('prints the program', () => {
    expect(String(device.compile(program, options))).toBe(
      ['{ a:f32[3] b:f32[3] ->', '  c:f32[3] = add a b', '  d:f32[3] = add c c', '  -> d c }'].join('\n'),
    )
  })

  test('a program within a program means what it says', () => {
    const [x, y] = [variable(type), variable(type)]
    const inner: Equation = {
      primitive: 'call',
      inputs: [x, x],
      params: { program, rule: { kind: 'checkpoint' } },
      outputs: [y, variable(type)],
    }
    const results = interpret({ inputs: [x], equations: [inner], outputs: [y, x] }, [value('f32', [3], [1, 2, 3])])
    expect(results.map(({ data }) => [...data])).toEqual([
      [4, 8, 12],
      [1, 2, 3],
    ])
  })
})

describe('storage', () => {
  test('uploading and reading copy', async () => {
    const data = Float32Array.of(1, 2, 3)
    const storage = device.upload(data, type)
    data.fill(0)
    const first = device.readSync(storage)
    first.fill(9)
    expect(await device.read(storage)).toEqual(Float32Array.of(1, 2, 3))
  })

  test('memory is counted in bytes, the peak stays', () => {
    const [x, y] = [put('f32', 1, 2, 3), put('f16', 1, 2, 3)]
    expect(device.memory()).toEqual({ inUse: 18, peak: 18, cached: 0 })
    device.release(x)
    expect(device.memory()).toEqual({ inUse: 6, peak: 18, cached: 0 })
    device.release(y)
    expect(device.memory().inUse).toBe(0)
  })

  test('a donated input is gone after the run, and its bytes with it', () => {
    const inputs = [put('f32', 1, 2, 3), put('f32', 1, 1, 1)]
    const outputs = device.compile(program, { ...options, donate: [0] }).run(inputs)
    expect(device.memory().inUse).toBe(3 * 12)
    expect(read(outputs[1])).toEqual([2, 3, 4])
    expect(() => device.readSync(inputs[0]!)).toThrow('internal: read of a f32[3] that was donated')
    expect(() => device.release(inputs[0]!)).toThrow('internal: a f32[3] is released after it was donated')
    expect(read(inputs[1])).toEqual([1, 1, 1])
  })
})

describe('faults', () => {
  const fault = (body: () => unknown, message: string): void => {
    expect(body).toThrow(InternalError)
    expect(body).toThrow(message)
  }

  test('released storage cannot be read, released again, or run on', async () => {
    const storage = put('f32', 1, 2, 3)
    device.release(storage)
    fault(() => device.readSync(storage), 'read of a f32[3] that was released')
    fault(() => device.release(storage), 'released after it was released')
    const run = device.compile(program, options)
    fault(() => run.run([put('f32', 1, 2, 3), storage]), 'input 1 of test of a f32[3] that was released')
    await expect(device.read(storage)).rejects.toThrow(InternalError)
  })

  test('a donated storage that is another input too', () => {
    const storage = put('f32', 1, 2, 3)
    fault(
      () => device.compile(program, { ...options, donate: [0] }).run([storage, storage]),
      'test takes a donated f32[3] more than once',
    )
  })

  test('inputs that do not fit the program', () => {
    const executable = device.compile(program, options)
    fault(() => executable.run([put('f32', 1, 2, 3)]), 'test takes 2 inputs, got 1')
    fault(() => executable.run([put('f32', 1, 2, 3), put('i32', 1, 2, 3)]), 'test takes f32[3] as input 1, got i32[3]')
    fault(() => executable.run([put('f32', 1, 2, 3), put('f32', 1, 2)]), 'test takes f32[3] as input 1, got f32[2]')
  })

  test('storage of another device, arrays of another type, a released executable, a closed device', async () => {
    const other = referenceDevice().upload(new Float32Array(3), type)
    fault(() => device.readSync(other), 'another device')
    fault(() => device.upload(new Float64Array(3), type), 'upload of a Float64Array with 3 elements as f32[3]')
    fault(() => device.upload(new Float32Array(2), type), 'upload of a Float32Array with 2 elements as f32[3]')
    const executable = device.compile(program, options)
    const storage = put('f32', 1, 2, 3)
    executable.release()
    fault(() => executable.run([storage, storage]), 'test runs after its executable was released')
    await device.close()
    device.release(storage) // as the garbage collector may, at any time
    fault(() => device.readSync(storage), 'closed')
    fault(() => put('f32', 1), 'closed')
  })

  test('programs that are no programs', () => {
    const wrong: Equation = { ...add, outputs: [variable({ shape: [3], dtype: 'f16' })] }
    fault(
      () => device.compile({ ...program, equations: [wrong], outputs: [] }, options),
      'should give f32[3], is declared as f16[3]',
    )
    fault(
      () => device.compile({ ...program, equations: [twice, add] }, options),
      'equation 0 (add) uses a variable before its definition',
    )
    fault(() => device.compile({ ...program, equations: [add, add] }, options), 'defines a variable twice')
    fault(() => device.compile({ ...program, equations: [add] }, options), 'an output is never defined')
  })
})
