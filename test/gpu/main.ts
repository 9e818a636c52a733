// npm run gpu:check: whether this GPU computes what it should, in at most four minutes, in parts that can be chosen. Each part
// runs in a process of its own; all that is found is kept in bench/results as it is found.
import { gpuCheck } from './check.ts'

const codes = { SIGINT: 130, SIGTERM: 143 } as const
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(codes[signal]))
process.exitCode = await gpuCheck(process.argv.slice(2))
