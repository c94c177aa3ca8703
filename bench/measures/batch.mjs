/**
 * A hundred containers come up, and go down again when all are up: milliseconds for all of it, until every
 * superblock is gone.
 */
import { forEachInFlight } from '../support/drive.mjs'
import { median } from '../support/statistics.mjs'

/** How many come up together. */
const BATCH = 100

export function containersOf() {
  return BATCH
}

/** @type {import('../support/drive.mjs').Measure} */
export async function measure(session, containers, { inFlight }, { milliseconds }) {
  const once = async () => {
    const begin = performance.now()
    const handles = await forEachInFlight(containers, inFlight, (container) => session.compose(container))
    await forEachInFlight(handles, inFlight, (handle) => session.teardown(handle))
    await session.idle()
    return performance.now() - begin
  }
  await once()
  const times = []
  const begin = performance.now()
  do times.push(await once())
  while (performance.now() - begin < milliseconds)
  return { batch: median(times), batches: times.length }
}
