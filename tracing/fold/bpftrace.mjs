/**
 * Folds what bpftrace prints of a map when a script ends. A map's key is either words (`@ns[unmount, fsopen]: 12`)
 * or words and then a stack, one frame a line, the innermost first:
 *
 *   @us[node,
 *       exp_funnel_lock+161
 *       synchronize_rcu_expedited+209
 *   ]: 17
 *
 * Words come out as the outermost frames. Offsets are dropped, so that a function is one frame.
 */
import { add } from './folded.mjs'

const OFFSET = /\+(?:0x[\da-f]+|\d+)$/

/**
 * @param {string} text bpftrace's output
 * @param {string} map the map's name, without `@`
 * @returns {{ sums: Map<string, number>, rest: string }} the map folded, and all other output
 */
export const foldMap = (text, map) => {
  /** @type {Map<string, number>} */
  const sums = new Map()
  const begin = `@${map}[`
  const rest = []
  /** @type {string[] | undefined} */
  let entry
  for (const line of text.split('\n')) {
    if (entry) entry.push(line)
    else if (line.startsWith(begin)) entry = [line.slice(begin.length)]
    else rest.push(line)
    const end = entry && /^(.*)\]: (\d+)$/.exec(/** @type {string} */ (entry.at(-1)))
    if (!entry || !end) continue
    const [first = '', ...lines] = [...entry.slice(0, -1), /** @type {string} */ (end[1])]
    const words = lines.length > 0 ? [first.replace(/,\s*$/, '')] : first.split(', ')
    const stack = lines.map((each) => each.trim().replace(OFFSET, '')).filter(Boolean)
    add(sums, [...words.filter(Boolean), ...stack.reverse()], Number(end[2]))
    entry = undefined
  }
  return {
    sums,
    rest: rest
      .join('\n')
      .replace(/\n{3,}/g, '\n\n')
      .trim(),
  }
}
