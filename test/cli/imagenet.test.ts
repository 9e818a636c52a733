// The programs as users run them: what a run writes, what bad input gets, and that stopping loses nothing.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { cudaReport, train } from 'pullback'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { parseTraining } from '../../examples/imagenet/options.ts'
import { startClassify, startMain, writeBroken, writeFolder, writeImages } from './programs.ts'
import { toys } from './toys.ts'

let folder = ''
let images = ''
/** The workspace of a run that nothing stopped: two epochs. */
let whole = ''

const training = ['-b', '4', '-p', '1', '--epochs', '2', '--lr', '0.05', '--use-ema', '0.9', '--mixup', '0.2', '--amp']
const train1 = (workspace: string): string[] => [images, ...training, '--workspace', workspace]
const checkpoint = (workspace: string): string => join(workspace, train.checkpointNames.last)

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'pullback-cli-'))
  images = await writeFolder(join(folder, 'images'), 10, 3)
  whole = join(folder, 'whole')
})
afterAll(() => rm(folder, { recursive: true, force: true }))

describe('main', () => {
  it('trains: header, plain lines in a pipe, checkpoints and one val record for each evaluation', {
    timeout: 60_000,
  }, async () => {
    const { code, stdout, stderr } = await startMain(train1(whole))
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toMatch(/^device {5}reference interpreter/)
    expect(stdout).toMatch(/\nprecision {2}mixed: f16.*dynamic loss scale\n/)
    expect(stdout).toMatch(/\nmodel {6}toy, [\d,]+ parameters, 8 x 8 pixels\n/)
    expect(stdout).toMatch(/\ndata .*2 classes, 20 train images, 6 val images, batches of 4\n/)
    expect(stdout).toMatch(/\ntrain epoch 1\/2 step 5\/5 {2}loss [\d.]+ /)
    expect(stdout).toMatch(/\nepoch 2\/2: validation top1 [\d.]+%/)
    expect(stdout).not.toContain('\u001b')
    const lines = (await readFile(join(whole, 'experiment_raport.json'), 'utf8')).trimEnd().split('\n')
    const records = lines.map(
      (line) =>
        JSON.parse(line.replace(/^DLLL /, '')) as { type: string; step: unknown; data?: Record<string, unknown> },
    )
    const evaluations = records.filter(({ data }) => data !== undefined && 'val.top1' in data)
    expect(evaluations.map(({ step }) => step)).toEqual([[0], [1]])
    for (const { data } of evaluations) expect(data).toMatchObject({ 'val.top5': 100, 'val.images': 6 })
    expect(records.filter(({ data }) => data !== undefined && 'train.loss' in data)).toHaveLength(2 * 5 + 2)
    const best = await train.readCheckpoint(join(whole, train.checkpointNames.best))
    expect(best.metadata.get('class_names')).toBe('["cold","hot"]')
  })

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)(
    'finishes the step and saves on %s, exits %d, and resumes to the same bytes',
    {
      timeout: 90_000,
    },
    async (signal, code) => {
      const workspace = join(folder, signal)
      const when = /train epoch 1\/2 step 2\/5/
      const stopped = await startMain(train1(workspace), { send: [{ signal, when }] })
      expect(stopped.code).toBe(code)
      expect(stopped.stdout).toContain(`${signal}: finishing the step in progress`)
      const { position } = await train.readCheckpoint(checkpoint(workspace))
      expect(position).toMatchObject({ epoch: 0 })
      expect(position.step).toBeGreaterThan(0)
      const resumed = await startMain([...train1(workspace), '--resume', workspace])
      expect(resumed.code).toBe(0)
      expect(resumed.stdout).toContain(`in epoch 1 after step ${position.step}`)
      const [expected, got] = await Promise.all([readFile(checkpoint(whole)), readFile(checkpoint(workspace))])
      expect(got.equals(expected)).toBe(true)
    },
  )

  it('resumes a killed run from the last complete checkpoint to the same bytes', { timeout: 90_000 }, async () => {
    const workspace = join(folder, 'killed')
    const when = /train epoch 2\/2 step 2\/5/
    const killed = await startMain(train1(workspace), { send: [{ signal: 'SIGKILL', when }] })
    expect(killed.code).toBeUndefined()
    expect((await train.readCheckpoint(checkpoint(workspace))).position).toMatchObject({ epoch: 1, step: 0 })
    expect((await startMain([...train1(workspace), '--resume', checkpoint(workspace)])).code).toBe(0)
    const [expected, got] = await Promise.all([readFile(checkpoint(whole)), readFile(checkpoint(workspace))])
    expect(got.equals(expected)).toBe(true)
  })

  it('evaluates a checkpoint to the number its run recorded', { timeout: 60_000 }, async () => {
    const workspace = join(folder, 'evaluated')
    const flags = [
      '--evaluate',
      '--use-ema',
      '0.9',
      '--amp',
      '-b',
      '5',
      '--resume',
      checkpoint(whole),
      '--workspace',
      workspace,
    ]
    const { code, stdout } = await startMain([images, ...flags])
    expect(code).toBe(0)
    const top1 = /evaluation: validation top1 ([\d.]+)%/.exec(stdout)?.[1]
    const report = await readFile(join(whole, 'experiment_raport.json'), 'utf8')
    expect(Number(top1)).toBeCloseTo(Number([...report.matchAll(/"val.top1": ([\d.]+)/g)].at(-1)?.[1]), 1)
  })

  it('passes over a broken image, names and counts it', { timeout: 60_000 }, async () => {
    const dir = await writeFolder(join(folder, 'broken'), 4, 2)
    const path = join(dir, 'train', 'hot', '2.jpg')
    await writeBroken(path)
    const { code, stdout } = await startMain([dir, '-b', '4', '--epochs', '1', '--no-checkpoints', '--workspace', dir])
    expect(code).toBe(0)
    expect(
      stdout.split('\n').filter((line) => line.startsWith(`passed over ${path}, which cannot be read`)),
    ).toHaveLength(1)
    expect(stdout).toContain('\n1 images could not be read\n')
  })

  it('measures without data: synthetic batches, a few steps, training only', { timeout: 60_000 }, async () => {
    const flags = ['--data-backend', 'synthetic', '--num_classes', '4', '-b', '2', '--prof', '2', '--epochs', '1']
    const more = ['--training-only', '--no-checkpoints', '--workspace', join(folder, 'synthetic')]
    const { code, stdout } = await startMain([...flags, ...more])
    expect(code).toBe(0)
    expect(stdout).toMatch(/train epoch 1\/1 step 2\/2/)
  })
})

