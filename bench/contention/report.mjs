/**
 * What a contention run comes to: pure, from what was measured to sections with tables and charts.
 */
import { lineChart } from '../support/chart.mjs'
import { format, formatSummary, Latencies, summarize } from '../support/statistics.mjs'
import { describeScalability, fitScalability } from '../usl.mjs'
import { scalabilityChart } from './chart.mjs'
import { gracePeriods, lockSections, rawTrace } from './kernel-report.mjs'
import { describeUnrest, neighbourSection, rawNeighbour } from './neighbour-report.mjs'

/** A percentile of fewer values than these is one of the outermost two or three: it is not shown. */
const ENOUGH = { p50: 5, p99: 200, p999: 2000 }

/** @returns {Omit<import('../support/results.mjs').Results, 'machine' | 'command'>} */
export const report = ({ storms, besides, traces, failures, strategies, plan, untraced, machine }) => {
  const rows = summarizeStorms(storms, strategies, plan)
  const fits = fitAll(rows, strategies, plan)
  return {
    title: 'The host under a storm of container starts',
    text: introduction({ storms, besides, strategies, plan, machine, failures }),
    sections: [
      ...plan.layers.map((layers) => bestSection(layers, rows, fits)),
      ...plan.layers.map((layers) => latencySection(layers, rows)),
      gracePeriods({ strategies, traces, layers: plan.trace.layers, untraced }),
      ...lockSections(traces, plan.trace, untraced),
      neighbourSection(besides, plan.beside),
    ],
    raw: {
      plan,
      storms: storms.map(({ composes, placement, strategy, ...rest }) => ({
        strategy: strategy.name,
        ...rest,
        containers: composes.length,
        composes: recorded(composes).summary(),
      })),
      fits,
      besides: besides.map(rawNeighbour),
      traces: traces.map(rawTrace),
      untraced,
      // why is on the console: messages have paths of the machine in them
      failures: failures.map(({ name }) => name),
    },
  }
}

const introduction = ({ storms, besides, strategies, plan, machine, failures }) => {
  const { cpus, allowedCpus, sockets } = machine
  const unrest = describeUnrest(besides)
  const placement = storms.find((storm) => storm.placement !== undefined)?.placement
  return [
    `Measured on the machine named above, with ${allowedCpus} of its ${cpus} CPUs on ${sockets} ${sockets === 1 ? 'socket' : 'sockets'}, and on no other. ` +
      '**More cores and more sockets were not measured.** What mount_lock and namespace_sem cost grows with both; the collapse that large hosts have seen ' +
      'does not show on a few CPUs. Run this on the host that matters.',
    '',
    `Each storm starts ${plan.containers} containers or lasts ${plan.seconds} s, whichever is first: so many at once are composed (layers, upper and work directory, ` +
      'idmapped, on a tmpfs), attached, and unmounted again. In flight are threads of the C programs, or calls that wait for one process of overlayfd' +
      `${placement === undefined ? '' : ` (its composing threads: ${placement})`}. The clock of the throughput stops when the last superblock is gone.`,
    '',
    ...(unrest === undefined ? [] : [unrest, '']),
    ...strategies.map(({ name, about }) => `- ${name}: ${about}`),
    ...failures.map(({ name }) => `- **failed, and is missing here: ${name}**`),
  ].join('\n')
}

const recorded = (composes, into = new Latencies()) => {
  for (const each of composes) into.record(each)
  return into
}

const summarizeStorms = (storms, strategies, { layers, concurrencies }) =>
  layers.flatMap((eachLayers) =>
    strategies.flatMap((strategy) =>
      concurrencies.flatMap((concurrency) => {
        const mine = storms.filter(
          (storm) =>
            storm.strategy === strategy &&
            storm.size.layers === eachLayers &&
            storm.size.concurrency === concurrency,
        )
        if (mine.length === 0) return []
        const latencies = new Latencies()
        for (const { composes } of mine) recorded(composes, latencies)
        const throughput = summarize(mine.map(({ composes, seconds }) => composes.length / seconds))
        return {
          strategy: strategy.name,
          layers: eachLayers,
          concurrency,
          throughput,
          ...latencies.summary(),
        }
      }),
    ),
  )

const fitAll = (rows, strategies, { layers }) =>
  layers.flatMap((eachLayers) =>
    strategies.map(({ name }) => {
      const points = rows
        .filter((row) => row.strategy === name && row.layers === eachLayers && row.throughput.median > 0)
        .map(({ concurrency, throughput }) => ({ concurrency, throughput: throughput.median }))
      const fit = fitScalability(points)
      return { strategy: name, layers: eachLayers, verdict: describeScalability(points, fit), ...fit }
    }),
  )

const bestSection = (layers, rows, fits) => {
  const here = fits.filter((fit) => fit.layers === layers)
  return {
    title: `The best concurrency, ${plural(layers, 'layer')}`,
    text: [
      'The Universal Scalability Law fitted to containers per second: σ is what is done one after the other, κ what each pays for each other.',
      '',
      ...here.map(({ strategy, verdict }) => `- ${strategy}: ${verdict}`),
    ].join('\n'),
    chart: {
      name: `throughput-${layers}`,
      spec: scalabilityChart(
        `Containers started and taken down per second, ${plural(layers, 'layer')}`,
        rows.filter((row) => row.layers === layers),
        here.filter((fit) => fit.isFitted && fit.isTrusted),
      ),
    },
  }
}

const latencySection = (layers, rows) => {
  const here = rows.filter((row) => row.layers === layers)
  const shown = (row, which) => (row.count < ENOUGH[which] ? '–' : format(row[which] / 1e3))
  return {
    title: `From the call to the mount, ${plural(layers, 'layer')}`,
    text: 'Milliseconds that a container waits for its root filesystem; of all rounds together. A percentile of too few containers is left out. Throughput is the median of the rounds ± half the distance of the quartiles.',
    table: {
      columns: ['strategy', 'in flight', 'containers/s', 'p50, ms', 'p99, ms', 'p99.9, ms', 'containers'],
      rows: here.map((row) => [
        row.strategy,
        row.concurrency,
        row.throughput.count > 1 ? formatSummary(row.throughput) : format(row.throughput.median),
        shown(row, 'p50'),
        shown(row, 'p99'),
        shown(row, 'p999'),
        row.count,
      ]),
    },
    chart: {
      name: `p99-${layers}`,
      spec: lineChart({
        title: `99th percentile of the time to be mounted, ${plural(layers, 'layer')}`,
        x: 'containers in flight',
        y: 'ms',
        isLogX: true,
        isLogY: true,
        points: here
          .filter(({ count }) => count >= ENOUGH.p99)
          .map(({ strategy, concurrency, p99 }) => ({ x: concurrency, series: strategy, y: p99 / 1e3 })),
      }),
    },
  }
}

const plural = (count, word) => `${count} ${count === 1 ? word : `${word}s`}`
