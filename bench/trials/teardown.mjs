/** Taking down alone: one by one, all at once, and all with one call. */

/** @type {import('./index.mjs').Trial} */
export const teardown = {
  name: 'teardown',
  title: 'Teardown alone',
  text: '64 mounts of 50 layers are there; until every superblock is gone, per mount. The floor takes down what it has just mounted.',
  x: 'order',
  values: ['one by one', 'at once', 'grouped'],
  task: (value) => ({
    measure: 'teardown',
    layers: 50,
    idmap: 'shared',
    inFlight: 1,
    order: /** @type {'one by one' | 'at once' | 'grouped'} */ (value),
  }),
  metrics: [{ name: 'each', path: 'teardown.p50', title: 'unmount, each', unit: 'µs' }],
}
