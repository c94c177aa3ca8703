/**
 * From what the rounds measured to a table: medians with spread, the ratio, reached or missed. Pure.
 */
import { valueAt } from '../rounds.mjs'
import { format, formatSummary, median, summarize } from '../support/statistics.mjs'

/**
 * @typedef {import('../rounds.mjs').Measured} Measured
 * @typedef {import('./figures.mjs').Figure} Figure
 * @typedef {import('./figures.mjs').Measurement} Measurement
 *
 * @typedef {object} Verdict
 * @property {string} name
 * @property {string} what
 * @property {string} asked
 * @property {number} limit of the ratio
 * @property {import('../support/statistics.mjs').Summary} ours
 * @property {import('../support/statistics.mjs').Summary} against the best of them
 * @property {string} best whose that is
 * @property {import('../support/statistics.mjs').Summary} [unit]
 * @property {string} unitName
 * @property {number} ratio NaN where a cell failed
 * @property {boolean} isReached
 */

/** @param {Figure} figure @returns {Measurement[]} all it needs */
export function measurementsOf({ ours, against, unit }) {
  return [ours, ...against, ...(unit ? [unit] : [])]
}

/** @param {Figure} figure @param {Map<string, Measured[]>} measured by cell, a value a round @returns {Verdict} */
export function evaluate(figure, measured) {
  const { name, what } = figure
  const of = (/** @type {Measurement} */ { cell, metric }) =>
    summarize((measured.get(cell.id) ?? []).map((found) => valueAt(found, metric)))
  const ours = of(figure.ours)
  const isLess = 'atMost' in figure.limit
  const limit = 'atMost' in figure.limit ? figure.limit.atMost : figure.limit.atLeast
  const others = figure.against
    .map((measurement) => ({ summary: of(measurement), cell: measurement.cell }))
    .filter(({ summary }) => Number.isFinite(summary.median))
    .sort((a, b) => (isLess ? 1 : -1) * (a.summary.median - b.summary.median))
  const against = others[0]?.summary ?? summarize([])
  const best = others[0] ? nameOf(others[0].cell) : '–'
  const unit = figure.unit && of(figure.unit)
  const ratio = unit ? (ours.median - against.median) / unit.median : ours.median / against.median
  const isReached = isLess ? ratio <= limit : ratio >= limit
  const asked = `${isLess ? '≤' : '≥'} ${limit} ×`
  return { name, what, asked, limit, ours, against, best, unit, unitName: figure.ours.unit, ratio, isReached }
}

/** @param {import('../rounds.mjs').Cell} cell */
function nameOf({ subject, task }) {
  return subject.startsWith('floor/')
    ? `${subject}, ${task.inFlight} ${task.inFlight === 1 ? 'thread' : 'threads'}`
    : subject
}

/** @param {Verdict[]} verdicts @returns {{ columns: string[], rows: string[][] }} */
export function tableOf(verdicts) {
  const columns = ['figure', 'what', 'asked', 'overlayfd', 'against', 'ratio', '']
  const rows = verdicts.map((verdict) => {
    const { name, what, asked, ours, against, best, unit, unitName, ratio } = verdict
    const other = `${formatSummary(against)} ${unitName} (${best})`
    const measure = unit ? `; access ${formatSummary(unit)} ${unitName}` : ''
    const end = verdict.isReached ? 'reached' : Number.isNaN(ratio) ? '**not measured**' : '**missed**'
    return [
      name,
      what,
      asked,
      `${formatSummary(ours)} ${unitName}`,
      other + measure,
      `${format(ratio)} ×`,
      end,
    ]
  })
  return { columns, rows }
}

/**
 * @typedef {object} Check what was to be equal before and after
 * @property {string} what
 * @property {string} found
 * @property {boolean} isGood
 */

/**
 * Slab is the whole machine's, so what others do is in it: growth counts if it is as much as a superblock for some of
 * the mounts (KiB each, and that is tens), and more than the noise (a part of Slab).
 */
const SLAB = { perMount: 1, noise: 0.01 }

/** What a contender's queue of unmounts may hold, in times of what is in flight. */
const QUEUE = 4

/** @param {import('../rounds.mjs').Cell} cell @param {Measured[]} found a value a round @returns {Check[]} */
export function checksOf({ id, task }, found) {
  const fds = found.map(({ fds }) => fds).filter(Boolean)
  const slabs = found.map(({ slab }) => slab).filter(Boolean)
  const queues = task.isChecked
    ? found.map(({ statistics }) => statistics?.reaping?.mostQueued).filter(Number.isFinite)
    : []
  const checks = /** @type {Check[]} */ ([])
  if (fds.length > 0) {
    const isGood = fds.every(({ before, after }) => before === after)
    const pairs = [...new Set(fds.map(({ before, after }) => `${before} → ${after}`))].join(', ')
    checks.push({ what: `open fds, ${id}`, found: pairs, isGood })
  }
  if (slabs.length > 0) {
    const growth = median(slabs.map(({ before, after }) => after - before))
    const each = median(slabs.map(({ before, after, mounts }) => (after - before) / mounts))
    const isGood = each < SLAB.perMount || growth < SLAB.noise * median(slabs.map(({ before }) => before))
    const found = `${growth} KiB, ${each.toFixed(3)} for each mount`
    checks.push({ what: `growth of Slab, ${id}`, found, isGood })
  }
  if (queues.length > 0) {
    const longest = Math.max(...queues)
    const [found, isGood] = [`${longest} at ${task.inFlight} in flight`, longest <= QUEUE * task.inFlight]
    checks.push({ what: `longest queue of the reaper, ${id}`, found, isGood })
  }
  return checks
}
