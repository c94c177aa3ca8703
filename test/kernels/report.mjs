/**
 * The table kernel × feature, rung, choice in docs/kernel-features.md, from the lines that the runs have printed
 * (facts.ts): a column for each kernel, known by the first two numbers of its release, and by its architecture where that is
 * not x64. A run changes or checks its own
 * column; a running kernel that the document has no column of is not compared.
 */
import { readFileSync, writeFileSync } from 'node:fs'

const mark = '# kernel facts: '
const [begin, end] = ['<!-- kernels: written by npm run test:kernels -- --write -->', '<!-- /kernels -->']

/**
 * @typedef {{ release: string, architecture: string, features: Record<string, boolean | string>, rungs: Record<string, 'serves' | string[]>,
 *   auto: Record<string, string>, isRequired?: boolean }} Facts
 */

/** @param {string} line of output @returns {Facts | undefined} */
export const factsOf = (line) => (line.startsWith(mark) ? JSON.parse(line.slice(mark.length)) : undefined)

const lineOf = ({ release, architecture }) => {
  const line = /^\d+\.\d+/.exec(release)?.[0] ?? release
  return architecture === 'x64' ? line : `${line}, ${architecture}`
}
const word = (value) => (value === true ? 'yes' : value === false ? 'no' : `\`${value}\``)

/** One kernel's cells, by row. @param {Facts} facts @returns {Map<string, string>} */
export const column = ({ features, rungs, auto }) =>
  new Map([
    ...Object.entries(features).map(([name, value]) => [`\`${name}\``, word(value)]),
    ...Object.entries(rungs).map(([rung, found]) => [
      `rung \`${rung}\``,
      found === 'serves' ? 'serves' : `misses ${found.map((name) => `\`${name}\``).join(', ')}`,
    ]),
    ...Object.entries(auto).map(([what, rung]) => [`\`auto\`, ${what}`, `\`${rung}\``]),
  ])

/** @param {Map<string, Map<string, string>>} columns by kernel */
const table = (columns) => {
  const rows = [...new Set([...columns.values()].flatMap((cells) => [...cells.keys()]))]
  const row = (cells) => `| ${cells.join(' | ')} |`
  return [
    row(['', ...columns.keys()]),
    row(['---', ...[...columns].map(() => '---')]),
    ...rows.map((name) => row([name, ...[...columns.values()].map((cells) => cells.get(name) ?? '')])),
  ].join('\n')
}

/** @param {string} text of the document */
const split = (text) => {
  const [start, stop] = [text.indexOf(begin), text.indexOf(end)]
  if (start === -1 || stop < start) throw new Error(`no ${begin} … ${end} in the document`)
  return {
    head: text.slice(0, start + begin.length),
    inner: text.slice(start + begin.length, stop),
    tail: text.slice(stop),
  }
}

/** The columns that a document has. @param {string} text @returns {Map<string, Map<string, string>>} */
export const columnsOf = (text) => {
  const rows = split(text)
    .inner.split('\n')
    .filter((line) => line.startsWith('|'))
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    )
  const [head = [], , ...body] = rows
  return new Map(
    head
      .slice(1)
      .map((kernel, i) => [kernel, new Map(body.map((cells) => [cells[0] ?? '', cells[i + 1] ?? '']))]),
  )
}

/** The document with the columns of these runs. @param {string} text @param {readonly Facts[]} all */
export const written = (text, all) => {
  const { head, tail } = split(text)
  const columns = columnsOf(text)
  for (const facts of all) columns.set(lineOf(facts), column(facts))
  const sorted = [...columns].sort(([a], [b]) => a.localeCompare(b, 'en', { numeric: true }))
  return `${head}\n${table(new Map(sorted))}\n${tail}`
}

/** What a document says otherwise than these runs, in words. @param {string} text @param {readonly Facts[]} all */
export const differences = (text, all) => {
  const columns = columnsOf(text)
  return all.flatMap((facts) => {
    const said = columns.get(lineOf(facts))
    if (!said && facts.isRequired) return [`the document has no column ${lineOf(facts)}`]
    const wrong = [...column(facts)].filter(([name, cell]) => said && said.get(name) !== cell)
    const list = wrong.map(([name, cell]) => `${name}: "${said?.get(name)}", and was found "${cell}"`)
    return list.length > 0 ? [`the document says of ${lineOf(facts)} ${list.join('; ')}`] : []
  })
}

/** @param {string} file @param {readonly Facts[]} all */
export const write = (file, all) => writeFileSync(file, written(readFileSync(file, 'utf8'), all))
/** @param {string} file @param {readonly Facts[]} all */
export const check = (file, all) => differences(readFileSync(file, 'utf8'), all)