describe('what bad input gets', () => {
  it('flags or values that are unknown: the usage and exit 2', async () => {
    const { code, stdout, stderr } = await startMain(['somewhere', '--no-such-flag'])
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toMatch(/^usage: main.ts /)
    expect(stderr).toContain('error: unrecognized arguments: --no-such-flag')
  })

  it.each([
    [['--lr', 'fast'], /argument --lr.*expected a number of at least 0, got 'fast'/],
    [['--mixup', '-1'], /argument --mixup.*expected a number from 0 to 4, got '-1'/],
    [['-b', '1.5'], /argument -b.*expected a whole number of at least 1, got '1.5'/],
    [['--arch', 'alexnet'], /invalid choice: '?alexnet/],
    [['--interpolation', 'bicubic'], /invalid choice: '?bicubic/],
    [['--static-loss-scale', '128', '--dynamic-loss-scale'], /not allowed with/],
    [['-b', '4', '--optimizer-batch-size', '6'], /expected a multiple of the batch size 4, got 6/],
    [['--nesterov', '--momentum', '0'], /argument --nesterov: not allowed with --momentum 0/],
  ])('%j: exit 2, too', (flags, message) => {
    const written: string[] = []
    const write = vi.spyOn(process.stderr, 'write').mockImplementation((text) => written.push(String(text)) > 0)
    const exit = vi.spyOn(process, 'exit').mockImplementation((code) => {
      throw new Error(`exit ${code}`)
    })
    try {
      expect(() => parseTraining(['somewhere', ...flags], toys)).toThrow('exit 2')
    } finally {
      write.mockRestore()
      exit.mockRestore()
    }
    expect(written.join('')).toMatch(message)
  })

  /** Expects one sentence on stderr, exit 1 and no stack. */
  async function refused(args: readonly string[], message: RegExp | string): Promise<void> {
    const { code, stderr } = await startMain(['--workspace', join(folder, 'refused'), ...args])
    expect(stderr.trimEnd().split('\n'), stderr).toHaveLength(1)
    if (typeof message === 'string') expect(stderr).toContain(message)
    else expect(stderr).toMatch(message)
    expect(code).toBe(1)
  }

  it('a missing folder: its path', () => refused([join(folder, 'nowhere')], join(folder, 'nowhere')))

  it('one class, an empty class, other classes in val: the path', async () => {
    const dir = join(folder, 'faulty')
    await writeImages(join(dir, 'train', 'cold'), 1, 0)
    await refused([dir], `at least two class folders in ${join(dir, 'train')}, got only 'cold'`)
    await writeFolder(dir, 1, 1)
    await rm(join(dir, 'val', 'hot', '0.jpg'))
    await refused([dir, '-b', '1'], join(dir, 'val', 'hot'))
    await rm(join(dir, 'val', 'hot'), { recursive: true })
    await refused([dir, '-b', '1'], "only in train: 'hot'")
  })

  it('images that are all broken: an error', async () => {
    const dir = await writeFolder(join(folder, 'all-broken'), 1, 1)
    for (const name of ['cold', 'hot']) await writeBroken(join(dir, 'train', name, '0.jpg'))
    await refused([dir, '-b', '1'], `expected readable images in ${dir}/train, got 2 that all fail to decode`)
  })

  it('a loss that is no number: the step and the place', () =>
    refused(
      [images, '-b', '4', '--lr', '1e38'],
      /got (NaN|-?Infinity) at step \d of 5 in epoch 1; the first .* (is|of) /,
    ))

  it('a device that is not there: what is missing, and no other device in its place', (context) => {
    if (cudaReport().usable) {
      process.stderr.write('skipped: what --device cuda says without a GPU, because there is one\n')
      context.skip()
    }
    return refused([images, '--device', 'cuda'], /^\[cuda\] .*(Install|install)/)
  })

  it('weights of another shape, or a file cut short: the tensor, nothing loaded', async () => {
    await refused(
      [images, '--num_classes', '3', '--pretrained-from-file', checkpoint(whole)],
      /tensor 'fc\.(weight|bias)': expected 3(x\d+)? in this model, got 2/,
    )
    const cut = join(folder, 'cut.safetensors')
    await writeFile(cut, (await readFile(checkpoint(whole))).subarray(0, -100))
    await refused([images, '--pretrained-from-file', cut], /tensor '.*'.*Is the file cut short\?/)
    await refused([images, '--resume', cut], /Is the file cut short\?/)
  })
})

describe('classify', () => {
  it('prints the five likeliest classes by name', async () => {
    const image = join(images, 'val', 'hot', '0.jpg')
    const { code, stdout } = await startClassify(['--image', image, '--pretrained-from-file', checkpoint(whole)])
    expect(code).toBe(0)
    expect(stdout).toMatch(/\n +[\d.]+ % {2}(hot|cold)\n +[\d.]+ % {2}(hot|cold)\n$/)
  })

  it('with --json prints one object and nothing else', async () => {
    const image = join(images, 'val', 'hot', '0.jpg')
    const { code, stdout, stderr } = await startClassify([
      '--image',
      image,
      '--num_classes',
      '7',
      '--json',
      '--precision',
      'FP32',
    ])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    const found = JSON.parse(stdout) as Record<string, unknown>
    expect(Object.keys(found)).toEqual(['image', 'top5', 'logits'])
    const { top5, logits } = found as { top5: { index: number; probability: number }[]; logits: number[] }
    expect(found['image']).toBe(image)
    expect(logits).toHaveLength(7)
    const total = logits.reduce((sum, logit) => sum + Math.exp(logit), 0)
    const order = [...logits.keys()].sort((a, b) => (logits[b] ?? 0) - (logits[a] ?? 0)).slice(0, 5)
    expect(top5.map(({ index }) => index)).toEqual(order)
    for (const { index, probability } of top5) expect(probability).toBeCloseTo(Math.exp(logits[index] ?? 0) / total, 6)
  })

  it('names an image that cannot be read', async () => {
    const { code, stdout, stderr } = await startClassify(['--image', join(folder, 'none.jpg'), '--json'])
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toMatch(/^\[data\] could not read the image .*none\.jpg: .*\n$/)
  })

  it('knows no other precision', async () => {
    const { code, stderr } = await startClassify(['--image', 'x.jpg', '--precision', 'INT8'])
    expect(code).toBe(2)
    expect(stderr).toMatch(/invalid choice: '?INT8/)
  })
})
