/**
 * The folded format as its readers have it: speedscope takes `^(.*) (\d+)$` and cuts at each `;`, flamegraph.pl
 * the same, but takes a number before that for a second column. Each line has to be one stack to both.
 */
const LINE = /^([^;\s][^;]*(?:;[^;\s][^;]*)*) (\d+)$/
const SECOND_COLUMN = /\s\d+(\.\d*)?$/

/** The stacks with their weights; throws at what is not of the format. */
export const parseFolded = (file: string): Map<string, number> => {
  if (file !== '' && !file.endsWith('\n')) throw new Error('the last line has no end')
  const stacks = new Map<string, number>()
  for (const line of file.split('\n').slice(0, -1)) {
    const [, stack = '', weight] = LINE.exec(line) ?? []
    if (stack === '') throw new Error(`not a folded line: ${JSON.stringify(line)}`)
    if (SECOND_COLUMN.test(stack)) throw new Error(`reads as two columns: ${JSON.stringify(line)}`)
    if (stacks.has(stack)) throw new Error(`twice: ${stack}`)
    if (!(Number(weight) > 0)) throw new Error(`no weight: ${JSON.stringify(line)}`)
    stacks.set(stack, Number(weight))
  }
  return stacks
}
