/**
 * The first mount of a fresh process, from before the contender's modules are imported: milliseconds. Layers and
 * directories were made before. There is one of it in a process.
 */
export function containersOf() {
  return 1
}

/** @type {import('../support/drive.mjs').MeasureOpening} */
export async function measureOpening(open, [container]) {
  const begin = performance.now()
  const session = await open()
  const handle = await session.compose(container)
  const first = performance.now() - begin
  await session.teardown(handle)
  await session.idle()
  await session.close()
  return { first }
}
