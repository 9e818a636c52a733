// Indented lines of a C-family language.

/** Text under construction. */
export class Lines {
  readonly #lines: string[] = []
  #depth = 1

  add(...lines: readonly string[]): void {
    for (const line of lines) this.#lines.push('  '.repeat(this.#depth) + line)
  }

  /** `head {`, what `body` adds, `}`. */
  block(head: string, body: () => void): void {
    this.add(`${head} {`)
    this.#depth += 1
    body()
    this.#depth -= 1
    this.add('}')
  }

  toString(): string {
    return `${this.#lines.join('\n')}\n`
  }
}
