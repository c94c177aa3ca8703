/** What was counted and measured of the rungs, as tables. */
import { format, formatSummary, median, summarize } from '../support/statistics.mjs'

/**
 * @typedef {import('../support/results.mjs').Section} Section
 * @typedef {import('../rounds.mjs').Cell} Cell
 * @typedef {Map<string, import('../rounds.mjs').Measured[]>} Measured
 */

/** @param {({ rung: string, layers: number } & import('./count.mjs').Counted)[]} counts @returns {Section} */
export function countsTable(counts) {
  const line = (/** @type {import('./count.mjs').Counts} */ { calls, writers, grace }) =>
    `${calls} / ${writers} / ${grace}`
  return {
    title: 'System calls / writers of namespace_sem / grace periods',
    table: {
      columns: ['rung', 'layers', 'by the plan', 'by strace', ''],
      rows: counts.map(({ rung, layers, plan, strace, isEqual }) => [
        rung,
        layers,
        line(plan),
        line(strace),
        isEqual ? 'equal' : '**not equal**',
      ]),
    },
  }
}

/** @param {Cell[]} cells @param {Measured} measured @param {string} floor @returns {Section} */
export function timesTable(cells, measured, floor) {
  const found = ({ id }) => (measured.get(id) ?? []).map(({ compose }) => compose.p50)
  const rows = cells
    .filter(({ subject }) => subject !== floor)
    .map((cell) => {
      const beside = cells.find(({ subject, task }) => subject === floor && task.layers === cell.task.layers)
      const [own, other] = [found(cell), found(beside)]
      return [
        cell.subject.split('/')[1],
        cell.task.layers,
        formatSummary(summarize(own)),
        formatSummary(summarize(other)),
        `${format(median(own) / median(other))} ×`,
      ]
    })
  return {
    title: `Compose, µs: the Sync form beside ${floor}`,
    text: 'The median of a process, ± half the distance of the quartiles over the rounds.',
    table: { columns: ['rung', 'layers', 'overlayfd', floor, 'ratio'], rows },
  }
}

/** @param {Cell[]} cells @param {Measured} measured @returns {Section} */
export function excessTable(cells, measured) {
  return {
    title: "The mount table's longest excess over the targets",
    text:
      'Mounts and unmounts below a shared `/`, 10 layers, 4 in flight, while a program in C reads the mount table without a ' +
      'pause. The last row is the way of container runtimes, which does attach something: that much would be seen.',
    table: {
      columns: ['what', 'mounts', 'looks', 'targets seen at once', 'excess'],
      rows: cells.map(({ id, task }) => {
        const [one] = measured.get(id) ?? []
        if (one === undefined) return [id, task.mounts, '–', '–', '–']
        return [id, one.mounts, one.samples, one.targets, one.excess]
      }),
    },
  }
}
