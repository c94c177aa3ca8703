/**
 * `npm run demo`: what overlayfd is for, on real layers, in a few seconds.
 *
 * An image of 50 layers; one LayerStack over it; 100 root filesystems, each with a user namespace mapping
 * of its own; a program run in ten of them, whose files are then looked at from the host; the mount
 * operations beside those of the usual way. Then everything is taken down, and what is left is counted.
 *
 *   enter.mjs        a mount namespace of its own, a temporary directory, and its removal
 *   image.mjs        the layers          container.mjs   running a program
 *   per-layer.mjs    the usual way       report.mjs      numbers and tables
 */
import { existsSync } from 'node:fs'
import { DemoError, enter, insideOf } from './enter.mjs'
import { readOptions, USAGE } from './options.mjs'
import { beSilent } from './report.mjs'

try {
  const options = readOptions(process.argv.slice(2))
  const directory = insideOf()
  if (options.help) console.log(USAGE)
  else if (directory !== undefined) await tellInside(directory, options)
  else await start(options)
} catch (error) {
  // what the library refuses, it says in the message: the call, the option, the rung; a stack trace would bury it
  const expected = error instanceof DemoError || (error instanceof Error && 'code' in error)
  console.error(expected ? `demo: ${/** @type {Error} */ (error).message}` : error)
  process.exitCode = 1
}

/** @param {string} directory @param {import('./options.mjs').Options} options */
async function tellInside(directory, options) {
  if (options.json) beSilent()
  const { tell } = await import('./story.mjs')
  const found = await tell(directory, options)
  if (options.json) console.log(JSON.stringify(found))
}

/** @param {import('./options.mjs').Options} options */
async function start({ dir, json }) {
  if (!existsSync(new URL('../dist/index.js', import.meta.url))) {
    throw new DemoError('the library is not built yet: npm ci does that, or npm run build')
  }
  const { code, left } = await enter(dir)
  process.exitCode = code
  if (left.length > 0) throw new DemoError(`left behind: ${left.join(', ')}`)
  if (code === 0 && !json)
    console.log(`${''.padEnd(13)}the temporary directory is gone, the mount table outside is as before`)
}
