/** What an idmap costs: none, one for all, one each. */

/** @type {import('./index.mjs').Trial} */
export const idmap = {
  name: 'idmap',
  title: 'Idmap',
  text: 'none: layers as they are; shared: one mapping for all; own: a mapping each. 50 layers, 16 in flight.',
  x: 'idmap',
  values: ['none', 'shared', 'own'],
  task: (value) => ({
    measure: 'cycle',
    layers: 50,
    idmap: /** @type {'none' | 'shared' | 'own'} */ (value),
    inFlight: 16,
  }),
  metrics: [{ name: 'throughput', path: 'perSecond', title: 'mounts and unmounts', unit: 'per second' }],
}
