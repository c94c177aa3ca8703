/**
 * What a benchmark says of many numbers: the median, quartiles around it, percentiles of latencies.
 *
 * Medians and quartiles, because a run on a shared machine has outliers that no mean survives. Latencies are kept in
 * the HDR histogram of node:perf_hooks, which holds any number of them in constant space, to three digits.
 */
import { createHistogram } from 'node:perf_hooks'

/**
 * @typedef {object} Summary
 * @property {number} count how many values there were
 * @property {number} median
 * @property {number} low the first quartile
 * @property {number} high the third quartile
 * @property {number} spread half the distance of the quartiles, as a part of the median: 0.05 is ±5 %
 */

/**
 * @param {readonly number[]} values
 * @param {number} part 0 for the smallest, 1 for the largest; between two values it is interpolated
 * @returns {number} NaN of no values
 */
export function quantile(values, part) {
  if (!(part >= 0 && part <= 1)) throw new RangeError(`part must be from 0 to 1, not ${part}`)
  const sorted = [...values].sort((a, b) => a - b)
  const place = (sorted.length - 1) * part
  const below = sorted[Math.floor(place)] ?? Number.NaN
  const above = sorted[Math.ceil(place)] ?? Number.NaN
  return below + (above - below) * (place - Math.floor(place))
}

/** @param {readonly number[]} values @returns {number} NaN of no values */
export function median(values) {
  return quantile(values, 0.5)
}

/** @param {readonly number[]} values @returns {Summary} */
export function summarize(values) {
  const [low, middle, high] = [quantile(values, 0.25), quantile(values, 0.5), quantile(values, 0.75)]
  const spread = middle === 0 ? 0 : (high - low) / 2 / middle
  return { count: values.length, median: middle, low, high, spread }
}

/** Latencies, recorded one by one and asked for percentiles at the end. All in microseconds. */
export class Latencies {
  #histogram = createHistogram({ lowest: 1, highest: 600e9, figures: 3 })

  /** @param {number} microseconds what is less than a nanosecond counts as one */
  record(microseconds) {
    this.#histogram.record(Math.max(1, Math.round(microseconds * 1e3)))
  }

  /** @returns {number} */
  get count() {
    return this.#histogram.count
  }

  /** @param {number} percent 50, 99, 99.9 @returns {number} NaN while nothing is recorded */
  percentile(percent) {
    return this.count === 0 ? Number.NaN : this.#histogram.percentile(percent) / 1e3
  }

  /** @returns {{ count: number, p50: number, p99: number, p999: number, max: number }} */
  summary() {
    const max = this.count === 0 ? Number.NaN : this.#histogram.max / 1e3
    const [p50, p99, p999] = [50, 99, 99.9].map((percent) => this.percentile(percent))
    return { count: this.count, p50, p99, p999, max }
  }
}

/**
 * @param {number} value
 * @returns {string} with three digits that count: `3.21`, `145`, `12,300`; `–` where there is none
 */
export function format(value) {
  if (!Number.isFinite(value)) return '–'
  return value.toLocaleString('en-US', { maximumSignificantDigits: Math.abs(value) >= 1000 ? 4 : 3 })
}

/** @param {Summary} summary @returns {string} `145 ±3 %`; of a single value, which has no spread, `145` */
export function formatSummary({ count, median, spread }) {
  const middle = format(median)
  return count < 2 ? middle : `${middle} ±${Math.round(spread * 100)} %`
}
