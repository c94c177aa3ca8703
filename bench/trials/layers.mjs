/** How the time grows with the number of layers, idmapped. */

/** @type {import('./index.mjs').Trial} */
export const layers = {
  name: 'layers',
  title: 'Layers, idmapped',
  text: 'One in flight, one mapping for all. A stack, a tree or nothing is kept open, as the contender does.',
  x: 'layers',
  values: [1, 10, 50, 200, 500],
  task: (value) => ({ measure: 'cycle', layers: Number(value), idmap: 'shared', inFlight: 1 }),
  metrics: [
    { name: 'compose', path: 'compose.p50', title: 'compose', unit: 'µs' },
    { name: 'teardown', path: 'teardown.p50', title: 'unmount', unit: 'µs' },
  ],
  isLog: true,
}
