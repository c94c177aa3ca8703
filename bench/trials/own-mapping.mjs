/** As concurrency.mjs, with a user namespace of its own for each container, made by the contender. */
import { concurrency } from './concurrency.mjs'

/** @type {import('./index.mjs').Trial} */
export const ownMapping = {
  ...concurrency,
  name: 'own-mapping',
  title: 'In flight, a mapping each',
  text: 'Every mount has a mapping that no other has, and the contender makes its user namespace.',
  task: (value) => ({ ...concurrency.task(value), idmap: 'own' }),
}
