// A contraction that was found with the kernels behind it, as a group of a plan: its way in terms of the group's own values.
import { type KernelStep, epilogueAlone } from '../../compile/index.ts'
import { at } from '../../tensor/shape.ts'
import type { Contraction } from '../kernels/index.ts'
import type { Wire, WiredKernel } from '../wires.ts'
import type { FusedWay, WiredActivation } from './fusion.ts'
import type { Group } from './group.ts'
import type { Activation } from './masks.ts'
import type { Found } from './recognize.ts'

/** What was found, as a group. */
export function contractionGroup(found: Found): Group {
  const { library, before = [], kernels, members, way } = found
  const wiredBy = (wire: (buffer: number) => Wire) => (step: KernelStep) => ({
    kernel: step.kernel,
    wires: [...step.inputs, ...step.outputs].map(wire),
  })
  return {
    members,
    steps: [...before, library, ...kernels],
    behind: [],
    known: sumsOf(way), // by these its ways are told apart
    label: `${library.label} with ${way.kind}`,
    fused: ({ inputs, outputs, inside, wire }) => ({
      kind: 'contraction',
      contraction: {
        equation: library.equation as Contraction,
        wires: [...library.inputs, ...library.outputs].map(wire),
      },
      ...{ before: before.map(wiredBy(wire)), kernels: kernels.map(wiredBy(wire)) },
      ...{ inputs, outputs, inside },
      way: wiredWay(found, wire),
    }),
  }
}

function wiredWay({ way, kernels }: Found, wire: (buffer: number) => Wire): FusedWay {
  const kernel = at(kernels, 0)
  switch (way.kind) {
    case 'statistics': {
      const { kind, sum, squares, of } = way
      const front = way.front && wiredActivation(way.front, wire)
      return { kind, sum: wire(sum), squares: wire(squares), last: wiredLast(of, wire), front }
    }
    case 'masked':
      return { ...wiredActivation(way, wire), kind: 'masked', sum: wire(way.sum), products: wire(way.products) }
    case 'product': {
      const { kind, epilogue, bias } = way
      return { kind, epilogue, bias: wire(bias), result: wire(at(kernel.outputs, 0)) }
    }
    case 'chain': {
      const { epilogue, inputs, output } = way.chain
      const store = wire(at(kernel.outputs, output))
      const operands = inputs.map((input) => wire(at(kernel.inputs, input)))
      return { kind: 'chain', epilogue, operands, store, rest: wiredRest(way.chain, kernel, wire) }
    }
    default:
      return way satisfies never
  }
}

function wiredActivation(
  { source, vectors: [mean, scale, shift], meanFactor }: Activation,
  wire: (buffer: number) => Wire,
): WiredActivation {
  return { source: wire(source), vectors: [wire(mean), wire(scale), wire(shift)], meanFactor }
}

function sumsOf(way: Found['way']): readonly number[] {
  if (way.kind === 'statistics') return [way.sum, way.squares]
  return way.kind === 'masked' ? [way.sum, way.products] : []
}

/** The epilogue of a step as a kernel of its own. */
function wiredLast({ kernel, inputs, outputs }: KernelStep, wire: (buffer: number) => Wire): WiredKernel | undefined {
  const alone = epilogueAlone(kernel)
  if (alone === undefined) return undefined
  const operands = [...inputs, ...outputs]
  return {
    kernel: alone.kernel,
    wires: [...alone.operands.map((operand) => at(operands, operand)), ...outputs].map(wire),
  }
}

function wiredRest(
  { rest, output }: Extract<Found['way'], { kind: 'chain' }>['chain'],
  kernel: KernelStep,
  wire: (buffer: number) => Wire,
): WiredKernel | undefined {
  if (rest === undefined) return undefined
  const inputs = rest.inputs.map((input) =>
    at(input === 'stored' ? kernel.outputs : kernel.inputs, input === 'stored' ? output : input),
  )
  return { kernel: rest.kernel, wires: [...inputs, ...rest.outputs.map((made) => at(kernel.outputs, made))].map(wire) }
}
