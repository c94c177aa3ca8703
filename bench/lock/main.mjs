/**
 * `npm run bench -- lock`: what the hardware adds when one lock goes from CPU to CPU.
 *
 * Threads spin on one ticket lock (lock.c), placed by topology: SMT siblings, one L3 cache, several, other sockets. No
 * system call is made and nothing is mounted. The kernel's mount locks are passed on in the same way, once or more a
 * mount, so this is the price below which no software gets on this machine, and why threads are kept together.
 */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { topology } from '../../dist/index.js'
import { isKept, pick } from '../options.mjs'
import { rotated } from '../rounds.mjs'
import { lineChart } from '../support/chart.mjs'
import { BenchError, runChild } from '../support/child.mjs'
import { compile } from '../support/compile.mjs'
import { describeMachine } from '../support/machine.mjs'
import { Progress } from '../support/progress.mjs'
import { save, toMarkdown } from '../support/results.mjs'
import { format, formatSummary, summarize } from '../support/statistics.mjs'
import { describeScalability, fitScalability } from '../usl.mjs'
import { placementsOf, threadCounts } from './placements.mjs'

/** Of a slice: so short that a busy machine has some in which no thread lost its CPU. */
const MILLISECONDS = 2

/** A slice that took so many times the fastest one's time a handoff was disturbed. */
const DISTURBED = 2

/** With a larger share of such slices the machine was at something else, and even the good ones are doubtful. */
const BUSY = 0.5

const SOURCE = fileURLToPath(new URL('lock.c', import.meta.url))

/**
 * @typedef {{ acquisitions: number, handoffs: number, nanoseconds: number }} Slice
 * @typedef {{ name: string, placement: string, cpus: number[] }} Cell a thread on each CPU
 */

/** @param {import('../options.mjs').RunOptions} options */
export const run = async ({ only, list, rounds, quick, output, directory, command }) => {
  const here = topology()
  const found = placementsOf(here)
  const placements = pick(found.placements, only)
  if (list) return console.log(found.placements.map(({ name }) => name).join('\n'))

  const cells = cellsOf(placements, here.allowed.cpus[0])
  const measured = await measure(cells, {
    directory,
    rounds: rounds ?? (quick ? 1 : 5),
    slices: quick ? 100 : 200,
  })
  const machine = await describeMachine()
  const results = { ...report({ cells, measured, placements, missing: found.missing }), command, machine }
  const withoutCharts = results.sections.map(({ chart, ...section }) => section)
  console.log(toMarkdown('lock', { ...results, sections: withoutCharts }))
  if (isKept({ output, quick, only })) console.log((await save('lock', results, { output })).join('\n'))
}

/** One thread alone, and each placement with 2, 4, … threads. */
export const cellsOf = (placements, first) => [
  { name: 'alone', placement: 'one thread alone', cpus: [first] },
  ...placements.flatMap((placement) =>
    threadCounts(placement).map((threads) => ({
      name: `${placement.name}, ${threads} threads`,
      placement: placement.name,
      cpus: placement.cpus.slice(0, threads),
    })),
  ),
]

/** What lock.c prints. @param {string} text @returns {Slice[]} */
export const parseSlices = (text) =>
  text
    .trimEnd()
    .split('\n')
    .map((line) => {
      const match = /^(\d+) (\d+) (\d+)$/.exec(line)
      if (match === null)
        throw new BenchError(`lock.c: expected three numbers, received ${JSON.stringify(line)}`)
      const [acquisitions, handoffs, nanoseconds] = match.slice(1).map(Number)
      return { acquisitions, handoffs, nanoseconds }
    })

/** @param {Cell[]} cells @returns {Promise<Map<string, Slice[]>>} by name, of all rounds */
const measure = async (cells, { directory, rounds, slices }) => {
  const program = join(directory, 'lock')
  await compile(SOURCE, program, 'lock.c', ['-pthread'])
  const measured = new Map(cells.map(({ name }) => [name, []]))
  const progress = new Progress(cells.length * rounds)
  try {
    for (let round = 0; round < rounds; round++) {
      for (const { name, cpus } of rotated(cells, round, rounds)) {
        progress.step(`round ${round + 1}: ${name}`)
        const args = [slices, MILLISECONDS, ...cpus].map(String)
        measured.get(name).push(...parseSlices(await runChild(program, args, { what: name, seconds: 60 })))
      }
    }
  } finally {
    progress.end()
  }
  return measured
}

/**
 * @param {{ cells: Cell[], measured: Map<string, Slice[]>, placements: import('./placements.mjs').Placement[],
 *   missing: import('./placements.mjs').Missing[] }} what
 */
