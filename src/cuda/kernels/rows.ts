// One kernel for a chain of products and pointwise steps over the same rows.
import type { RowChain } from '../row-chain.ts'
import type { Candidate } from '../work.ts'

/** The kernel of a chain, which has the chain's inputs and then its outputs as operands; undefined where there is none. */
export function rowsCandidate(chain: RowChain): Candidate | undefined {
  return chain.rows < 0 ? plain(chain) : undefined
}

function plain(chain: RowChain): Candidate {
  return { id: `own:rows ${chain.rows}`, works: [], scratchBytes: 0 }
}
