/** What becomes of measured numbers: which contender counts, what is reached, what is told of failures. */
import t from 'tap'
import { bench } from './module.js'

interface Cell {
  readonly id: string
  readonly subject: string
  readonly task: { readonly inFlight: number }
}
interface Measurement {
  readonly cell: Cell
  readonly metric: string
  readonly unit: string
}
interface Figure {
  readonly name: string
  readonly what: string
  readonly limit: { atLeast?: number; atMost?: number }
  readonly ours: Measurement
  readonly against: Measurement[]
  readonly unit?: Measurement
}
interface Verdict {
  readonly ratio: number
  readonly isReached: boolean
  readonly best: string
  readonly asked: string
}
interface Check {
  readonly what: string
  readonly found: string
  readonly isGood: boolean
}
type Measured = Record<string, unknown>
interface Evaluate {
  evaluate(figure: Figure, measured: Map<string, Measured[]>): Verdict
  tableOf(verdicts: Verdict[]): { rows: string[][] }
  checksOf(cell: Cell, found: Measured[]): Check[]
  measurementsOf(figure: Figure): Measurement[]
}
interface Rounds {
  rotated<T>(list: T[], round: number, rounds: number): T[]
  complaintsOf(failures: { id: string; message: string }[]): string[]
  valueAt(found: Measured, path: string): number
}
const { evaluate, tableOf, checksOf, measurementsOf } = await bench<Evaluate>('figures/evaluate.mjs')
const { figures } = await bench<{ figures: Figure[] }>('figures/figures.mjs')
const { rotated, complaintsOf, valueAt } = await bench<Rounds>('rounds.mjs')

const measurement = (id: string, metric: string, subject = id, inFlight = 1): Measurement => ({
  cell: { id, subject, task: { inFlight } },
  metric,
  unit: '/s',
})
const throughput: Figure = {
  name: 'storm',
  what: 'a storm',
  limit: { atLeast: 0.9 },
  ours: measurement('ours', 'perSecond'),
  against: [measurement('k1', 'perSecond', 'floor/k', 1), measurement('k4', 'perSecond', 'floor/k', 4)],
}
const rounds = (...values: number[]): Measured[] => values.map((perSecond) => ({ perSecond }))

t.test('a throughput: the best other has the highest median', async (t) => {
  const measured = new Map([
    ['ours', rounds(95, 80, 99)],
    ['k1', rounds(50, 50, 500)],
    ['k4', rounds(100, 100, 100)],
  ])
  const verdict = evaluate(throughput, measured)
  t.match(verdict, { ratio: 0.95, isReached: true, best: 'floor/k, 4 threads', asked: '≥ 0.9 ×' })
  const slower = evaluate(throughput, new Map([...measured, ['ours', rounds(89)]]))
  t.match(slower, { ratio: 0.89, isReached: false })
  t.same(
    tableOf([verdict, slower]).rows.map((row) => row.at(-1)),
    ['reached', '**missed**'],
  )
})

t.test('a time: the best other has the lowest median, and may be a unit', async (t) => {
  const times: Figure = {
    ...throughput,
    limit: { atMost: 1.3 },
    ours: measurement('ours', 'compose.p50'),
    against: [measurement('k1', 'compose.p50'), measurement('k4', 'compose.p50')],
  }
  const at = (p50: number, access = 0): Measured[] => [{ compose: { p50 }, access: { p50: access } }]
  const measured = new Map([
    ['ours', at(200, 50)],
    ['k1', at(400)],
    ['k4', at(140)],
  ])
  t.match(evaluate(times, measured), { ratio: 200 / 140, isReached: false, best: 'k4' })
  const inUnits = { ...times, unit: measurement('ours', 'access.p50') }
  t.match(evaluate(inUnits, measured), { ratio: (200 - 140) / 50, isReached: true })
})

t.test('what was not measured is not reached', async (t) => {
  const verdict = evaluate(throughput, new Map([['k1', rounds(100)]]))
  t.notOk(verdict.isReached)
  t.same(tableOf([verdict]).rows[0]?.at(-1), '**not measured**')
  t.notOk(evaluate(throughput, new Map([['ours', rounds(100)]])).isReached, 'without the others')
})

t.test('what is to be equal before and after', async (t) => {
  const cell = { ...throughput.ours.cell, task: { inFlight: 2, isChecked: true } }
  const good = (found: Measured[]): Check[] => checksOf(cell, found)
  t.same(good(rounds(1, 2)), [], 'nothing was looked at')

  const fds = (after: number) => ({ fds: { before: 19, after } })
  t.match(good([fds(19), fds(19)]), [{ found: '19 → 19', isGood: true }])
  t.match(good([fds(19), fds(20)]), [{ found: '19 → 19, 19 → 20', isGood: false }])

  const slab = (after: number, mounts = 100) => ({ slab: { before: 10_000, after, mounts } })
  t.match(good([slab(10_300)]), [{ found: '300 KiB, 3.000 for each mount', isGood: false }])
  t.match(good([slab(10_300, 1000)]), [{ isGood: true }], 'less than a superblock for one of ten')
  t.match(good([slab(10_090, 10)]), [{ isGood: true }], 'less than the noise')

  const queue = (mostQueued: number) => ({ statistics: { reaping: { mostQueued } } })
  t.match(good([queue(1), queue(8)]), [{ found: '8 at 2 in flight', isGood: true }])
  t.match(good([queue(9), queue(1)]), [{ found: '9 at 2 in flight', isGood: false }])
  t.same(checksOf(throughput.ours.cell, [queue(9)]), [], 'only where it was asked for')
})

t.test('the figures', async (t) => {
  t.equal(new Set(figures.map(({ name }) => name)).size, figures.length, 'names are unique')
  const cells = figures.flatMap((figure) => measurementsOf(figure).map(({ cell }) => cell))
  const tasks = new Map<string, Cell>()
  for (const cell of cells) {
    t.same(tasks.get(cell.id) ?? cell, cell, `one id, one task: ${cell.id}`)
    tasks.set(cell.id, cell)
  }
})

t.test('rounds', async (t) => {
  const list = [1, 2, 3, 4]
  t.same(rotated(list, 0, 2), list)
  t.same(rotated(list, 1, 2), [2, 1, 4, 3], 'begun elsewhere, and backwards')
  t.same(valueAt({ compose: { p50: 3 } }, 'compose.p50'), 3)
  t.ok(Number.isNaN(valueAt({}, 'compose.p50')))
  const failures = [
    { id: 'one', message: 'it failed' },
    { id: 'two', message: 'it failed' },
    { id: 'three', message: 'late' },
  ]
  t.same(complaintsOf(failures), ['one\ntwo\n  it failed', 'three\n  late'])
})
