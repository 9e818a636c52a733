// The C++ bodies of the prelude's functions under names of their own, so that one kernel on a GPU can have both: cut out of
// the very text that is compiled, never written again.

/** What second bodies are called: `host_pb_f16_of_float`. */
export const prefix = 'host_'

/** The text that a compiler without `__CUDACC__` sees where one with it sees another. */
function hostParts(prelude: string): string {
  const kept: string[] = []
  const open: ('device' | 'host' | 'other')[] = []
  for (const line of prelude.split('\n')) {
    if (/^#if(def|ndef)?\b/.test(line))
      open.push(
        line.startsWith('#ifdef __CUDACC__') ? 'device' : line.startsWith('#ifndef __CUDACC__') ? 'host' : 'other',
      )
    else if (line.startsWith('#else')) open.push(open.pop() === 'device' ? 'host' : 'other')
    else if (line.startsWith('#endif')) open.pop()
    else if (open.at(-1) === 'host') kept.push(line)
  }
  return kept.join('\n')
}

/** One function's text, from its first word to its last brace. */
function definition(text: string, name: string): string {
  const [head] = new RegExp(`^PB_INLINE [\\w ]+ ${name}\\(`, 'm').exec(text) ?? []
  if (head === undefined) throw new Error(`the prelude has no second body of ${name}`)
  const from = text.indexOf(head)
  let depth = 0
  for (let i = text.indexOf('{', from); i < text.length; i++) {
    if (text[i] === '{') depth += 1
    if (text[i] === '}') depth -= 1
    if (depth === 0) return text.slice(from, i + 1)
  }
  throw new Error(`the second body of ${name} has no end`)
}

/**
 * The second bodies of these functions, in this order, each calling those of the others that are named.
 *
 * @throws Error where the text has no second body of one of them.
 */
export function secondBodies(prelude: string, names: readonly string[]): string {
  const text = hostParts(prelude)
  const all = names.map((name) => definition(text, name)).join('\n')
  return names.reduce((out, name) => out.replaceAll(new RegExp(`\\b${name}\\b`, 'g'), prefix + name), all)
}
