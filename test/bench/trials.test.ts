/** Trials as data, and what becomes of their numbers; what is shown meanwhile; what the C floor prints. */
import t from 'tap'
import { bench } from './module.js'

interface Metric {
  readonly name: string
  readonly path: string
  readonly title: string
  readonly unit: string
}
interface Trial {
  readonly name: string
  readonly title: string
  readonly text: string
  readonly x: string
  readonly values: (number | string)[]
  readonly task: (value: number | string) => { readonly measure: string; readonly idmap: string }
  readonly metrics: Metric[]
}
interface Entry {
  readonly subject: string
  readonly value: number | string
  readonly found: Record<string, unknown>[]
}
interface Section {
  readonly title: string
  readonly text: string
  readonly table: { readonly columns: string[]; readonly rows: string[][] }
  readonly chart: { readonly name: string; readonly spec: object }
}
interface Sections {
  sectionsOf(trial: Trial, entries: Entry[], absences: string[]): Section[]
}
interface Progresses {
  readonly Progress: new (total: number, stream: object) => { step(text: string): void; end(): void }
}
interface Floors {
  parseFloor(text: string, threads: number): Record<string, unknown>[]
}
const { trials } = await bench<{ trials: Trial[] }>('trials/index.mjs')
const { sectionsOf } = await bench<Sections>('trials/sections.mjs')
const { Progress } = await bench<Progresses>('support/progress.mjs')
const { parseFloor } = await bench<Floors>('support/floor.mjs')

t.test('the trials', async (t) => {
  const charts = trials.flatMap(({ name, metrics }) => metrics.map((metric) => `${name}-${metric.name}`))
  t.equal(new Set(charts).size, charts.length, 'each chart is a file of its own')
  for (const { name, values, task } of trials) {
    const tasks = values.map((value) => JSON.stringify(task(value)))
    t.equal(new Set(tasks).size, values.length, `${name}: each value is another task`)
  }
})

const trial: Trial = {
  name: 'try',
  title: 'A try',
  text: 'Read this.',
  x: 'layers',
  values: [1, 50, 500],
  task: () => ({ measure: 'cycle', idmap: 'none' }),
  metrics: [{ name: 'compose', path: 'compose.p50', title: 'compose', unit: 'µs' }],
}
const entry = (subject: string, value: number | string, ...values: number[]): Entry => ({
  subject,
  value,
  found: values.map((p50) => ({ compose: { p50 } })),
})

t.test('a table and a chart of each metric', async (t) => {
  const entries = [entry('one', 1, 9, 10, 11), entry('one', 50, 100), entry('two', 50, 200), entry('two', 1)]
  const [section, ...more] = sectionsOf(trial, entries, ['not in it: three; it cannot'])
  t.same(more, [])
  t.same(section?.table, {
    columns: ['µs, by layers', '1', '50'],
    rows: [
      ['one', '10 ±5 %', '100'],
      ['two', '–', '200'],
    ],
  })
  t.equal(section?.title, 'A try: compose')
  t.equal(section?.text, 'Read this.\n\n- not in it: three; it cannot')
  t.equal(section?.chart.name, 'try-compose')
  t.match(JSON.stringify(section?.chart.spec), /"type":"line"/, 'lines over numbers')
  const [words] = sectionsOf({ ...trial, values: ['cold'] }, [entry('one', 'cold', 1)], [])
  t.match(JSON.stringify(words?.chart.spec), /"type":"bar"/, 'bars over words')
  t.same(sectionsOf(trial, [], ['not in it: one; it cannot']), [], 'nobody is in it')
})

t.test('progress', async (t) => {
  const shown = (isTTY: boolean): string => {
    let text = ''
    const progress = new Progress(2, { isTTY, columns: 12, write: (more: string) => (text += more) })
    progress.step('first')
    progress.step('the second, which is long')
    progress.end()
    return text
  }
  t.equal(shown(false), '[1/2] first\n[2/2] the second, which is long\n')
  t.equal(shown(true), '\r\x1b[K[1/2] first\r\x1b[K[2/2] the s\r\x1b[K', 'one line, that fits')
})

t.test('what the floor prints', async (t) => {
  const text = [
    '# base=/somewhere threads=4 teardown=MNT_DETACH open_tree_attr=1 extra_mounts=0',
    'var      L      n compose_us  teardn_us     sum_us      ops/s',
    'k       50    100      179.4      152.0      335.5       2002',
    'm        1    100       31.0      106.5      140.0       6500',
  ].join('\n')
  t.same(parseFloor(text, 4), [
    { variant: 'k', layers: 50, threads: 4, compose: 179.4, teardown: 152, sum: 335.5, ops: 2002 },
    { variant: 'm', layers: 1, threads: 4, compose: 31, teardown: 106.5, sum: 140, ops: 6500 },
  ])
})
