/**
 * The C floor, one contender a variant: `floor/a`, `floor/m`. What is in flight is its number of threads; each of them
 * mounts and unmounts in turns, and its umount ends with the superblock.
 */
import { runFloor, VARIANTS } from '../support/floor.mjs'

/** Microseconds of a mount and an unmount, roughly: how often they fit into the time there is. */
const estimate = (/** @type {string} */ variant, /** @type {number} */ layers) =>
  250 + layers * (variant === 'a' ? 80 : 4)

/** @param {keyof typeof VARIANTS} variant @returns {import('../support/drive.mjs').Subject} */
function floor(variant) {
  return {
    name: `floor/${variant}`,
    about: `bench/floor.c, ${VARIANTS[variant]}; what is in flight is its threads`,
    refuses({ measure, idmap, isCold, table = 0, order = 'one by one' }) {
      if (!['cycle', 'teardown'].includes(measure)) return 'it mounts and unmounts in turns'
      if (order !== 'one by one') return 'it takes down one by one'
      if ((variant === 'n' ? 'own' : 'shared') !== idmap)
        return `it has ${variant === 'n' ? 'a mapping each' : 'one mapping'}`
      if (isCold) return 'what it keeps is open'
      // it makes them one by one, and each looks at all that are there
      if (table > 1000) return 'its mount table takes too long to make'
    },
    async run({ measure, layers, inFlight, table }, { directory, milliseconds }) {
      const mounts = (milliseconds * 1e3) / estimate(variant, layers) / inFlight
      // of the per-layer way it makes fewer by itself
      const scale = variant === 'a' && layers >= 50 ? layers / 25 : 1
      const [row] = await runFloor(`${directory}/floor`, {
        directory: `${directory}/trial`,
        variants: variant,
        layers: [layers],
        threads: inFlight,
        mounts: Math.max(5, Math.ceil(mounts * scale)),
        table,
      })
      const teardown = { p50: row.teardown }
      return measure === 'teardown'
        ? { teardown }
        : { perSecond: row.ops, compose: { p50: row.compose }, teardown }
    },
  }
}

/** @type {import('../support/drive.mjs').Subject[]} */
export const floorSubjects = /** @type {(keyof typeof VARIANTS)[]} */ (Object.keys(VARIANTS)).map(floor)
