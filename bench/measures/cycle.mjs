/**
 * Mount and unmount in turns, by as many workers as are to be in flight: throughput, and the latency of each.
 *
 * The clock of the throughput stops when everything is gone, superblocks included. Where a task `isAlone`, each worker
 * waits for that after each mount, so that the latencies are of a mount beside which nothing runs, and an awaited
 * fs.promises.access is measured in turns with it: what any asynchronous call costs here.
 */
import { access } from 'node:fs/promises'
import { slabSettled } from '../support/leftovers.mjs'
import { Latencies } from '../support/statistics.mjs'

/** @param {import('../rounds.mjs').Task} task @returns {number} how many containers it needs */
export function containersOf({ inFlight }) {
  return inFlight
}

/** So many times as long as is measured: caches fill, threads start, and V8 compiles what is warm a second time. */
const WARM_UP = 2.5

/** @type {import('../support/drive.mjs').Measure} */
export async function measure(session, containers, task, { milliseconds }) {
  await cycle(session, containers, task, milliseconds * WARM_UP)
  const before = task.isChecked ? await slabSettled(0) : 0
  const { seconds, mounts, ...latencies } = await cycle(session, containers, task, milliseconds)
  const kept = task.isChecked ? { slab: { before, after: await slabSettled(before), mounts } } : {}
  return { perSecond: mounts / seconds, mounts, ...latencies, ...kept }
}

/**
 * @param {import('../support/drive.mjs').Session} session
 * @param {import('../support/scratch.mjs').Container[]} containers one for each worker
 * @param {import('../rounds.mjs').Task} task
 * @param {number} milliseconds
 */
async function cycle(session, containers, { isAlone = false }, milliseconds) {
  const [compose, teardown, accesses] = [new Latencies(), new Latencies(), new Latencies()]
  const { isSync } = session
  const withAccess = isAlone && !isSync
  const begin = performance.now()
  const worker = async (/** @type {import('../support/scratch.mjs').Container} */ container) => {
    do {
      const start = performance.now()
      const made = session.compose(container)
      const handle = isSync ? made : await made
      const composed = performance.now()
      const taken = session.teardown(handle)
      if (!isSync) await taken
      compose.record((composed - start) * 1e3)
      teardown.record((performance.now() - composed) * 1e3)
      if (isAlone) await session.idle()
      if (withAccess) {
        const called = performance.now()
        await access(container.target)
        accesses.record((performance.now() - called) * 1e3)
      }
    } while (performance.now() - begin < milliseconds)
  }
  await Promise.all(containers.map(worker))
  await session.idle()
  return {
    seconds: (performance.now() - begin) / 1e3,
    mounts: compose.count,
    compose: compose.summary(),
    teardown: teardown.summary(),
    ...(withAccess && { access: accesses.summary() }),
  }
}
