/**
 * Throughput over concurrency: what was measured as points, the law that was fitted as a curve, in one colour each.
 */
import { curve } from '../usl.mjs'

/**
 * @param {string} title
 * @param {{ strategy: string, concurrency: number, throughput: { median: number } }[]} rows
 * @param {(import('../usl.mjs').Fit & { strategy: string })[]} fits
 * @returns {object} a Vega-Lite specification
 */
export const scalabilityChart = (title, rows, fits) => {
  const points = rows.map(({ strategy, concurrency, throughput }) => ({
    strategy,
    concurrency,
    perSecond: throughput.median,
  }))
  const curves = fits.flatMap((fit) =>
    curve(fit).map(({ concurrency, throughput }) => ({
      strategy: fit.strategy,
      concurrency,
      perSecond: throughput,
    })),
  )
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    config: { background: 'white', font: 'sans-serif', legend: { labelLimit: 320 } },
    title,
    width: 560,
    height: 340,
    encoding: {
      x: {
        field: 'concurrency',
        type: 'quantitative',
        title: 'containers in flight',
        axis: { values: [...new Set(points.map(({ concurrency }) => concurrency))] },
        scale: { type: 'log', base: 2, nice: false },
      },
      y: { field: 'perSecond', type: 'quantitative', title: 'containers per second; line: fitted law' },
      color: { field: 'strategy', type: 'nominal', title: null, sort: null },
    },
    layer: [
      { data: { values: curves }, mark: { type: 'line', opacity: 0.6 } },
      { data: { values: points }, mark: { type: 'point', filled: true, size: 50, opacity: 1 } },
    ],
  }
}
