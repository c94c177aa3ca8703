/**
 * What a mount costs the JavaScript thread: its CPU time, by the scheduler's account. Unmounts are not in it.
 *
 * Twice: `awaited`, mounts awaited one by one; and `processor`, mounts begun together, whose results the thread looks
 * at when all are there. The first has a wake-up in each, which costs more the longer the thread has slept: an awaited
 * timer of 4 ms takes twice the CPU time of one of 1 ms, with nothing done in either. The second is the work alone.
 */
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { forEachInFlight } from '../support/drive.mjs'

/** Mounts between two looks at the clock, and how many batches there are at least. */
const BATCH = 50
const LEAST = 3

export function containersOf() {
  return BATCH
}

/** @type {import('../support/drive.mjs').Measure} */
export async function measure(session, containers, _task, { milliseconds }) {
  const compose = (/** @type {import('../support/scratch.mjs').Container} */ container) =>
    session.compose(container)
  const takeDown = async (/** @type {any[]} */ handles) => {
    await forEachInFlight(handles, BATCH, (handle) => session.teardown(handle))
    await session.idle()
  }
  const awaited = async () => {
    const before = await threadTime()
    const handles = await forEachInFlight(containers, 1, compose)
    const used = (await threadTime()) - before
    await takeDown(handles)
    return used
  }
  const together = async (/** @type {number} */ pause) => {
    const before = await threadTime()
    const made = containers.map(compose)
    block(pause)
    const handles = await Promise.all(made)
    const used = (await threadTime()) - before
    await takeDown(handles)
    return used
  }
  const begun = performance.now()
  await together(0)
  // until all are there: longer than it has taken cold
  const pause = 1.5 * (performance.now() - begun)
  await awaited()
  const used = { awaited: 0, together: 0 }
  let mounts = 0
  const begin = performance.now()
  do {
    used.awaited += await awaited()
    used.together += await together(pause)
    mounts += BATCH
  } while (mounts < LEAST * BATCH || performance.now() - begin < milliseconds)
  return { processor: used.together / mounts, awaited: used.awaited / mounts, mounts }
}

/** The thread sleeps, and its event loop with it. @param {number} milliseconds */
function block(milliseconds) {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)
}

/** @returns {Promise<number>} CPU time of this thread in microseconds */
async function threadTime() {
  // the account of a running thread is as old as its last tick; one that has slept is up to date
  await sleep(1)
  const [nanoseconds] = readFileSync('/proc/thread-self/schedstat', 'utf8').split(' ').map(Number)
  return nanoseconds / 1e3
}
