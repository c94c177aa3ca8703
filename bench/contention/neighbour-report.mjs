/**
 * What the storms did to a process that has nothing to do with them: its latencies beside those of a host without one.
 */
import { lineChart } from '../support/chart.mjs'
import { format } from '../support/statistics.mjs'
import { toLatencies } from './storm.mjs'

/** Microseconds; the histogram is how many lookups took longer than each. */
const BOUNDS = Array.from({ length: 6 }, (_, i) => [10 ** i, 3 * 10 ** i]).flat()

/** A share of the time without a CPU that an idle machine has too. */
const QUIET = 0.05

/** @param {(import('./storm.mjs').Neighbour & { strategy: { name: string } | undefined })[]} besides */
export const neighbourSection = (besides, { layers, concurrency }) => {
  const all = [...new Set(besides.map(({ strategy }) => strategy))].map((strategy) => {
    const mine = besides.filter((each) => each.strategy === strategy)
    return { name: strategy?.name ?? 'no storm', mine, latencies: mine.flatMap((each) => each.latencies) }
  })
  return {
    title: 'An innocent neighbour',
    text:
      `A process that only looks up one path, again and again, beside a storm of ${layers} layers and ${concurrency} in flight. It stalls where it has no CPU, ` +
      'which threads that only compute do to it as well (the second row), and where it waits for a lock: then it sleeps, or it spins and a lookup takes longer.',
    table: {
      columns: [
        'beside',
        'lookups/s',
        'p50, µs',
        'p99, µs',
        'p99.9, µs',
        'longest, ms',
        'without a CPU',
        'asleep',
      ],
      rows: all.map(rowOf),
    },
    chart: {
      name: 'neighbour',
      spec: lineChart({
        title: 'Lookups of the neighbour that took longer',
        x: 'longer than, µs',
        y: 'share of its lookups',
        isLogX: true,
        isLogY: true,
        points: all.flatMap(({ name, latencies }) => {
          const count = countOf(latencies)
          return slowerThan(latencies)
            .filter(({ lookups }) => lookups > 0)
            .map(({ microseconds, lookups }) => ({ x: microseconds, series: name, y: lookups / count }))
        }),
      }),
    },
  }
}

/**
 * Whether somebody else used the machine: from the rounds without a storm, in words for above all tables.
 * @returns {string | undefined} undefined where it was quiet, or where the kernel does not count it
 */
export const describeUnrest = (besides) => {
  const quiet = besides.filter(
    ({ strategy, waitedForCpu }) => strategy === undefined && waitedForCpu !== null,
  )
  const share = sum(quiet, (each) => each.waitedForCpu) / sum(quiet, (each) => each.seconds)
  return share > QUIET
    ? `**The machine was not idle**: without any storm a process that wanted one CPU had none for ${format(share * 100)} % of the time. Run it again when nothing else runs.`
    : undefined
}

/** For the JSON: of one round. */
export const rawNeighbour = ({ strategy, latencies, ...rest }) => ({
  strategy: strategy?.name ?? null,
  ...rest,
  latencies: toLatencies(latencies).summary(),
  slower: Object.fromEntries(
    slowerThan(latencies).map(({ microseconds, lookups }) => [microseconds, lookups]),
  ),
})

const rowOf = ({ name, mine, latencies }) => {
  const { count, p50, p99, p999, max } = toLatencies(latencies).summary()
  const seconds = sum(mine, (each) => each.seconds)
  const waited = sum(mine, (each) => each.waitedForCpu)
  const asleep = seconds - waited - sum(mine, (each) => each.onCpu)
  const isCounted = mine.every(({ onCpu }) => onCpu !== null)
  const share = (part) =>
    isCounted ? `${format((Math.max(0, part) / seconds) * 100)} %` : 'not counted here'
  return [
    name,
    format(count / seconds),
    ...[p50, p99, p999].map(format),
    format(max / 1e3),
    share(waited),
    share(asleep),
  ]
}

const sum = (list, of) => list.reduce((total, each) => total + of(each), 0)

const countOf = (latencies) => sum(latencies, ([, count]) => count)

const slowerThan = (latencies) =>
  BOUNDS.map((microseconds) => ({
    microseconds,
    lookups: countOf(latencies.filter(([nanoseconds]) => nanoseconds > microseconds * 1e3)),
  }))
