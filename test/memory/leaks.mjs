/**
 * node test/memory/leaks.mjs DIRECTORY: reads what LeakSanitizer has written there, prints the leaks that are ours, and
 * ends with 1 if there is one.
 *
 * A node that ends through process.exit, or while a worker runs, leaves V8's heap as it is, and each piece of it counts
 * as leaked: thousands, with other stacks in each version. So whose a leak is, is told by who asked for the memory: the
 * addon, or node for what an addon has to give back (`napi_…`, `v8impl::…`).
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/**
 * @param {string} report of one process
 * @returns {string[]} one leak each, with its stack
 */
export const leaksOf = (report) =>
  report.split('\n\n').filter((part) => /^(Dir|Indir)ect leak of /m.test(part))

/**
 * @param {string} leak
 * @returns whether the first frame that is node's or an addon's is one of ours, or one of node's that has to free for an
 *   addon and was called by no other addon than ours
 */
export const isOurs = (leak) => {
  let isForAddon = false
  for (const [, frame = ''] of leak.matchAll(/^ +#\d+ 0x[0-9a-f]+ +(.*)$/gm)) {
    // an addon that is no longer mapped has no name; code that V8 made asks for no memory itself
    if (/ native\/\S+:\d+|\(<unknown module>\)|overlayfd\.node\+/.test(frame)) return true
    // the tests have koffi call the C library
    if (/\.node\+0x[0-9a-f]+\)/.test(frame)) return false
    if (/\/node\+0x[0-9a-f]+\)/.test(frame)) {
      if (!/^in (napi_|v8impl::)/.test(frame)) return isForAddon
      isForAddon = true
    }
  }
  return isForAddon
}

const main = (dir) => {
  const leaks = readdirSync(dir).flatMap((name) => leaksOf(readFileSync(join(dir, name), 'utf8')))
  const ours = leaks.filter(isOurs)
  for (const leak of ours) console.log(`${leak}\n`)
  console.log(`${ours.length} leaks of the addon, ${leaks.length - ours.length} of what node left at its end`)
  if (ours.length > 0) process.exitCode = 1
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main(process.argv[2])
