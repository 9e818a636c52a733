// The error classes of the whole library: each carries a stable `code`, so that callers match on codes and not on sentences.

/** What went wrong, as a word that is stable across releases. */
export type ErrorCode =
  | 'shape'
  | 'dtype'
  | 'value'
  | 'trace'
  | 'disposed'
  | 'donated'
  | 'not-finite'
  | 'device'
  | 'compiler'
  | 'out-of-memory'
  | 'data'
  | 'file'
  | 'internal'

/**
 * The base of every error pullback throws.
 *
 * The message reads `[op] expected X, got Y. What to do.`; `code` is stable across releases; `cause` holds the
 * underlying error where there is one.
 */
export class PullbackError extends Error {
  readonly code: ErrorCode

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'PullbackError'
    this.code = code
  }
}

/** Shapes that do not fit the operation. */
export class ShapeError extends PullbackError {
  constructor(message: string) {
    super('shape', message)
    this.name = 'ShapeError'
  }
}

/** Element types that do not fit the operation; the message names the `cast` that would mend it. */
export class DTypeError extends PullbackError {
  constructor(message: string) {
    super('dtype', message)
    this.name = 'DTypeError'
  }
}

/** An argument outside its domain. */
export class ValueError extends PullbackError {
  constructor(message: string) {
    super('value', message)
    this.name = 'ValueError'
  }
}

/** A traced value used where a concrete one is needed, or after its trace has ended. */
export class TraceError extends PullbackError {
  constructor(message: string) {
    super('trace', message)
    this.name = 'TraceError'
  }
}

/** A tensor used after `dispose()` or after it was donated; the message says where that happened. */
export class DisposedError extends PullbackError {
  constructor(code: 'disposed' | 'donated', message: string) {
    super(code, message)
    this.name = 'DisposedError'
  }
}

/** A fault of pullback itself. */
export class InternalError extends PullbackError {
  constructor(message: string) {
    super('internal', `internal: ${message}`)
    this.name = 'InternalError'
  }
}
