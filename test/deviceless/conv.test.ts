// Convolutions of every kind asked of the real cuDNN for an H200: plans exist, carry no refused note, and are made again from
// their recipes; damaged and foreign recipes are refused. Nothing is executed.
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { DescriptorScope } from '../../src/cuda/conv/descriptors.ts'
import { describe as describeConfiguration, proposals, refusal } from '../../src/cuda/conv/engines.ts'
import { buildGraph, convGraph } from '../../src/cuda/conv/graph.ts'
import {
  type ConvProblem,
  type CudnnSession,
  convFromRecipe,
  defaultWorkspaceBytes,
  propertiesSession,
  showProblem,
} from '../../src/cuda/conv/index.ts'
import { absent } from '../cuda/wheels.ts'
import { first, plain } from './conv-samples.ts'
import { findLibraries, h200Properties, h200Session } from './libraries.ts'

const libraries = findLibraries()
const missing = libraries.cudnn === undefined
if (missing) absent('convolutions are not planned by cuDNN, because there is none')

const kinds: Readonly<Record<string, Partial<ConvProblem>>> = {
  'dense 3x3': {},
  'dense 1x1': {
    filter: [128, 1, 1, 128],
    padding: [
      [0, 0],
      [0, 0],
    ],
  },
  'groups of 4': { filter: [128, 3, 3, 4], groups: 32 },
  'groups of 4, stride 2': { filter: [128, 3, 3, 4], groups: 32, stride: [2, 2], output: [32, 14, 14, 128] },
  'dense 1x1, stride 2': {
    filter: [128, 1, 1, 128],
    padding: [
      [0, 0],
      [0, 0],
    ],
    stride: [2, 2],
    output: [32, 14, 14, 128],
  },
  'padding on one side': {
    padding: [
      [0, 1],
      [0, 1],
    ],
    stride: [2, 2],
    output: [32, 14, 14, 128],
  },
  dilation: {
    dilation: [2, 2],
    padding: [
      [2, 2],
      [2, 2],
    ],
  },
  'odd channels': { input: [3, 9, 7, 5], filter: [7, 3, 3, 5], output: [3, 9, 7, 7] },
}
const directions = ['conv2d', 'conv2dInputGrad', 'conv2dFilterGrad'] as const
const numbers = [
  ['f16', 'tf32'],
  ['bf16', 'tf32'],
  ['f32', 'tf32'],
  ['f32', 'ieee'],
] as const

describe.skipIf(missing)('cuDNN, for an H200', () => {
  let session: CudnnSession
  beforeAll(() => {
    session = h200Session(libraries)
  })
  afterAll(() => session.release())

  test.each(Object.keys(kinds))('plans %s in every direction and dtype', (kind) => {
    for (const direction of directions)
      for (const [dtype, precision] of numbers) {
        const problem: ConvProblem = { ...plain, ...kinds[kind], direction, dtype, precision }
        const refused = new Set(
          configurations(session, problem).flatMap(([id, why]) => (why === undefined ? [] : [id])),
        )
        const ids = new Set<string>()
        for (const candidate of first(session, problem, 8)) {
          expect(refused.has(candidate.id)).toBe(false)
          ids.add(candidate.id)
          const again = convFromRecipe(session, problem, candidate.recipe ?? '')
          expect([again?.id, again?.scratchBytes]).toEqual([candidate.id, candidate.scratchBytes])
          again?.release?.()
          candidate.release?.()
        }
        expect(ids.size, showProblem(problem)).toBeGreaterThan(0)
        if (precision === 'ieee') expect(refused.size, showProblem(problem)).toBeGreaterThan(0)
      }
  })

  test('plans the stem with 3, 4 and 8 channels', () => {
    const rows = [3, 4, 8].flatMap((channels) =>
      directions.flatMap((direction) =>
        numbers.slice(0, 3).map(([dtype, precision]) => {
          const problem: ConvProblem = {
            ...{
              ...plain,
              direction,
              dtype,
              precision,
              stride: [2, 2],
              padding: [
                [3, 3],
                [3, 3],
              ],
            },
            ...{ input: [256, 224, 224, channels], filter: [64, 7, 7, channels], output: [256, 112, 112, 64] },
          }
          const proposed = configurations(session, problem)
          const left = proposed.filter(([, why]) => why === undefined).length
          const [candidate] = first(session, problem, 1)
          candidate?.release?.()
          expect(candidate?.scratchBytes).toBeLessThanOrEqual(defaultWorkspaceBytes)
          const choice = `${candidate?.id}, ${((candidate?.scratchBytes ?? 0) / 1e6).toFixed(1)} MB`
          return `  ${showProblem(problem)}: ${left} of ${proposed.length} left, first ${choice}`
        }),
      ),
    )
    console.log(['the stem', ...rows].join('\n'))
  })

  test('refuses recipes that are damaged, of another version or of another GPU', () => {
    const [candidate] = first(session, plain, 1)
    const recipe = JSON.parse(candidate?.recipe ?? '') as { readonly plan: string }
    const changed = (from: RegExp, to: string): string => {
      expect(recipe.plan).toMatch(from)
      return JSON.stringify({ ...recipe, plan: recipe.plan.replace(from, to) })
    }
    const damaged = [
      JSON.stringify({ ...recipe, plan: recipe.plan.slice(0, -9) }),
      JSON.stringify({ ...recipe, plan: '{}' }),
      changed(/"cudnnVersion":\d+/, '"cudnnVersion":90000'),
      changed(/"engineId":\d+/, '"engineId":9999'),
      changed(/"multiProcessorCount":\d+/, '"multiProcessorCount":7'),
    ]
    for (const text of damaged) expect(convFromRecipe(session, plain, text)).toBeUndefined()
    candidate?.release?.()
  })

  test('refuses on one GPU the plan of another', () => {
    if (libraries.cudnn === undefined) throw new Error('no cuDNN')
    const smaller = h200Properties().replace(/"multiProcessorCount": \d+/, '"multiProcessorCount": 114')
    const other = propertiesSession(libraries.cudnn, smaller)
    const [candidate] = first(session, plain, 1)
    expect(convFromRecipe(other, plain, candidate?.recipe ?? '')).toBeUndefined()
    candidate?.release?.()
    other.release()
  })

  test('goes on when garbage is collected: its parts, which only libcudnn uses, were once closed then', () => {
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as () => void
    for (let round = 0; round < 3; round++) {
      collect()
      for (const candidate of first(session, plain, 2)) candidate.release?.()
    }
  })
})

/** The ids of what heuristics propose, and why each is refused. */
function configurations(session: CudnnSession, problem: ConvProblem): (readonly [string, string | undefined])[] {
  const scope = new DescriptorScope(session.cudnn)
  const graph = buildGraph(scope, session, convGraph(problem))
  const found = proposals(scope, session, graph, 'A').map((configuration) => {
    const { engine, knobs, ...notes } = describeConfiguration(session.cudnn, configuration)
    const id = `cudnn:engine ${engine}${knobs.length === 0 ? '' : ' knobs'}${knobs.map((knob) => ` ${knob.join('=')}`).join('')}`
    return [id, refusal({ engine, knobs, ...notes }, problem, { deterministic: true })] as const
  })
  scope.release()
  return found
}
