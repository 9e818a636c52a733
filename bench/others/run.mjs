// Times the other libraries: one JSON line per library, case and direction. Install them first: npm ci --prefix bench/others
// {library, version, op, ms (median of a run), gflops, runs, load}; ms is null, and note says why, where a library cannot.
// load is the machine's load average: it is 1 on a quiet machine, and a row taken above that measures the neighbours too.
import { createRequire } from 'node:module'
import { loadavg } from 'node:os'
import { cases, directions, flops } from './cases.mjs'
import * as jax from './jax.mjs'
import * as tfjs from './tfjs.mjs'

const require = createRequire(import.meta.url)

/** The version installed here, or undefined. */
function installed(name) {
  try {
    return require(`./node_modules/${name}/package.json`).version
  } catch {
    return undefined
  }
}

/** Median time of a run in milliseconds: two runs to warm up, then at least five, for about a second; one if that slow. */
async function time(run) {
  const once = async () => {
    const start = performance.now()
    await run()
    return performance.now() - start
  }
  const first = await once()
  if (first > 10_000) return { ms: first, runs: 1 }
  await once()
  const times = []
  for (let total = 0; times.length < 5 || (total < 1000 && times.length < 50); ) {
    times.push(await once())
    total += times.at(-1)
  }
  return { ms: times.sort((a, b) => a - b)[times.length >> 1], runs: times.length }
}

async function measure({ library, open }, version) {
  const prepare = await open()
  for (const item of cases) {
    for (const direction of directions) {
      const row = { library, version, op: `${item.name}/${direction}` }
      try {
        const { ms, runs } = await time(prepare(item, direction))
        print({ ...row, ms: round(ms), gflops: round(flops(item) / ms / 1e6), runs, load: round(loadavg()[0]) })
      } catch (error) {
        print({ ...row, ms: null, gflops: null, note: `n/a: ${error.message.split('\n')[0]}` })
      }
    }
  }
}

const round = (value) => Number(value.toPrecision(4))
const print = (row) => console.log(JSON.stringify(row))

for (const [name, other] of [
  ['@jax-js/jax', jax],
  ['@tensorflow/tfjs-backend-wasm', tfjs],
]) {
  const version = installed(name)
  if (version === undefined) console.error(`${name} is not installed; install it with: npm ci --prefix bench/others`)
  else await measure(other, version)
}
