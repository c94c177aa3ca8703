/**
 * `npm run bench`: overlayfd beside the C floor, the ways of the container runtimes, mount(8) and an FFI package.
 *
 *   options.mjs      the command line, and the parts
 *   trials/          what is varied, as data          figures/    the table of figures to reach
 *   subjects/        the contenders, one a file       measures/   what is timed, one way a file
 *   run-trial.mjs    the process that measures        rounds.mjs  runs it, contender by contender, in rounds
 *   rungs/           each rung, counted and timed     contention/ a storm of starts, host-wide
 *   lock/            one lock, placed by topology
 *   support/         machine, scratch, statistics, charts, results
 *
 * A part that mounts is run in a mount namespace of its own, on a tmpfs that ends with it.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { commandOf, PARTS, readOptions, USAGE } from './options.mjs'
import { BenchError, endTogether } from './support/child.mjs'
import { enter, insideOf, Scratch } from './support/scratch.mjs'

try {
  const options = readOptions(process.argv.slice(2))
  if (options.help) console.log(USAGE)
  else await start(options)
} catch (error) {
  // what is ours to say is in the message; a stack trace would bury it
  console.error(error instanceof BenchError ? `bench: ${error.message}` : error)
  process.exitCode = 1
}

/** @param {import('./options.mjs').Options} options */
async function start(options) {
  const { module, mounts } = PARTS[options.what]
  const command = commandOf(options)
  const run = async (/** @type {string} */ directory) => {
    const part = await import(module)
    await part.run({ ...options, directory, command })
  }
  if (options.list) return run('')
  if (!mounts) return inTemporaryDirectory(run)
  const directory = insideOf()
  if (directory !== undefined) return run(Scratch.open(directory).directory)
  process.exitCode = await enter()
}

/** @param {(directory: string) => Promise<void>} run */
function inTemporaryDirectory(run) {
  endTogether()
  const directory = mkdtempSync(join(tmpdir(), 'overlayfd-bench-'))
  // however it ends: a signal runs no finally
  process.on('exit', () => rmSync(directory, { recursive: true, maxRetries: 3 }))
  return run(directory)
}
