// main.ts with --device cuda, on the simulated GPU: what its header, its lines and its record say of the device.
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { buildMilliseconds, simulation } from '../sim/library.ts'
import { start } from './programs.ts'

let folder = ''
let environment: Readonly<Record<string, string>> = {}
beforeAll(async () => {
  const sim = await simulation()
  folder = await mkdtemp(join(tmpdir(), 'pullback-cli-cuda-'))
  environment = {
    ...sim.environment,
    PULLBACK_CACHE: join(folder, 'cache'),
    PULLBACK_VERIFY: '',
    PULLBACK_TUNE: 'heuristics',
  }
}, buildMilliseconds)
afterAll(() => rm(folder, { recursive: true, force: true }))

it('names libraries with their paths, and afterwards how they were tuned and what was compiled', {
  timeout: 90_000,
}, async () => {
  const flags = ['--device', 'cuda', '--arch', 'toy', '--image-size', '8', '--data-backend', 'synthetic', '--amp']
  const more = ['--num_classes', '4', '-b', '2', '--prof', '2', '--epochs', '1', '--training-only', '--no-checkpoints']
  const program = 'test/cli/toy-main.ts'
  const { code, stdout, stderr } = await start(program, [...flags, ...more, '--workspace', folder], { environment })
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  const path = environment['PULLBACK_CUDA_PATH'] ?? ''
  expect(stdout).toMatch(/^device +cuda:0: /)
  for (const name of ['driver', 'NVRTC', 'cuBLASLt', 'cuDNN'])
    expect(stdout).toMatch(new RegExp(`\n${name} +.*\\d.*, in ${path} `))
  expect(stdout).toMatch(/\ntuning +by heuristics: nothing yet\n/)
  expect(stdout).toMatch(/\nlayout +images \[n, h, w, c\]/)
  expect(stdout).toMatch(/\nprograms +recorded as graphs and replayed\n/)
  expect(stdout).toMatch(
    /\nkernels: \d+ loaded, [1-9]\d* compiled, \d+ found in .*\ntuning: by heuristics: \d+ untimed/,
  )
  const records = (await readFile(join(folder, 'experiment_raport.json'), 'utf8')).split('\n')
  const parameters = records.filter((line) => line.includes('PARAMETER'))
  expect(parameters).toHaveLength(2)
  expect(parameters[0]).toContain(path)
  expect(parameters[1]).toMatch(/"tuning": "by heuristics: \d+ untimed/)
})

it('gives back all that it holds of the GPU when SIGINT ends it', { timeout: 90_000 }, async () => {
  const flags = ['--device', 'cuda', '--arch', 'toy', '--image-size', '8', '--data-backend', 'synthetic', '--amp']
  const more = [
    '--num_classes',
    '4',
    '-b',
    '2',
    '--prof',
    '400',
    '--epochs',
    '1',
    '--training-only',
    '--print-freq',
    '1',
  ]
  const report = join(folder, 'report.json')
  const { code, stderr } = await start(
    'test/cli/toy-main.ts',
    [...flags, ...more, '--workspace', join(folder, 'stopped')],
    {
      environment: { ...environment, PULLBACK_SIM_REPORT: report },
      send: [{ signal: 'SIGINT', when: /step 2\/400/ }],
    },
  )
  expect({ code, stderr }).toEqual({ code: 130, stderr: '' })
  const { violations, memory, live, retained } = JSON.parse(await readFile(report, 'utf8')) as Record<string, unknown>
  expect({ violations, memory, live, retained }).toEqual({ violations: [], memory: [], live: {}, retained: 0 })
})
