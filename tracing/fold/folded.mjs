/**
 * The folded format, which speedscope and flamegraph.pl read: one line a stack, the outermost frame first,
 * `frame;frame;frame 123`. What the number counts is not in the file: samples, or a unit of time.
 *
 * Both tools cut a line at its last space and the stack at each `;`. flamegraph.pl takes a second number
 * before that for the other column of a comparison. So no frame may hold a `;` or a line break, and none may
 * end in a space and a number. speedscope knows the file by every line being of this form.
 */

/**
 * Text that can stand as one frame.
 * @param {string} text
 * @returns {string}
 */
export const frame = (text) =>
  text
    .replace(/;/g, ':')
    .replace(/\s+/g, ' ')
    .trim()
    .replace(/ (?=[\d.]+$)/, '_') || '[unknown]'

/**
 * Adds to the weight of a stack.
 * @param {Map<string, number>} sums stack → weight
 * @param {readonly string[]} frames the outermost first
 * @param {number} weight
 */
export const add = (sums, frames, weight) => {
  const stack = frames.map(frame).join(';')
  sums.set(stack, (sums.get(stack) ?? 0) + weight)
}

/**
 * The stacks with a frame that begins so.
 * @param {ReadonlyMap<string, number>} sums
 * @param {string} beginning
 * @returns {Map<string, number>}
 */
export const only = (sums, beginning) =>
  new Map([...sums].filter(([stack]) => stack.split(';').some((each) => each.startsWith(beginning))))

/**
 * The file: whole numbers, in the stacks' order; what rounds to nothing is left out.
 * @param {ReadonlyMap<string, number>} sums
 * @returns {string}
 */
export const render = (sums) =>
  [...sums]
    .map(([stack, weight]) => /** @type {const} */ ([stack, Math.round(weight)]))
    .filter(([, weight]) => weight > 0)
    .map(([stack, weight]) => `${stack} ${weight}\n`)
    .sort()
    .join('')

/**
 * The heaviest stacks in words: share, weight, the outermost frame, and the innermost ones from the inside out.
 * @param {ReadonlyMap<string, number>} sums
 * @param {number} [count]
 * @returns {string[]}
 */
export const heaviest = (sums, count = 5) => {
  const total = [...sums.values()].reduce((sum, weight) => sum + weight, 0)
  return [...sums]
    .sort(([, a], [, b]) => b - a)
    .slice(0, count)
    .map(([stack, weight]) => {
      const [outermost, ...inner] = stack.split(';')
      const percent = `${Math.round((100 * weight) / total)} %`
      return `${percent.padStart(5)} ${Math.round(weight)} ${outermost}: ${inner.reverse().slice(0, 6).join(' < ')}`
    })
}
