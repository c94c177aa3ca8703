/**
 * The command line of the benchmark.
 */
import { parseArgs } from 'node:util'
import { BenchError } from './support/child.mjs'

/** The parts: what they are, and whether they mount, for which they get a mount namespace of their own. */
export const PARTS = {
  trials: { about: 'every contender in every trial (default)', module: './trials/main.mjs', mounts: true },
  figures: {
    about: 'the figures that were asked for, in one run',
    module: './figures/main.mjs',
    mounts: true,
  },
  rungs: {
    about: 'what each rung costs, by count and by the clock',
    module: './rungs/main.mjs',
    mounts: true,
  },
  contention: {
    about: 'the whole host under a storm of starts',
    module: './contention/main.mjs',
    mounts: true,
  },
  lock: { about: 'what one lock costs, by placement', module: './lock/main.mjs', mounts: false },
}

export const USAGE = `Usage: npm run bench -- [what] [options]

what:
${Object.entries(PARTS)
  .map(([name, { about }]) => `  ${name.padEnd(14)} ${about}`)
  .join('\n')}

  --only NAME    one trial, one figure, one rung; may be given more than once. Writes no files without --output
  --list         print the names for --only, and measure nothing
  --rounds N     how often everything is measured, 1 to 99
  --quick        a few seconds; says whether it works, and nothing about speed. Writes no files without --output
  --output DIR   for the results, default bench/results
  --help         print this

Mounting needs root. Each process that measures is alone: one trial, one contender, one round.`

/**
 * @typedef {object} Options
 * @property {keyof typeof PARTS} what
 * @property {string[]} only empty: all
 * @property {boolean} list
 * @property {number | undefined} rounds undefined: as the part sees fit
 * @property {boolean} quick
 * @property {string | undefined} output a directory; undefined: bench/results, if `isKept`
 * @property {boolean} help
 *
 * What `run` of a part gets besides these: `directory`, an empty one (a tmpfs in a mount namespace of the part's
 * own, where it mounts), and `command`, the line to make its results again.
 * @typedef {Options & { directory: string, command: string }} RunOptions
 */

/** @param {string[]} args @returns {Options} */
export function readOptions(args) {
  const string = /** @type {const} */ ({ type: 'string' })
  const flag = /** @type {const} */ ({ type: 'boolean', default: false })
  const known = {
    only: /** @type {const} */ ({ type: 'string', multiple: true, default: [] }),
    list: flag,
    rounds: string,
    quick: flag,
    output: string,
    help: flag,
  }
  const { values, positionals } = parse({ args, options: known, strict: true, allowPositionals: true })
  const [what = 'trials', ...more] = positionals
  if (!Object.hasOwn(PARTS, what)) {
    throw new BenchError(`what must be ${Object.keys(PARTS).join(', ')}; not '${what}'`)
  }
  if (more.length > 0) throw new BenchError(`one part at a time: '${what}', or '${more.join(' ')}'`)
  if (values.output === '') throw new BenchError('--output must name a directory, not an empty string')
  return {
    what: /** @type {keyof typeof PARTS} */ (what),
    ...values,
    rounds: rounds(values.rounds),
  }
}

/** @type {typeof parseArgs} */
const parse = (config) => {
  try {
    return parseArgs(config)
  } catch (error) {
    throw new BenchError(`${/** @type {Error} */ (error).message}\n\n${USAGE}`)
  }
}

/** @param {string | undefined} text @returns {number | undefined} */
function rounds(text) {
  if (text === undefined) return undefined
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN
  if (value >= 1 && value <= 99) return value
  throw new BenchError(`--rounds must be a whole number from 1 to 99, not '${text}'`)
}

/**
 * Results that are kept are of a whole run: another does not overwrite them.
 * @param {Options} options
 * @returns {boolean} whether files are to be written
 */
export function isKept({ output, quick, only }) {
  return output !== undefined || (!quick && only.length === 0)
}

/**
 * The command line that measures the same: without where results go, which is of this machine.
 * @param {Options} options
 * @returns {string}
 */
export function commandOf({ what, only, rounds, quick }) {
  const args = only.flatMap((name) => ['--only', name])
  if (rounds !== undefined) args.push('--rounds', String(rounds))
  if (quick) args.push('--quick')
  return ['npm run bench --', what, ...args].join(' ')
}

/**
 * @template {{ name: string }} T
 * @param {T[]} all
 * @param {string[]} only names; none: all
 * @returns {T[]} those that are meant
 */
export function pick(all, only) {
  const names = all.map(({ name }) => name)
  const wrong = only.find((name) => !names.includes(name))
  if (wrong !== undefined) throw new BenchError(`--only must be one of ${names.join(', ')}; not '${wrong}'`)
  return only.length === 0 ? all : all.filter(({ name }) => only.includes(name))
}
