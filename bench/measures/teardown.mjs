/**
 * Taking down alone, of mounts that were made before the clock started: microseconds each, until every superblock is
 * gone.
 *
 *   one by one   each unmount is awaited before the next
 *   at once      all unmounts are begun together
 *   grouped      one call of the contender for all
 */
import { forEachInFlight } from '../support/drive.mjs'
import { median } from '../support/statistics.mjs'

/** How many are taken down together. */
const BATCH = 64

export function containersOf() {
  return BATCH
}

/** @type {import('../support/drive.mjs').Measure} */
export async function measure(session, containers, { inFlight, order }, { milliseconds }) {
  const once = async () => {
    const handles = await forEachInFlight(containers, inFlight, (container) => session.compose(container))
    await session.idle()
    const begin = performance.now()
    if (order === 'grouped') await session.teardownAll?.(handles)
    else {
      const width = order === 'at once' ? handles.length : 1
      await forEachInFlight(handles, width, (handle) => session.teardown(handle))
    }
    await session.idle()
    return ((performance.now() - begin) * 1e3) / handles.length
  }
  await once()
  const times = []
  const begin = performance.now()
  do times.push(await once())
  while (performance.now() - begin < milliseconds)
  return { teardown: { count: times.length * BATCH, p50: median(times) } }
}
