/** Whether it matters how many mounts there are already. */

/** @type {import('./index.mjs').Trial} */
export const mountTable = {
  name: 'mount-table',
  title: 'Beside a mount table',
  text: 'Mounts in the same mount namespace that have nothing to do with it. 50 layers, one in flight.',
  x: 'entries',
  values: [0, 1000, 20_000],
  task: (value) => ({ measure: 'cycle', layers: 50, idmap: 'shared', inFlight: 1, table: Number(value) }),
  metrics: [{ name: 'compose', path: 'compose.p50', title: 'compose', unit: 'µs' }],
}
