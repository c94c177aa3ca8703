/**
 * Drives a contender that is JavaScript through a task: directories first, then its session, then the measure.
 *
 * A session is what is open between the mounts: a LayerStack, an idmapped tree, nothing. The C floor drives itself.
 */
import * as batch from '../measures/batch.mjs'
import * as cycle from '../measures/cycle.mjs'
import * as first from '../measures/first.mjs'
import * as processor from '../measures/processor.mjs'
import * as table from '../measures/table.mjs'
import * as teardown from '../measures/teardown.mjs'
import { openFds } from './leftovers.mjs'
import { FIRST_ID } from './scratch.mjs'

/**
 * @typedef {import('../rounds.mjs').Task} Task
 * @typedef {import('./scratch.mjs').Container} Container
 *
 * @typedef {object} Place
 * @property {import('./scratch.mjs').Scratch} scratch of this process
 * @property {string} directory of the whole run, with the C floor's program in it
 * @property {number} milliseconds that it may measure
 *
 * @typedef {object} Session
 * @property {boolean} isSync whether compose and teardown are done when they return, and answer no promise
 * @property {(container: Container) => any} compose answers what teardown takes
 * @property {(handle: any) => any} teardown
 * @property {(handles: any[]) => any} [teardownAll] all with one call
 * @property {() => Promise<void> | void} idle resolves when every superblock is gone
 * @property {() => Promise<void> | void} close
 * @property {() => object} [statistics] the contender's own
 *
 * @typedef {object} Subject a contender
 * @property {string} name
 * @property {string} about for who reads the results
 * @property {(task: Task) => string | undefined | Promise<string | undefined>} refuses why it cannot do the task
 * @property {(task: Task, place: Place) => Promise<import('../rounds.mjs').Measured>} run
 *
 * @typedef {(session: Session, containers: Container[], task: Task, place: Place) => Promise<object>} Measure
 * @typedef {(open: () => Promise<Session>, containers: Container[]) => Promise<object>} MeasureOpening
 */

const measures = { batch, cycle, first, processor, table, teardown }

/**
 * @param {Task} task
 * @param {Place} place
 * @param {(lowerdir: string[], containers: Container[]) => Promise<Session>} openSession
 * @returns {Promise<import('../rounds.mjs').Measured>}
 */
export async function drive(task, place, openSession) {
  const { scratch } = place
  const way = measures[task.measure]
  const lowerdir = scratch.layers(task.layers)
  const containers = scratch.containers(way.containersOf(task), task.idmap === 'none' ? 0 : FIRST_ID)
  await scratch.mountTable(task.table ?? 0)
  const open = () => openSession(lowerdir, containers)
  if ('measureOpening' in way) return way.measureOpening(open, containers)

  const before = openFds()
  const session = await open()
  const measured = await way.measure(session, containers, task, place)
  const statistics = session.statistics?.()
  await session.close()
  return { ...measured, statistics, ...(task.isChecked && { fds: { before, after: openFds() } }) }
}

/**
 * @template T, R
 * @param {T[]} list
 * @param {number} width how many at a time
 * @param {(item: T) => R | Promise<R>} work
 * @returns {Promise<R[]>} in the order of the list
 */
export async function forEachInFlight(list, width, work) {
  const results = /** @type {R[]} */ (new Array(list.length))
  let next = 0
  const worker = async () => {
    while (next < list.length) {
      const index = next++
      results[index] = await work(list[index])
    }
  }
  await Promise.all(Array.from({ length: Math.min(width, list.length) }, worker))
  return results
}
