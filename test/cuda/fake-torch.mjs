#!/usr/bin/env node
// Stands for python with PyTorch in the test of bench:gpu: speaks the protocol of bench/torch/gpu.py and computes nothing.
// FAKE_TORCH says what goes wrong with the compiled one: `crash` (in the first block), `hang` (when it is prepared) or
// `crowded` (out of memory the first time it is prepared). FAKE_TORCH_NOTE is a file that remembers it.
import { existsSync, writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'

const trouble = process.env.FAKE_TORCH ?? ''
const flags = process.argv.slice(2)
const how = flags[flags.indexOf('--how') + 1]
const note = process.env.FAKE_TORCH_NOTE ?? ''

if (flags.includes('--probe')) {
  console.log(JSON.stringify({ torch: 'fake', gpu: 'fake', timm: null }))
  process.exit(0)
}

console.log('something that a library prints')
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line)
  console.log(JSON.stringify(answer(request)))
  if (request.do === 'finish') process.exit(0)
}

function answer(request) {
  if (request.do === 'prepare') return prepare()
  if (request.do === 'finish') return { ok: true, peak_bytes: 3 * 2 ** 30, driver_bytes: 3 * 2 ** 30 }
  if (trouble === 'crash' && how === 'compile') process.exit(7)
  const times = Array.from({ length: request.steps }, (_, i) => 10 + i)
  return { ok: true, events_ms: times, wall_ms: times, host_ms: times, value: 1 }
}

function prepare() {
  if (trouble === 'hang' && how === 'compile') {
    writeFileSync(note, String(process.pid))
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
  }
  if (trouble === 'crowded' && how === 'compile' && !existsSync(note)) {
    writeFileSync(note, 'once')
    return { ok: false, kind: 'out-of-memory', error: 'OutOfMemoryError: fake' }
  }
  return { ok: true, version: 'fake', first_step_s: 1 }
}
