/**
 * Numbers and tables as the demo prints them: units always, columns aligned, nothing wider than a terminal.
 */

let silent = false

/** From here on nothing is printed: --json prints its one object itself. */
export function beSilent() {
  silent = true
}

const LEFT = 13

/**
 * Prints one part of the report: a heading in the left column, lines beside it.
 * @param {string} heading
 * @param {string[]} lines
 */
export function say(heading, ...lines) {
  if (silent) return
  for (const [index, line] of lines.entries())
    console.log(`${(index === 0 ? heading : '').padEnd(LEFT)}${line}`.trimEnd())
}

/**
 * @param {bigint | number} nanoseconds
 * @returns {string} three digits and a unit: `183 µs`, `3.55 ms`, `1.20 s`
 */
export function duration(nanoseconds) {
  const ns = Number(nanoseconds)
  if (ns < 999_500) return `${digits(ns / 1e3)} µs`
  if (ns < 999_500_000) return `${digits(ns / 1e6)} ms`
  return `${digits(ns / 1e9)} s`
}

/** @param {number} value @returns {string} three digits */
function digits(value) {
  if (value >= 99.95) return value.toFixed(0)
  return value >= 9.995 ? value.toFixed(1) : value.toFixed(2)
}

/** @param {number} bytes @returns {string} `104 MB` */
export function size(bytes) {
  return `${Math.max(1, Math.round(bytes / 1e6))} MB`
}

/** @param {number} value @returns {string} `5,000` */
export function count(value) {
  return value.toLocaleString('en-US')
}

/** @param {number} value @param {string} one @param {string} [many] @returns {string} `1 file`, `5,000 files` */
export function counted(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`
}

/** @param {bigint[]} values not empty @returns {bigint} */
export function median(values) {
  const sorted = [...values].sort((a, b) => (a < b ? -1 : 1))
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? 0n
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0n) + upper) / 2n
}

/** @param {bigint[]} values @returns {bigint} */
export function sum(values) {
  return values.reduce((total, value) => total + value, 0n)
}

/**
 * @param {string[][]} rows the first is the head; the first column is text, the others are numbers
 * @returns {string[]} lines
 */
export function table(rows) {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => (row[column] ?? '').length)),
  )
  const lines = rows.map((row) =>
    row
      .map((cell, column) =>
        column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart((widths[column] ?? 0) + 3),
      )
      .join(''),
  )
  lines.splice(1, 0, '─'.repeat(Math.max(...lines.map((line) => line.length))))
  return lines
}

/** Columns beside the headings. */
const WIDTH = 104

/** Lines of a list that are printed. */
const MOST_LINES = 4

/**
 * @param {string[]} cells
 * @returns {string[]} lines of as many cells as fit, aligned; four at most, then `…`
 */
export function columns(cells) {
  const width = Math.max(...cells.map((cell) => cell.length)) + 2
  const each = Math.max(1, Math.floor((WIDTH + 2) / width))
  const lines = []
  for (let at = 0; at < cells.length && lines.length < MOST_LINES; at += each) {
    const row = cells.slice(at, at + each)
    lines.push(row.map((cell) => cell.padEnd(width)).join(''))
  }
  return cells.length > each * MOST_LINES ? [...lines, '…'] : lines
}

/**
 * A plan names every layer in lines of its own, and every flag. For a look at it, less will do.
 * @param {string} text
 * @param {string} directory the temporary directory, printed as `…`
 * @returns {string[]} lines; of calls that repeat for every layer, the first and the last
 */
export function abridge(text, directory) {
  const flags = /(STATX_)\w+(\|STATX_\w+)+/g
  const lines = text.replaceAll(directory, '…').replaceAll(flags, '$1…').trimEnd().split('\n')
  const shapes = lines.map((line) => line.replace(/\d+/g, ''))
  /** @type {string[]} */
  const kept = []
  let at = 0
  while (at < lines.length) {
    const { period, times } = repetition(shapes, at)
    const end = at + period * times
    const indent = /^ */.exec(lines[at] ?? '')?.[0] ?? ''
    kept.push(...lines.slice(at, at + period))
    if (times > 1) kept.push(`${indent}… ${times - 2} times more …`, ...lines.slice(end - period, end))
    at = end
  }
  return kept.flatMap(wrap)
}

/**
 * @param {string[]} shapes
 * @param {number} at
 * @returns {{ period: number, times: number }} how many lines from `at` on repeat, and how often; 4 times or more
 */
function repetition(shapes, at) {
  for (const period of [1, 2]) {
    let end = at + period
    while (end < shapes.length && shapes[end] === shapes[end - period]) end++
    const times = Math.floor((end - at) / period)
    if (times >= 4) return { period, times }
  }
  return { period: 1, times: 1 }
}

/** @param {string} line @returns {string[]} the same in lines that are not too long, broken after commas */
function wrap(line) {
  const indent = `${/^ */.exec(line)?.[0] ?? ''}    `
  const lines = []
  let rest = line
  while (rest.length > WIDTH) {
    const at = rest.lastIndexOf(', ', WIDTH - 1)
    if (at <= indent.length) break
    lines.push(rest.slice(0, at + 1))
    rest = indent + rest.slice(at + 2)
  }
  return [...lines, rest]
}
