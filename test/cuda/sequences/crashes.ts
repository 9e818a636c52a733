// Sequences that the real cuDNN 9.24 does not survive (it reads what is not there), so that no status can be recorded. The
// simulation must refuse each of them somewhere. Never play these on the real library.
import { changed, retyped, unfinalized, without } from './edits.ts'
import { fusedSteps, h200, planned } from './graphs.ts'
import { descriptor, device, heuristics, operationGraph, plan, pointwise, tensor } from './parts.ts'
import type { Sequence, Step } from './sequence.ts'

const plain = fusedSteps({ direction: 'FORWARD', parts: [] })
const known: readonly Step[] = [...plain, ...operationGraph('graph', ['conv']), ...device('device', h200)]
const finished: readonly Step[] = [
  ...known,
  ...heuristics('heuristics', 'graph', 'device'),
  ['create', 'configuration', 'ENGINECFG'],
  ['read', 'heuristics', 'ENGINEHEUR_RESULTS', ['configuration']],
  ...plan('plan', 'configuration', 'device'),
]

/** What crashes the real one. */
export const crashes: readonly Sequence[] = [
  { name: 'a data type there is not', steps: tensor('x', { dims: [8, 64, 14, 14], uid: 1 }).map(withType(99)) },
  { name: 'a negative data type', steps: tensor('x', { dims: [8, 64, 14, 14], uid: 1 }).map(withType(-1)) },
  {
    name: 'a convolution as a tensor',
    steps: changed(plain, 'conv', 'OPERATION_CONVOLUTION_FORWARD_X', ['convolution']),
  },
  {
    name: 'a tensor as a convolution',
    steps: changed(plain, 'conv', 'OPERATION_CONVOLUTION_FORWARD_CONV_DESC', ['x']),
  },
  { name: 'a tensor as an operation', steps: [...plain, ...operationGraph('graph', ['x'])] },
  {
    name: 'a pointwise mode there is not',
    steps: [
      ...changed(
        [
          ...tensor('x', { dims: [8, 64, 14, 14], uid: 1 }),
          ...tensor('b', { dims: [1, 64, 1, 1], uid: 2 }),
          ...tensor('y', { dims: [8, 64, 14, 14], uid: 3 }),
          ...pointwise('p', 'ADD', ['x', 'b'], 'y'),
        ],
        'p.mode',
        'POINTWISE_MODE',
        [9999],
      ),
      ...planned(['p']),
    ],
  },
  { name: 'a plan of nothing', steps: without(finished, 'plan', 'EXECUTION_PLAN_ENGINE_CONFIG') },
  { name: 'a plan of a number', steps: retyped(finished, 'plan', 'EXECUTION_PLAN_ENGINE_CONFIG', 'INT64', [1]) },
  {
    name: 'a plan of two configurations',
    steps: changed(finished, 'plan', 'EXECUTION_PLAN_ENGINE_CONFIG', ['configuration', 'configuration']),
  },
  {
    name: 'a plan of an empty configuration',
    steps: [...known, ['create', 'configuration', 'ENGINECFG'], ...plan('plan', 'configuration', 'device')],
  },
  { name: 'a plan for a device not finalized', steps: unfinalized(finished, 'device') },
  {
    name: 'a configuration of no engine',
    steps: descriptor('configuration', 'ENGINECFG', []),
  },
  {
    name: 'the engine of an empty configuration',
    steps: [
      ['create', 'configuration', 'ENGINECFG'],
      ['create', 'engine', 'ENGINE'],
      ['read', 'configuration', 'ENGINECFG_ENGINE', ['engine']],
    ],
  },
  {
    name: 'a plan of a device alone',
    steps: [
      ...device('device', h200),
      ...descriptor('plan', 'EXECUTION_PLAN', [
        ['set', 'plan', 'EXECUTION_PLAN_DEVICEPROP', 'BACKEND_DESCRIPTOR', ['device']],
      ]),
    ],
  },
]

function withType(number: number): (step: Step) => Step {
  return (step) => (step[0] === 'set' && step[3] === 'DATA_TYPE' ? ['set', step[1], step[2], step[3], [number]] : step)
}
