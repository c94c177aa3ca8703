/**
 * Results as files: JSON with all that was measured, Markdown to read, an SVG for each chart.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { renderChart } from './chart.mjs'
import { machineLines } from './machine.mjs'

/** Where results are kept that are worth a commit. */
export const RESULTS = fileURLToPath(new URL('../results', import.meta.url))

/**
 * @typedef {object} Section
 * @property {string} title
 * @property {string} [text] Markdown
 * @property {{ columns: string[], rows: (string | number)[][] }} [table]
 * @property {{ name: string, spec: object }} [chart] goes to `<results>-<name>.svg`
 *
 * @typedef {object} Results
 * @property {string} title
 * @property {string} command to make them again
 * @property {import('./machine.mjs').Machine} machine
 * @property {string} [text] Markdown, above the sections: how it was measured, what the spread is
 * @property {Section[]} sections
 * @property {unknown} raw anything that survives JSON
 */

/**
 * Writes `<name>.json`, `<name>.md` and the charts.
 * @param {string} name in kebab-case
 * @param {Results} results
 * @param {{ output?: string }} [options] `output`: a directory instead of bench/results
 * @returns {Promise<string[]>} the files
 */
export async function save(name, results, { output = RESULTS } = {}) {
  const { machine, command, title, sections, raw } = results
  mkdirSync(output, { recursive: true })
  const files = []
  const write = (/** @type {string} */ file, /** @type {string} */ text) => {
    writeFileSync(join(output, file), text)
    files.push(join(output, file))
  }
  const tables = sections.map(({ chart, ...section }) => ({
    ...section,
    ...(chart && { chart: chartFile(name, chart) }),
  }))
  write(`${name}.json`, `${JSON.stringify({ title, command, machine, sections: tables, raw }, null, 1)}\n`)
  write(`${name}.md`, toMarkdown(name, results))
  for (const { chart } of sections) {
    if (chart) write(chartFile(name, chart), `${await renderChart(chart.spec)}\n`)
  }
  return files
}

/** @param {string} name @param {Results} results @returns {string} */
export function toMarkdown(name, { machine, command, title, text, sections }) {
  const head = [`# ${title}`, `\`\`\`sh\n${command}\n\`\`\``, machineLines(machine).join('\n')]
  const parts = sections.flatMap((section) => [
    `## ${section.title}`,
    section.text,
    section.table && toTable(section.table),
    section.chart && `![${section.title}](${chartFile(name, section.chart)})`,
  ])
  return `${[...head, text, ...parts].filter(Boolean).join('\n\n')}\n`
}

/** @param {{ columns: string[], rows: (string | number)[][] }} table @returns {string} */
export function toTable({ columns, rows }) {
  const line = (/** @type {(string | number)[]} */ cells) =>
    `| ${cells.map((cell) => String(cell).replaceAll('|', '\\|').replaceAll('\n', ' ')).join(' | ')} |`
  return [line(columns), `|${'---|'.repeat(columns.length)}`, ...rows.map(line)].join('\n')
}

/** @param {string} name @param {{ name: string }} chart */
function chartFile(name, chart) {
  return `${name}-${chart.name}.svg`
}
