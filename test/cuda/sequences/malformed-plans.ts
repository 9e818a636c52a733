// Malformed sequences from a graph to its execution: devices, heuristics, engines, configurations, plans, variant packs.
import { beforeFinalize, changed, finalizedLate, retyped, unfinalized, without } from './edits.ts'
import { fusedSteps, h200, planned } from './graphs.ts'
import { descriptor, device, engine, heuristics, operationGraph, plan, variantPack } from './parts.ts'
import type { Malformed, Step } from './sequence.ts'

const properties = device('device', h200)
const json = (text: string): readonly number[] => [...new TextEncoder().encode(text)]

const devices: readonly Malformed[] = [
  { name: 'a device that is no JSON', steps: device('device', '{') },
  { name: 'a device of an empty object', steps: device('device', '{}') },
  { name: 'a device of a list', steps: device('device', '[1, 2]') },
  { name: 'a device without its architecture', steps: device('device', h200.replace('deviceVer', 'version')) },
  { name: 'a device without its caches', steps: device('device', h200.replace('l2CacheSize', 'cache')) },
  { name: 'a device where there is none', steps: descriptor('device', 'DEVICEPROP', []) },
  { name: 'a device finalized twice', steps: [...properties, ['finalize', 'device']] },
  {
    name: 'a device read into too little',
    steps: [...properties, ['get', 'device', 'DEVICEPROP_JSON_REPRESENTATION', 'CHAR', 10]],
  },
]

const plain = fusedSteps({ direction: 'FORWARD', parts: [] })
const whole = [...plain, ...planned(['conv'])]

const proposals: readonly Malformed[] = [
  { name: 'heuristics of no graph', steps: without(whole, 'heuristics', 'ENGINEHEUR_OPERATION_GRAPH') },
  { name: 'heuristics without a mode', steps: without(whole, 'heuristics', 'ENGINEHEUR_MODE') },
  { name: 'heuristics without a device', steps: without(whole, 'heuristics', 'ENGINEHEUR_DEVICEPROP') },
  {
    name: 'heuristics of two graphs',
    steps: changed(whole, 'heuristics', 'ENGINEHEUR_OPERATION_GRAPH', ['graph', 'graph']),
  },
  {
    name: 'heuristics of two devices',
    steps: changed(whole, 'heuristics', 'ENGINEHEUR_DEVICEPROP', ['device', 'device']),
  },
  { name: 'heuristics in two modes', steps: changed(whole, 'heuristics', 'ENGINEHEUR_MODE', [3, 3]) },
  { name: 'heuristics in a mode there is not', steps: changed(whole, 'heuristics', 'ENGINEHEUR_MODE', [4]) },
  { name: 'heuristics mode as INT32', steps: retyped(whole, 'heuristics', 'ENGINEHEUR_MODE', 'INT32') },
  { name: 'a graph as a number', steps: retyped(whole, 'heuristics', 'ENGINEHEUR_OPERATION_GRAPH', 'INT64', [1]) },
  { name: 'heuristics of a graph not finalized', steps: unfinalized(whole, 'graph') },
  { name: 'heuristics of a graph finalized late', steps: finalizedLate(whole, 'graph', 'heuristics') },
  { name: 'heuristics for a device not finalized', steps: unfinalized(whole, 'device') },
  { name: 'heuristics not finalized', steps: unfinalized(whole, 'heuristics') },
  { name: 'heuristics finalized twice', steps: [...whole, ['finalize', 'heuristics']] },
  {
    name: 'heuristics set after finalize',
    steps: [...whole, ['set', 'heuristics', 'ENGINEHEUR_MODE', 'HEUR_MODE', [3]]],
  },
  { name: 'proposals as numbers', steps: [...whole, ['count', 'heuristics', 'ENGINEHEUR_RESULTS', 'INT64']] },
  {
    name: 'proposals set',
    steps: beforeFinalize(whole, 'heuristics', [
      'set',
      'heuristics',
      'ENGINEHEUR_RESULTS',
      'BACKEND_DESCRIPTOR',
      ['graph'],
    ]),
  },
]

