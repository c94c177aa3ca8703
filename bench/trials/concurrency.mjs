/** What more at a time bring: workers that each mount and unmount in turns; of the C floor, threads. */

/** @type {import('./index.mjs').Trial} */
export const concurrency = {
  name: 'concurrency',
  title: 'In flight, one mapping',
  text: 'Contenders whose calls block their thread have one in flight.',
  x: 'in flight',
  values: [1, 4, 16, 64],
  task: (value) => ({ measure: 'cycle', layers: 50, idmap: 'shared', inFlight: Number(value) }),
  metrics: [
    { name: 'throughput', path: 'perSecond', title: 'mounts and unmounts', unit: 'per second' },
    { name: 'compose', path: 'compose.p50', title: 'compose', unit: 'µs' },
  ],
  isLog: true,
}
