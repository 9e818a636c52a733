// An algorithm of cuBLASLt as text: the id it is known by, made of its attributes, and the recipe that brings it back.
import { createHash } from 'node:crypto'
import type { Algorithm, CublasLt } from '../ffi/cublaslt.ts'
import { type algorithmAttributes, algorithmBytes, reductionSchemes } from '../ffi/cublaslt-constants.ts'

/** An algorithm and the scratch memory it needs, in bytes. */
export interface Configured {
  readonly algorithm: Algorithm
  readonly workspaceBytes: number
}

type Attribute = keyof typeof algorithmAttributes

const shown = {
  ID: 'algorithm',
  TILE_ID: 'tile',
  STAGES_ID: 'stages',
  SPLITK_NUM: 'split',
  REDUCTION_SCHEME: 'scheme',
  CTA_SWIZZLING: 'swizzle',
  CUSTOM_OPTION: 'custom',
  INNER_SHAPE_ID: 'inner',
  CLUSTER_SHAPE_ID: 'cluster',
} as const satisfies Record<Attribute, string>

/** `cublaslt:algorithm 66 tile 20 stages 35 split 1 ...`: every attribute, and a digest, since not all it holds is named. */
export function algorithmId(blas: CublasLt, algorithm: Algorithm): string {
  const names = Object.keys(shown) as Attribute[]
  const attributes = names.map((name) => `${shown[name]} ${blas.algorithmAttribute(algorithm, name)}`)
  const digest = createHash('sha256').update(algorithm).digest('hex').slice(0, 8)
  return `cublaslt:${attributes.join(' ')} ${digest}`
}

/**
 * Whether an algorithm gives the same bits each time, with sums in full precision: not split, or its partial sums kept in
 * the compute type and added by a pass of their own. INPLACE and OUTPUT_TYPE round partial sums to the result's type.
 */
export function isReproducible(blas: CublasLt, algorithm: Algorithm): boolean {
  const scheme = blas.algorithmAttribute(algorithm, 'REDUCTION_SCHEME')
  return scheme === reductionSchemes.NONE || scheme === reductionSchemes.COMPUTE_TYPE
}

/** The recipe: the workspace's bytes, and the algorithm's 64 in base64. Good for one version of the library. */
export function writeRecipe({ algorithm, workspaceBytes }: Configured): string {
  return `${workspaceBytes}:${Buffer.from(algorithm).toString('base64')}`
}

/** What a recipe says; undefined where it is none. */
export function readRecipe(recipe: string): Configured | undefined {
  const [, workspace, text] = /^(\d{1,15}):([A-Za-z0-9+/]+={0,2})$/.exec(recipe) ?? []
  if (workspace === undefined || text === undefined) return undefined
  const algorithm = new Uint8Array(Buffer.from(text, 'base64'))
  return algorithm.length === algorithmBytes ? { algorithm, workspaceBytes: Number(workspace) } : undefined
}