const known: readonly Step[] = [...plain, ...operationGraph('graph', ['conv']), ...properties]
const configured: readonly Step[] = [
  ...known,
  ...engine('engine', 'graph', 'device', 0),
  ...descriptor('configuration', 'ENGINECFG', [
    ['set', 'configuration', 'ENGINECFG_ENGINE', 'BACKEND_DESCRIPTOR', ['engine']],
  ]),
]

const engines: readonly Malformed[] = [
  { name: 'an engine there is not', steps: changed(configured, 'engine', 'ENGINE_GLOBAL_INDEX', [9999]) },
  { name: 'an engine below 0', steps: changed(configured, 'engine', 'ENGINE_GLOBAL_INDEX', [-1]) },
  { name: 'an engine without a number', steps: without(configured, 'engine', 'ENGINE_GLOBAL_INDEX') },
  { name: 'an engine of no graph', steps: without(configured, 'engine', 'ENGINE_OPERATION_GRAPH') },
  { name: 'an engine for no device', steps: without(configured, 'engine', 'ENGINE_DEVICEPROP') },
  {
    name: 'an engine of two graphs',
    steps: changed(configured, 'engine', 'ENGINE_OPERATION_GRAPH', ['graph', 'graph']),
  },
  { name: "an engine's number as DOUBLE", steps: retyped(configured, 'engine', 'ENGINE_GLOBAL_INDEX', 'DOUBLE') },
  { name: "an engine's number twice", steps: changed(configured, 'engine', 'ENGINE_GLOBAL_INDEX', [0, 0]) },
  { name: "an engine's graph not finalized", steps: unfinalized(configured, 'graph') },
  { name: "an engine's device not finalized", steps: unfinalized(configured, 'device') },
  { name: 'an engine not finalized', steps: unfinalized(configured, 'engine') },
  { name: 'an engine finalized twice', steps: [...configured, ['finalize', 'engine']] },
  {
    name: "an engine's notes set",
    steps: beforeFinalize(configured, 'engine', ['set', 'engine', 'ENGINE_NUMERICAL_NOTE', 'NUMERICAL_NOTE', [0]]),
  },
  {
    name: "an engine's notes as others",
    steps: [...configured, ['get', 'engine', 'ENGINE_NUMERICAL_NOTE', 'BEHAVIOR_NOTE', 8]],
  },
  { name: 'a configuration finalized twice', steps: [...configured, ['finalize', 'configuration']] },
  {
    name: 'the scratch memory of a configuration set',
    steps: beforeFinalize(configured, 'configuration', [
      'set',
      'configuration',
      'ENGINECFG_WORKSPACE_SIZE',
      'INT64',
      [0],
    ]),
  },
  {
    name: 'the engine of a configuration as a number',
    steps: [...configured, ['get', 'configuration', 'ENGINECFG_ENGINE', 'INT64', 1]],
  },
]

/** A configuration of the heuristics, and a plan of it. */
const proposed: readonly Step[] = [
  ...known,
  ...heuristics('heuristics', 'graph', 'device'),
  ['create', 'configuration', 'ENGINECFG'],
  ['read', 'heuristics', 'ENGINEHEUR_RESULTS', ['configuration']],
]
const finished: readonly Step[] = [...proposed, ...plan('plan', 'configuration', 'device')]

/** A plan from a text. */
const written = (text: string): readonly Step[] => [
  ...properties,
  ...descriptor('plan', 'EXECUTION_PLAN', [
    ['set', 'plan', 'EXECUTION_PLAN_DEVICEPROP', 'BACKEND_DESCRIPTOR', ['device']],
    ['set', 'plan', 'EXECUTION_PLAN_JSON_REPRESENTATION', 'CHAR', json(`${text}\0`)],
  ]),
]