export const report = ({ cells, measured, placements, missing }) => {
  const rows = cells.map((cell) => {
    const slices = measured.get(cell.name)
    const { costs, disturbed } = undisturbed(slices, cell.cpus.length)
    const cost = summarize(costs)
    return { ...cell, threads: cell.cpus.length, cost, throughput: 1e9 / cost.median, disturbed }
  })
  const [alone] = rows
  const fits = placements.map(({ name }) => {
    const points = [alone, ...rows.filter(({ placement }) => placement === name)]
    const at = points
      .filter(({ throughput }) => throughput > 0) // none: not one slice with a handoff
      .map(({ threads, throughput }) => ({ concurrency: threads, throughput }))
    const fit = fitScalability(at)
    return { placement: name, verdict: describeScalability(at, fit), ...fit }
  })
  return {
    title: 'One lock, passed on from CPU to CPU',
    text: limits({ placements, missing, rows }),
    sections: [costs(rows), scalability(fits)],
    raw: { rows, fits, missing, slices: Object.fromEntries(measured) },
  }
}

/**
 * Nanoseconds a handoff (of one thread: an acquisition), slice by slice. A thread that loses its CPU has the others wait
 * for milliseconds, or leaves the lock to one that need not hand it on: that is the scheduler's and not the
 * hardware's, and such slices are left out. The share of them is told.
 */
const undisturbed = (slices, threads) => {
  const all = slices.map(({ acquisitions, handoffs, nanoseconds }) =>
    threads === 1 ? nanoseconds / acquisitions : nanoseconds / handoffs,
  )
  const fastest = all.reduce((least, cost) => Math.min(least, cost), Infinity)
  const costs = all.filter((cost) => Number.isFinite(cost) && cost <= DISTURBED * fastest)
  return { costs, disturbed: 1 - costs.length / all.length }
}

const limits = ({ placements, missing, rows }) => {
  const isBusy = rows.some(({ disturbed }) => disturbed > BUSY)
  const most = Math.max(1, ...placements.map(({ cpus }) => cpus.length))
  return [
    'Measured on the machine named above and on no other. More cores than it has were not measured, nor these placements:',
    '',
    `- more than ${most} ${most === 1 ? 'thread' : 'threads'}`,
    ...missing.map(({ name, reason }) => `- ${name}: ${reason}`),
    '',
    ...(isBusy
      ? [
          '**The machine was not idle**: most slices of a row were disturbed. Run it again when nothing else runs.',
          '',
        ]
      : []),
    'A virtual machine has the topology that its hypervisor tells, and its CPUs may share real ones.',
  ].join('\n')
}

const costs = (rows) => {
  const [alone, ...placed] = rows
  return {
    title: 'Nanoseconds from one acquisition to the next',
    text:
      'The median of short slices, ± half the distance of the quartiles. A single thread takes a lock that it already has in its ' +
      'cache; with more, each acquisition hands the lock, and the line that it protects, to another CPU. What is added is the hardware. ' +
      `Slices of more than ${DISTURBED} times the fastest are left out: a thread had lost its CPU.`,
    table: {
      columns: ['placement', 'CPUs', 'threads', 'ns', 'added, ns', 'acquisitions/s', 'slices left out'],
      rows: rows.map(({ placement, cpus, threads, cost, throughput, disturbed }) => [
        placement,
        cpus.join(' '),
        threads,
        formatSummary(cost),
        threads === 1 ? '' : format(cost.median - alone.cost.median),
        format(throughput),
        `${Math.round(disturbed * 100)} %`,
      ]),
    },
    ...(placed.length > 0 && {
      chart: {
        name: 'handoff',
        spec: lineChart({
          title: 'One lock: time from one acquisition to the next',
          x: 'threads, each on a CPU of its own',
          y: 'ns (median)',
          points: [...new Set(placed.map(({ placement }) => placement))].flatMap((series) =>
            [alone, ...placed.filter(({ placement }) => placement === series)].map(({ threads, cost }) => ({
              x: threads,
              series,
              y: cost.median,
              low: cost.low,
              high: cost.high,
            })),
          ),
        }),
      },
    }),
  }
}

const scalability = (fits) => ({
  title: 'How many threads are best',
  text: [
    'The Universal Scalability Law, fitted to acquisitions per second. With no work outside of the lock one thread alone is always best; how steeply it falls is what κ tells.',
    '',
    ...(fits.length === 0 ? ['- No placement has two CPUs that may be used: nothing is fitted.'] : []),
    ...fits.map(({ placement, verdict }) => `- ${placement}: ${verdict}`),
  ].join('\n'),
})
