/**
 * Charts: a Vega-Lite specification in, the text of an SVG out. No browser and no canvas.
 *
 * Three shapes are in use: lines over a number (layers, what is in flight), bars and dots over names.
 */

/**
 * Where it is, of which series, its value, and the quartiles around it where there are any.
 * @typedef {{ x: number | string, series: string, y: number, low?: number, high?: number }} Point
 */

const SCHEMA = 'https://vega.github.io/schema/vega-lite/v6.json'
const LOOK = {
  background: 'white',
  font: 'sans-serif',
  legend: { labelLimit: 320, symbolOpacity: 1 },
  axis: { labelLimit: 320 },
}

/**
 * @param {object} spec of Vega-Lite
 * @returns {Promise<string>} SVG
 */
export async function renderChart(spec) {
  // loaded here: they take half a second, and most runs of most modules draw nothing
  const [{ compile }, vega] = await Promise.all([import('vega-lite'), import('vega')])
  // errors only: it warns that bars and the lines across them share an axis in each group, as they are meant to
  const { spec: compiled } = compile(spec, { logger: vega.logger(vega.Error) })
  const view = new vega.View(vega.parse(compiled), { renderer: 'none' })
  try {
    return await view.toSVG()
  } finally {
    view.finalize()
  }
}

/**
 * Lines over a number, with the quartiles as a band.
 * @param {{ title: string, x: string, y: string, points: Point[], isLogX?: boolean, isLogY?: boolean }} chart
 *   `x` and `y` are the titles of the axes
 * @returns {object} a specification
 */
export function lineChart({ title, x, y, points, isLogX = false, isLogY = false }) {
  const values = points.filter((point) => Number.isFinite(point.y))
  const ticks = [...new Set(values.map((point) => point.x))]
  const xAxis = {
    field: 'x',
    type: 'quantitative',
    title: x,
    axis: { values: ticks },
    scale: isLogX ? { type: 'log', nice: false } : { zero: true },
  }
  const scale = isLogY ? { type: 'log' } : { zero: true }
  const color = { field: 'series', type: 'nominal', title: null, sort: null }
  const yAxis = { field: 'y', type: 'quantitative', title: y, scale }
  return {
    $schema: SCHEMA,
    config: LOOK,
    title,
    width: 560,
    height: 340,
    data: { values },
    encoding: { x: xAxis, color },
    layer: [
      {
        mark: { type: 'area', opacity: 0.15 },
        transform: [{ filter: 'isValid(datum.low) && isValid(datum.high)' }],
        encoding: { y: { field: 'low', type: 'quantitative', title: y, scale }, y2: { field: 'high' } },
      },
      { mark: { type: 'line', point: true }, encoding: { y: yAxis } },
    ],
  }
}

/**
 * Horizontal bars: a group for each x, in it a bar for each series that it has, with the quartiles as a line.
 * @param {{ title: string, y: string, points: Point[] }} chart `y` is the title of the values' axis
 * @returns {object} a specification
 */
export function barChart({ title, y, points }) {
  // without quartiles the line is a point
  const values = points
    .filter((point) => Number.isFinite(point.y))
    .map((point) => ({ low: point.y, high: point.y, ...point }))
  const groups = [...new Set(values.map((point) => point.x))]
  const series = { field: 'series', type: 'nominal', title: null, sort: null }
  return {
    $schema: SCHEMA,
    config: LOOK,
    title,
    data: { values },
    facet: { row: { field: 'x', type: 'nominal', title: null, sort: groups, header: { labelAngle: 0 } } },
    spec: {
      width: 560,
      encoding: { y: series },
      layer: [
        {
          mark: { type: 'bar' },
          encoding: {
            x: { field: 'y', type: 'quantitative', title: y },
            color: { ...series, legend: null },
          },
        },
        {
          mark: { type: 'rule' },
          encoding: { x: { field: 'low', type: 'quantitative', title: y }, x2: { field: 'high' } },
        },
      ],
    },
    resolve: { scale: { y: 'independent' } },
  }
}

/**
 * Dots over names on a logarithmic axis, where bars would have no foot to stand on.
 * @param {{ title: string, y: string, points: Point[] }} chart `y` is the title of the values' axis
 * @returns {object} a specification
 */
export function dotChart({ title, y, points }) {
  return {
    $schema: SCHEMA,
    config: LOOK,
    title,
    width: 560,
    data: { values: points.filter((point) => point.y > 0) },
    mark: { type: 'point', filled: true, size: 70 },
    encoding: {
      y: { field: 'x', type: 'nominal', title: null, sort: null, axis: { grid: true } },
      x: { field: 'y', type: 'quantitative', title: y, scale: { type: 'log' } },
      color: { field: 'series', type: 'nominal', title: null, sort: null },
    },
  }
}
