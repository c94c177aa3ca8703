/** A LayerStack that is open (warm) against mountOverlay, which opens and closes the layers each time (cold). */

/** @type {import('./index.mjs').Trial} */
export const cold = {
  name: 'cold',
  title: 'Cold and warm',
  text: 'warm: a LayerStack is open; cold: `mountOverlay`, with nothing open. 50 layers, one in flight.',
  x: 'start',
  values: ['warm', 'cold'],
  task: (value) => ({ measure: 'cycle', layers: 50, idmap: 'shared', inFlight: 1, isCold: value === 'cold' }),
  contenders: (name) => name.startsWith('overlayfd/'),
  metrics: [{ name: 'compose', path: 'compose.p50', title: 'compose', unit: 'µs' }],
}
