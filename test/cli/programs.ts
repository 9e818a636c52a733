// Starting the programs as users do, in processes of their own, and the folders they are given.
import { spawn } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'

const root = fileURLToPath(new URL('../../', import.meta.url))

/** What a program did. */
export interface Ended {
  /** The exit code; undefined if a signal ended it. */
  readonly code: number | undefined
  readonly stdout: string
  readonly stderr: string
}

/** A signal that is sent once the output matches. */
export interface Sending {
  readonly signal: NodeJS.Signals
  readonly when: RegExp
}

export interface StartOptions {
  /** Signals to send, each after the one before it. */
  readonly send?: readonly Sending[]
  /** More of the environment. */
  readonly environment?: Readonly<Record<string, string>>
}

/** Runs a TypeScript program from the repository's root, e.g. `examples/imagenet/main.ts`. */
export function start(
  program: string,
  args: readonly string[],
  { send = [], environment }: StartOptions = {},
): Promise<Ended> {
  const child = spawn(process.execPath, ['--import', 'tsx', program, ...args], {
    cwd: root,
    env: { ...process.env, NODE_OPTIONS: '', PULLBACK_LOG: '', ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 60_000,
  })
  let [stdout, stderr, sent] = ['', '', 0]
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
    const next = send[sent]
    if (next?.when.test(stdout) !== true) return
    sent += 1
    child.kill(next.signal)
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code) => resolve({ code: code ?? undefined, stdout, stderr }))
  })
}

/** main.ts and classify.ts with the toy architecture, on the reference device. */
export const startMain = (args: readonly string[], options?: StartOptions): Promise<Ended> =>
  start('test/cli/toy-main.ts', ['--arch', 'toy', '--image-size', '8', '--device', 'reference', ...args], options)
export const startClassify = (args: readonly string[]): Promise<Ended> =>
  start('test/cli/toy-classify.ts', ['--arch', 'toy', '--image-size', '8', '--device', 'reference', ...args])

/** Writes `count` small one-coloured JPEG files into a new folder. */
export async function writeImages(dir: string, count: number, red: number): Promise<void> {
  await mkdir(dir, { recursive: true })
  for (let index = 0; index < count; index++) {
    const background = { r: red, g: (index * 40) % 256, b: 255 - red }
    const image = sharp({ create: { width: 40 + index, height: 40, channels: 3, background } })
    await image.jpeg().toFile(join(dir, `${index}.jpg`))
  }
}

/** An image folder with two classes: `train` and `val` images of each. */
export async function writeFolder(dir: string, train: number, val: number): Promise<string> {
  for (const [name, red] of [
    ['cold', 0],
    ['hot', 255],
  ] as const) {
    await writeImages(join(dir, 'train', name), train, red)
    await writeImages(join(dir, 'val', name), val, red)
  }
  return dir
}

/** A file that ends in .jpg and is none. */
export async function writeBroken(path: string): Promise<void> {
  await writeFile(path, 'not a JPEG file')
}
