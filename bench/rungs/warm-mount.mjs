/**
 * The process that strace looks at: one warm mount between two marks. What it had explained goes to stdout.
 *
 *   warm-mount.mjs '{ "rung", "isMapped", "layers", "directory" }'
 */
import { existsSync } from 'node:fs'
import { Mounter } from '../../dist/index.js'
import { FIRST_ID, mappingFrom, Scratch } from '../support/scratch.mjs'

const { rung, isMapped, layers, directory } = JSON.parse(process.argv[2] ?? '')
// as test/support/strace.ts looks for them
const mark = (/** @type {string} */ name) => existsSync(`/overlayfd-mark/${name}`)
const scratch = Scratch.open(`${directory}/trial`)
const lowerdir = scratch.layers(layers)
const [first, container] = scratch.containers(2, isMapped ? FIRST_ID : 0)
// one thread of each kind, and each has been at work: their making is not the mount's
const mounter = new Mounter({ rung, threads: 1, reapers: 1 })
const stack = await mounter.open({ lowerdir, ...(isMapped && { idmap: mappingFrom(FIRST_ID) }) })
await (await stack.mount(first)).unmount()
await mounter.idle()
const { cost } = stack.explain(container)
mark('begin')
const rootfs = await stack.mount(container)
mark('end')
await rootfs.unmount()
await stack.close()
await mounter.close()
console.log(JSON.stringify(cost))
