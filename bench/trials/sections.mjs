/**
 * From what the rounds measured to tables and charts, for one trial. Pure.
 */
import { valueAt } from '../rounds.mjs'
import { barChart, lineChart } from '../support/chart.mjs'
import { formatSummary, summarize } from '../support/statistics.mjs'

/**
 * @typedef {object} Entry a cell, and where it stands in its trial
 * @property {string} subject
 * @property {number | string} value
 * @property {import('../rounds.mjs').Measured[]} found a value a round
 */

/**
 * @param {import('./index.mjs').Trial} trial
 * @param {Entry[]} entries
 * @param {string[]} absences who is not in it, and why
 * @returns {import('../support/results.mjs').Section[]} one for each metric; none where nobody is in it
 */
export function sectionsOf(trial, entries, absences) {
  if (entries.length === 0) return []
  return trial.metrics.map((metric, index) => ({
    title: `${trial.title}: ${metric.title}`,
    text:
      index === 0 ? [trial.text, ...absences.map((one) => `- ${one}`)].join('\n').replace('\n', '\n\n') : '',
    table: tableOf(trial, metric, entries),
    chart: { name: `${trial.name}-${metric.name}`, spec: chartOf(trial, metric, entries) },
  }))
}

/** @param {Entry} entry @param {import('./index.mjs').Metric} metric */
function summaryOf({ found }, { path }) {
  return summarize(found.map((one) => valueAt(one, path)))
}

/** @param {import('./index.mjs').Trial} trial @param {import('./index.mjs').Metric} metric @param {Entry[]} entries */
function tableOf({ x, values }, metric, entries) {
  const subjects = [...new Set(entries.map(({ subject }) => subject))]
  // what nobody can do yet has no column
  const columns = values.filter((value) => entries.some((entry) => entry.value === value))
  const cell = (/** @type {string} */ subject, /** @type {number | string} */ value) => {
    const entry = entries.find((one) => one.subject === subject && one.value === value)
    return entry ? formatSummary(summaryOf(entry, metric)) : ''
  }
  const rows = subjects.map((subject) => [subject, ...columns.map((value) => cell(subject, value))])
  return { columns: [`${metric.unit}, by ${x}`, ...columns.map(String)], rows }
}

/** @param {import('./index.mjs').Trial} trial @param {import('./index.mjs').Metric} metric @param {Entry[]} entries */
function chartOf({ title, x, values, isLog }, metric, entries) {
  const inOrder = values.flatMap((value) => entries.filter((entry) => entry.value === value))
  const points = inOrder.map((entry) => {
    const { median, low, high } = summaryOf(entry, metric)
    return { x: entry.value, series: entry.subject, y: median, low, high }
  })
  const y = `${metric.title}, ${metric.unit}`
  return typeof values[0] === 'number'
    ? lineChart({ title, x, y, points, isLogX: isLog, isLogY: isLog })
    : barChart({ title, y, points })
}
