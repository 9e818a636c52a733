// The int64 arguments of a printed function: values that may change without the text changing.

/** Collects arguments and names them. */
export class Numbers {
  readonly values: number[] = []
  readonly #names: string[] = []

  /** Adds an argument and gives the name by which the text refers to it. */
  add(name: string, value: number): string {
    const unique = this.#names.includes(name) ? `${name}_${this.#names.length}` : name
    this.#names.push(unique)
    this.values.push(value)
    return unique
  }

  /** The declarations of all names, one line each. */
  declarations(): string[] {
    return this.#names.map((name, index) => `const int64_t ${name} = n[${index}];`)
  }
}
