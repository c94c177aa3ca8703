/** How long it takes from `import` to the first root filesystem, in a fresh process. */

/** @type {import('./index.mjs').Trial} */
export const first = {
  name: 'first',
  title: 'From import to the first mount',
  text: 'A fresh Node process each, whose own start is not in it; 50 layers. Layers and directories are there already.',
  x: 'idmap',
  values: ['none', 'shared'],
  task: (value) => ({
    measure: 'first',
    layers: 50,
    idmap: /** @type {'none' | 'shared'} */ (value),
    inFlight: 1,
  }),
  metrics: [{ name: 'time', path: 'first', title: 'first mount', unit: 'ms' }],
}
