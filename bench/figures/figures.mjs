/**
 * The figures to reach, as data. A figure compares a number of overlayfd's with one of somebody else's, or with its
 * own in other circumstances; all are measured in one run, in turns.
 *
 * `ours` and `against` are measurements: what was measured (`metric`) of a cell, a contender with a task. Where
 * `against` has many, the best of them counts. `limit` is what `ratio` must reach: at least, or at most.
 */

/** @typedef {import('../rounds.mjs').Task} Task */
/** @typedef {import('../rounds.mjs').Cell} Cell */

/**
 * @typedef {object} Measurement
 * @property {Cell} cell
 * @property {string} metric a path into what was measured, `compose.p50`
 * @property {string} unit
 *
 * @typedef {object} Figure
 * @property {string} name for --only
 * @property {string} what
 * @property {{ atLeast: number } | { atMost: number }} limit of the ratio
 * @property {Measurement} ours
 * @property {Measurement[]} against the best of them
 * @property {Measurement} [unit] the ratio is then (ours − against) / unit
 */

const FLOOR_THREADS = [1, 2, 4, 8, 16]
const OURS = 'overlayfd/detached-tree'

/** @type {Task} */
const usual = { measure: 'cycle', layers: 50, idmap: 'shared', inFlight: 64 }

/** @param {string} subject @param {Task} task @returns {Cell} */
function cell(subject, task) {
  const { measure, layers, idmap, inFlight, table, isAlone } = task
  const words = [
    measure,
    layers === 1 ? '1 layer' : `${layers} layers`,
    `idmap ${idmap}`,
    `${inFlight} in flight`,
  ]
  if (table !== undefined) words.push(`table ${table}`)
  if (isAlone) words.push('alone')
  return { id: `${subject}: ${words.join(', ')}`, subject, task }
}

const perSecond = (/** @type {string} */ subject, /** @type {Task} */ task) => ({
  cell: cell(subject, task),
  metric: 'perSecond',
  unit: '/s',
})
const compose = (/** @type {string} */ subject, /** @type {Task} */ task) => ({
  cell: cell(subject, task),
  metric: 'compose.p50',
  unit: 'µs',
})

/** @param {string} variants @param {Partial<Task>} [task] @returns {Measurement[]} with each number of threads */
const floors = (variants, task) =>
  [...variants].flatMap((variant) =>
    FLOOR_THREADS.map((inFlight) => perSecond(`floor/${variant}`, { ...usual, ...task, inFlight })),
  )

const alone = { ...usual, inFlight: 1 }
const checked = { ...usual, isChecked: true }
const batch = (/** @type {number} */ table) => ({
  cell: cell(OURS, { ...usual, measure: 'batch', inFlight: 16, table }),
  metric: 'batch',
  unit: 'ms',
})
const processor = (/** @type {number} */ layers) => ({
  cell: cell(OURS, { ...usual, measure: 'processor', inFlight: 1, layers }),
  metric: 'processor',
  unit: 'µs',
})

/** @type {Figure[]} */
export const figures = [
  {
    name: 'storm-50',
    what: 'mounts + unmounts per second, 50 idmapped layers, warm stack, 64 in flight; best of floor k, m',
    limit: { atLeast: 0.95 },
    ours: perSecond(OURS, checked),
    against: floors('km'),
  },
  {
    name: 'storm-1',
    what: 'the same with 1 layer; best of floor k, m',
    limit: { atLeast: 0.9 },
    ours: perSecond(OURS, { ...checked, layers: 1 }),
    against: floors('km', { layers: 1 }),
  },
  {
    name: 'own-mapping',
    what: 'the same, 50 layers, a new mapping for every container; best of floor n',
    limit: { atLeast: 0.95 },
    ours: perSecond(OURS, { ...checked, idmap: 'own' }),
    against: floors('n', { idmap: 'own' }),
  },
  {
    name: 'common-parent',
    what: 'throughput, 50 layers, 64 in flight; best of the common-parent way (floor b)',
    limit: { atLeast: 1 },
    ours: perSecond(OURS, checked),
    against: floors('b'),
  },
  {
    name: 'common-parent-sync',
    what: 'compose, 50 layers, 1 in flight, Sync form; the common-parent way (floor b)',
    limit: { atMost: 0.8 },
    ours: compose(`${OURS}/sync`, { ...alone, isAlone: true }),
    against: [compose('floor/b', alone)],
  },
  {
    name: 'per-layer',
    what: 'throughput, 50 layers, 64 in flight; best of the per-layer way (floor a)',
    limit: { atLeast: 8 },
    ours: perSecond(OURS, checked),
    against: floors('a'),
  },
  {
    name: 'sync',
    what: 'compose, 50 layers, 1 in flight, Sync form; floor m',
    limit: { atMost: 1.1 },
    ours: compose(`${OURS}/sync`, { ...alone, isAlone: true }),
    against: [compose('floor/m', alone)],
  },
  {
    name: 'awaited',
    what: 'latency of one awaited mount, 50 layers, above floor m, in units of one awaited fs.promises.access',
    limit: { atMost: 1.3 },
    ours: compose(OURS, { ...alone, isAlone: true }),
    against: [compose('floor/m', alone)],
    unit: { cell: cell(OURS, { ...alone, isAlone: true }), metric: 'access.p50', unit: 'µs' },
  },
  {
    name: 'mount8',
    what: 'mounts + unmounts per second, 1 layer, no idmap, 8 in flight; mount(8) and umount(8) by child process',
    limit: { atLeast: 40 },
    ours: perSecond('overlayfd/direct', { ...usual, layers: 1, idmap: 'none', inFlight: 8 }),
    against: [perSecond('mount(8)', { ...usual, layers: 1, idmap: 'none', inFlight: 8 })],
  },
  {
    name: 'processor',
    what: 'CPU time of the JS thread per warm mount, 50 begun together, 500 layers; 1 layer',
    limit: { atMost: 1.2 },
    ours: processor(500),
    against: [processor(1)],
  },
  {
    name: 'mount-table',
    what: '100 containers beside a mount table of 20,000 entries; beside an empty one',
    limit: { atMost: 1.2 },
    ours: batch(20_000),
    against: [batch(0)],
  },
]
