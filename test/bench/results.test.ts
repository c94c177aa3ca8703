/** Results as files: JSON that can be read again, Markdown that links its charts, SVG that is drawn. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { root } from '../support/child.js'
import { bench } from './module.js'

interface Point {
  readonly x: number | string
  readonly series: string
  readonly y: number
  readonly low?: number
  readonly high?: number
}
interface Charts {
  renderChart(spec: object): Promise<string>
  lineChart(chart: object): object
  barChart(chart: object): object
  dotChart(chart: object): object
}
interface Results {
  save(name: string, results: object, options: { output: string }): Promise<string[]>
  toTable(table: { columns: string[]; rows: (string | number)[][] }): string
}
interface Machines {
  describeMachine(): Promise<Record<string, unknown>>
  machineLines(machine: Record<string, unknown>): string[]
}
const { renderChart, lineChart, barChart, dotChart } = await bench<Charts>('support/chart.mjs')
const { save, toTable } = await bench<Results>('support/results.mjs')
const { describeMachine, machineLines } = await bench<Machines>('support/machine.mjs')

const points: Point[] = [1, 10, 100].flatMap((x) => [
  { x, series: 'alpha', y: 3 * x, low: 2 * x, high: 4 * x },
  { x, series: 'beta', y: x },
])

t.test('charts', async (t) => {
  const lines = await renderChart(
    lineChart({ title: 'Times', x: 'layers', y: 'µs', points, isLogX: true, isLogY: true }),
  )
  t.match(lines, /^<svg[^>]* xmlns="http:\/\/www\.w3\.org\/2000\/svg"/)
  for (const text of ['Times', 'layers', 'µs', 'alpha', 'beta']) t.ok(lines.includes(`>${text}<`), text)
  t.equal(lines.match(/aria-roledescription="line mark"/g)?.length, 2, 'a line for each series')

  const named = points.map((point) => ({ ...point, x: `at ${point.x}` }))
  const bars = await renderChart(barChart({ title: 'Times', y: 'µs', points: named }))
  t.equal(bars.match(/aria-roledescription="bar"/g)?.length, 6, 'a bar for each point')
  for (const text of ['at 10', 'alpha', 'beta']) t.ok(bars.includes(`>${text}<`), text)
  const without = named.map((point, i) => (i === 0 ? { ...point, y: Number.NaN } : point))
  const fewer = await renderChart(barChart({ title: 'Times', y: 'µs', points: without }))
  t.equal(fewer.match(/aria-roledescription="bar"/g)?.length, 5, 'none for what was not measured')

  const dots = await renderChart(
    dotChart({ title: 'Times', y: 'µs', points: [...named, { ...named[0], y: 0 }] }),
  )
  t.equal(
    dots.match(/aria-roledescription="point"/g)?.length,
    6,
    'none for what a logarithm has no place for',
  )
})

t.test('files', async (t) => {
  const output = mkdtempSync(join(tmpdir(), 'overlayfd-test-'))
  t.teardown(() => rmSync(output, { recursive: true }))
  const machine = await describeMachine()
  const table = { columns: ['what', 'µs'], rows: [['a|b', 1]] }
  const chart = { name: 'times', spec: lineChart({ title: 'Times', x: 'layers', y: 'µs', points }) }
  const sections = [{ title: 'First', text: 'Read this.', table, chart }, { title: 'Second' }]
  const raw = { cells: [1, 2, 3] }
  const command = 'npm run bench -- try'
  const files = await save('try', { title: 'A try', command, machine, sections, raw }, { output })

  t.same(readdirSync(output), ['try-times.svg', 'try.json', 'try.md'])
  t.same(files.map((file) => file.slice(output.length + 1)).sort(), readdirSync(output))
  t.match(JSON.parse(readFileSync(join(output, 'try.json'), 'utf8')), {
    command,
    machine,
    raw,
    title: 'A try',
  })
  const markdown = readFileSync(join(output, 'try.md'), 'utf8')
  for (const text of ['# A try', command, '## First', 'Read this.', '![First](try-times.svg)', '## Second']) {
    t.ok(markdown.includes(text), text)
  }
  t.ok(markdown.includes(machineLines(machine).join('\n')), 'the machine')
  t.match(readFileSync(join(output, 'try-times.svg'), 'utf8'), /^<svg/)
})

t.test('a table', async (t) => {
  const table = {
    columns: ['what', 'µs'],
    rows: [
      ['a|b', 1],
      ['two\nlines', ''],
    ],
  }
  t.equal(toTable(table), '| what | µs |\n|---|---|\n| a\\|b | 1 |\n| two lines |  |')
})

t.test('the machine', async (t) => {
  const machine = await describeMachine()
  t.match(machine, { cpus: Number, cores: Number, sockets: Number, memory: Number, node: process.version })
  t.match(machine['date'], /^\d{4}-\d\d-\d\dT/)
  const told = JSON.stringify([machine, machineLines(machine)])
  t.notOk(told.includes(root), 'no path')
  t.notOk(told.includes(`"${hostname()}"`), 'no name')
})
