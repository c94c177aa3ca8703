/**
 * All trials. Each is data: what is varied, the task for a value of it, what is looked at.
 */
import { cold } from './cold.mjs'
import { concurrency } from './concurrency.mjs'
import { first } from './first.mjs'
import { idmap } from './idmap.mjs'
import { layers } from './layers.mjs'
import { layersWithoutIdmap } from './layers-without-idmap.mjs'
import { mountTable } from './mount-table.mjs'
import { ownMapping } from './own-mapping.mjs'
import { teardown } from './teardown.mjs'

/**
 * @typedef {object} Metric
 * @property {string} name in kebab-case, for the chart's file
 * @property {string} path into what was measured
 * @property {string} title
 * @property {string} unit
 *
 * @typedef {object} Trial
 * @property {string} name for --only
 * @property {string} title
 * @property {string} text what has to be known to read the table
 * @property {string} x what is varied
 * @property {(number | string)[]} values of it: numbers give lines, words bars
 * @property {(value: number | string) => import('../rounds.mjs').Task} task
 * @property {(name: string) => boolean} [contenders] default all that do not refuse
 * @property {Metric[]} metrics a table and a chart each
 * @property {boolean} [isLog] whether the charts' axes are logarithmic
 */

/** @type {Trial[]} */
export const trials = [
  layers,
  layersWithoutIdmap,
  concurrency,
  ownMapping,
  idmap,
  cold,
  teardown,
  mountTable,
  first,
]