const plans: readonly Malformed[] = [
  { name: 'a proposed configuration finalized', steps: [...proposed, ['finalize', 'configuration']] },
  { name: 'a plan finalized twice', steps: [...finished, ['finalize', 'plan']] },
  {
    name: 'a plan set after finalize',
    steps: [...finished, ['set', 'plan', 'EXECUTION_PLAN_ENGINE_CONFIG', 'BACKEND_DESCRIPTOR', ['configuration']]],
  },
  {
    name: 'the scratch memory of a plan set',
    steps: beforeFinalize(finished, 'plan', ['set', 'plan', 'EXECUTION_PLAN_WORKSPACE_SIZE', 'INT64', [1]]),
  },
  {
    name: 'the scratch memory of a plan before finalize',
    steps: beforeFinalize(finished, 'plan', ['get', 'plan', 'EXECUTION_PLAN_WORKSPACE_SIZE', 'INT64', 1]),
  },
  {
    name: 'the scratch memory of a plan as INT32',
    steps: [...finished, ['get', 'plan', 'EXECUTION_PLAN_WORKSPACE_SIZE', 'INT32', 1]],
  },
  {
    name: 'the text of a plan into too little',
    steps: [...finished, ['get', 'plan', 'EXECUTION_PLAN_JSON_REPRESENTATION', 'CHAR', 20]],
  },
  {
    name: 'a plan for two devices',
    steps: beforeFinalize(finished, 'plan', [
      'set',
      'plan',
      'EXECUTION_PLAN_DEVICEPROP',
      'BACKEND_DESCRIPTOR',
      ['device', 'device'],
    ]),
  },
  {
    name: 'a plan of a configuration not finalized',
    steps: [...unfinalized(configured, 'configuration'), ...plan('plan', 'configuration', 'device')],
  },
  { name: 'a plan of other JSON', steps: written('{"a":1}') },
  { name: 'a plan of no JSON', steps: written('a plan') },
  {
    name: 'two engines of one configuration',
    steps: [
      ...proposed,
      ['create', 'one', 'ENGINE'],
      ['create', 'two', 'ENGINE'],
      ['read', 'configuration', 'ENGINECFG_ENGINE', ['one', 'two']],
    ],
  },
  {
    name: 'an engine read into a tensor',
    steps: [...proposed, ['create', 'one', 'TENSOR'], ['read', 'configuration', 'ENGINECFG_ENGINE', ['one']]],
  },
]

const pack = variantPack('pack', [1, 2, 3], [4096, 8192, 16384])

const packs: readonly Malformed[] = [
  { name: 'a pack without addresses', steps: without(pack, 'pack', 'VARIANT_PACK_DATA_POINTERS') },
  { name: 'a pack without identifiers', steps: without(pack, 'pack', 'VARIANT_PACK_UNIQUE_IDS') },
  { name: 'more identifiers than addresses', steps: changed(pack, 'pack', 'VARIANT_PACK_UNIQUE_IDS', [1, 2, 3, 4]) },
  { name: 'more addresses than identifiers', steps: changed(pack, 'pack', 'VARIANT_PACK_UNIQUE_IDS', [1, 2]) },
  { name: 'addresses as INT64', steps: retyped(pack, 'pack', 'VARIANT_PACK_DATA_POINTERS', 'INT64') },
  { name: 'identifiers as addresses', steps: retyped(pack, 'pack', 'VARIANT_PACK_UNIQUE_IDS', 'VOID_PTR') },
  { name: 'two scratch memories', steps: changed(pack, 'pack', 'VARIANT_PACK_WORKSPACE', [4096, 8192]) },
  { name: 'scratch memory as INT64', steps: retyped(pack, 'pack', 'VARIANT_PACK_WORKSPACE', 'INT64') },
  { name: 'a pack finalized twice', steps: [...pack, ['finalize', 'pack']] },
  {
    name: 'a pack set after finalize',
    steps: [...pack, ['set', 'pack', 'VARIANT_PACK_UNIQUE_IDS', 'INT64', [1, 2, 3]]],
  },
  {
    name: 'a pack counted before finalize',
    steps: beforeFinalize(pack, 'pack', ['count', 'pack', 'VARIANT_PACK_UNIQUE_IDS', 'INT64']),
  },
  { name: 'identifiers read from a pack', steps: [...pack, ['get', 'pack', 'VARIANT_PACK_UNIQUE_IDS', 'INT64', 3]] },
]

/** Malformed devices, heuristics, engines, plans and variant packs. */
export const malformedPlans: readonly Malformed[] = [...devices, ...proposals, ...engines, ...plans, ...packs]
