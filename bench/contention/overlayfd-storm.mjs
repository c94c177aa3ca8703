/**
 * The storm of storm.c, made by overlayfd: one process, one LayerStack, so many calls in flight.
 *
 *   node overlayfd-storm.mjs MAPPING LAYERS CONCURRENCY CONTAINERS SECONDS BEGUN DIRECTORY
 *
 * MAPPING is `shared`, one for all containers, or `own`, a new user namespace for each. It prints what storm.c prints,
 * and which threads the library chose. The time of a container is what its caller waits, in the library's queue too.
 * The clock stops when the last superblock is gone.
 */
import { closeSync, openSync } from 'node:fs'
import { LayerStack, Mounter } from '../../dist/index.js'
import { FIRST_ID, IDS, mappingFrom, Scratch } from '../support/scratch.mjs'

/** How many mappings there are before the first comes again: ids are 32 bits. */
const MAPPINGS = 60_000

const [mapping, ...rest] = process.argv.slice(2)
const [layers, concurrency, containers, seconds] = rest.slice(0, 4).map(Number)
const [begun, directory] = rest.slice(4)

const scratch = Scratch.open(directory)
const lowerdir = scratch.layers(layers)
const places = scratch.containers(concurrency)
const isOwn = mapping === 'own'
const stack = await LayerStack.open({ lowerdir, ...(!isOwn && { idmap: mappingFrom(FIRST_ID) }) })
let mappings = 0
const optionsOf = (place) =>
  isOwn ? { ...place, idmap: mappingFrom(FIRST_ID + IDS * (mappings++ % MAPPINGS)) } : place

// warm, as storm.c is
await Promise.all(places.map(async (place) => (await stack.mount(optionsOf(place))).unmount()))
await Mounter.default.idle()

const composes = []
let started = 0
process.title = 'storm begins' // for trace.bt
closeSync(openSync(begun, 'w'))
const start = performance.now()
await Promise.all(
  places.map(async (place) => {
    while (performance.now() < start + seconds * 1e3 && started++ < containers) {
      const begin = performance.now()
      const rootfs = await stack.mount(optionsOf(place))
      composes.push(Math.round((performance.now() - begin) * 1e4) / 10)
      await rootfs.unmount()
    }
  }),
)
await Mounter.default.idle()
const took = (performance.now() - start) / 1e3
process.title = 'storm is over'
await stack.close()
const placement = Mounter.default.placement.reason
await Mounter.default.close()
console.log(JSON.stringify({ seconds: took, composes, placement }))
