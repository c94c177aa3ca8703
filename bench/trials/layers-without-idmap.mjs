/** The same where nothing is idmapped: other rungs, and mount(8). */
import { layers } from './layers.mjs'

/** @type {import('./index.mjs').Trial} */
export const layersWithoutIdmap = {
  ...layers,
  name: 'layers-without-idmap',
  title: 'Layers, not idmapped',
  text: 'One in flight.',
  task: (value) => ({ ...layers.task(value), idmap: 'none' }),
}
