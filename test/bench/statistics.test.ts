/** Medians, quartiles, percentiles, against numbers that can be checked by eye. */
import t from 'tap'
import { bench } from './module.js'

interface Statistics {
  quantile(values: readonly number[], part: number): number
  median(values: readonly number[]): number
  summarize(values: readonly number[]): Record<string, number>
  format(value: number): string
  formatSummary(summary: Record<string, number>): string
  readonly Latencies: new () => {
    record(microseconds: number): void
    percentile(percent: number): number
    summary(): Record<string, number>
  }
}
const { quantile, median, summarize, format, formatSummary, Latencies } =
  await bench<Statistics>('support/statistics.mjs')

t.test('quantiles', async (t) => {
  t.equal(median([3, 1, 2]), 2)
  t.equal(median([4, 1, 3, 2]), 2.5, 'between the two in the middle')
  t.equal(quantile([10, 30, 20], 0), 10)
  t.equal(quantile([10, 30, 20], 1), 30)
  t.equal(quantile([0, 100], 0.25), 25)
  t.ok(Number.isNaN(median([])))
  t.throws(() => quantile([1], 50), RangeError)
})

t.test('a summary', async (t) => {
  const values = [100, 90, 110, 80, 120]
  t.same(summarize(values), { count: 5, median: 100, low: 90, high: 110, spread: 0.1 })
  t.same(values, [100, 90, 110, 80, 120], 'the values stay as they were')
  t.equal(formatSummary(summarize(values)), '100 ±10 %')
  t.equal(formatSummary(summarize([145])), '145', 'one value has no spread')
  t.equal(formatSummary(summarize([])), '–')
})

t.test('latencies', async (t) => {
  const latencies = new Latencies()
  t.ok(Number.isNaN(latencies.percentile(50)), 'none yet')
  for (let i = 1; i <= 1000; i++) latencies.record(i)
  latencies.record(0)
  const { count, p50, p99, max } = latencies.summary()
  t.equal(count, 1001)
  for (const [name, found, expected] of [
    ['p50', p50, 500],
    ['p99', p99, 990],
    ['max', max, 1000],
  ] as const) {
    t.ok(Math.abs(found! - expected) / expected < 0.005, `${name} to three digits: ${found}`)
  }
})

t.test('numbers to read', async (t) => {
  t.same([7.1234, 145.4, 12_345, 0.0123, Number.NaN].map(format), ['7.12', '145', '12,350', '0.0123', '–'])
})
