#!/usr/bin/env node
// The command `pullback`: what this machine offers (doctor) and which devices there are (devices). Training is done by
// programs such as examples/imagenet/main.ts.
import { availableParallelism, cpus, totalmem } from 'node:os'
import { ArgumentParser } from 'argparse'
import { type DeviceName, PullbackError, cudaReport, device, train } from './index.ts'

/** One line of a report: a word, what was found, and whether something is missing. */
interface Finding {
  readonly name: string
  readonly found: string
  readonly missing: boolean
}

const oldestNode = [20, 19] as const

function nodeFinding(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  const [oldMajor, oldMinor] = oldestNode
  const missing = major < oldMajor || (major === oldMajor && minor < oldMinor)
  const wanted = missing ? `; ${oldMajor}.${oldMinor} or newer is needed` : ''
  return { name: 'node', found: `${process.version} (${process.platform} ${process.arch})${wanted}`, missing }
}

function machineFinding(): Finding {
  const model = cpus()[0]?.model.trim() ?? 'unknown processor'
  const gigabytes = (totalmem() / 2 ** 30).toFixed(0)
  return { name: 'machine', found: `${model}, ${availableParallelism()} cores, ${gigabytes} GB`, missing: false }
}

function deviceFinding(name: DeviceName): Finding {
  try {
    return { name, found: device(name).description, missing: false }
  } catch (error) {
    if (!(error instanceof PullbackError)) throw error
    return { name, found: error.message, missing: true }
  }
}

async function imagesFinding(): Promise<Finding> {
  try {
    await train.imageDecoder()
    return { name: 'images', found: 'sharp decodes JPEG, PNG, WebP, GIF, TIFF and AVIF', missing: false }
  } catch (error) {
    return { name: 'images', found: error instanceof Error ? error.message : String(error), missing: true }
  }
}

/** CUDA is nothing that has to be there on every machine: what is wrong with it is told, and is no failure. */
function cudaFindings(): Finding[] {
  return cudaReport().lines.map((found, index) => ({ name: index === 0 ? 'cuda' : '', found, missing: false }))
}

const commands = {
  devices: () =>
    Promise.resolve([
      ...(cudaReport().usable ? [deviceFinding('cuda')] : []),
      deviceFinding('cpu'),
      deviceFinding('reference'),
    ]),
  doctor: async () => [
    nodeFinding(),
    machineFinding(),
    deviceFinding('cpu'),
    deviceFinding('reference'),
    ...cudaFindings(),
    await imagesFinding(),
  ],
} satisfies Readonly<Record<string, () => Promise<Finding[]>>>

function parse(argv: readonly string[]): keyof typeof commands {
  const parser = new ArgumentParser({ prog: 'pullback', description: 'Tells what this machine offers.' })
  parser.add_argument('command', {
    choices: Object.keys(commands),
    help: 'doctor: everything, with what is missing; devices: where programs can run',
  })
  return parser.parse_args<{ command: keyof typeof commands }>([...argv]).command
}

const findings = await commands[parse(process.argv.slice(2))]()
const lost = findings.filter(({ missing }) => missing)
for (const { name, found, missing } of findings)
  process.stdout.write(`${missing ? '! ' : '  '}${name.padEnd(10)} ${found}\n`)
if (lost.length > 0) process.stdout.write(`missing: ${lost.map(({ name }) => name).join(', ')}\n`)
process.exitCode = lost.length > 0 ? 1 : 0
