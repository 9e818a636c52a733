// Timing and printing for the rows.

/** The median of `count` timed calls in seconds, after one to warm up. */
export async function measure(call: () => Promise<void>, count: number): Promise<number> {
  await call()
  const seconds: number[] = []
  for (let i = 0; i < count; i++) {
    const start = performance.now()
    await call()
    seconds.push((performance.now() - start) / 1000)
  }
  return seconds.sort((a, b) => a - b)[count >> 1] ?? Number.NaN
}

/** One row as a JSON line, numbers to four digits. */
export function print(row: Readonly<Record<string, string | number>>): void {
  const short = Object.entries(row).map(([key, value]) => [
    key,
    typeof value === 'number' ? Number(value.toPrecision(4)) : value,
  ])
  process.stdout.write(`${JSON.stringify(Object.fromEntries(short))}\n`)
}
