/**
 * The ways to start containers that a storm is made of: what runs, and the grace periods that a container waits for.
 *
 * The C ones are variants of bench/floor.c, driven by storm.c: threads that make the calls and nothing else, which is
 * what a runtime written in C could do at best. Driving the same calls from JavaScript (overlayfd/sys in worker threads)
 * would charge them for 50 crossings a container, and 64 isolates.
 *
 * `waits` is arithmetic, counted on Linux 6.18: an umount or a close of a detached tree waits for one grace period, the
 * end of an overlay's superblock for another. Collected trees share theirs, 64 to one. Waiters share grace periods, so
 * fewer may pass than are waited for.
 */
import { pick } from '../options.mjs'

const COLLECTED = 64
const UNMOUNT = 2

/**
 * @typedef {object} Strategy
 * @property {string} name for --only and in tables
 * @property {string} about
 * @property {string} [variant] of floor.c
 * @property {'shared' | 'own'} [mapping] of overlayfd
 * @property {(layers: number) => number} waits for grace periods, a container
 */

/** @type {Strategy[]} */
export const STRATEGIES = [
  {
    name: 'overlayfd',
    about: 'one process, a LayerStack, one mapping',
    mapping: 'shared',
    waits: () => UNMOUNT,
  },
  {
    name: 'overlayfd, own mapping',
    about: 'the same, a new user namespace for each container',
    mapping: 'own',
    waits: () => UNMOUNT + 1 / COLLECTED,
  },
  {
    name: 'per layer',
    about: 'C, floor a: an attached idmapped bind of each layer',
    variant: 'a',
    waits: (layers) => UNMOUNT + layers,
  },
  {
    name: 'common parent',
    about: 'C, floor b: one attached idmapped bind',
    variant: 'b',
    waits: () => UNMOUNT + 1,
  },
  { name: 'floor k', about: 'C: a cached detached tree, layers by name', variant: 'k', waits: () => UNMOUNT },
  { name: 'floor m', about: 'C: a cached detached tree, layers by fd', variant: 'm', waits: () => UNMOUNT },
  {
    name: 'floor n',
    about: 'C: a new user namespace and tree for each container',
    variant: 'n',
    waits: () => UNMOUNT + 1 / COLLECTED,
  },
]

/** @param {string[]} only names; none: all */
export const pickStrategies = (only) => pick(STRATEGIES, only)
