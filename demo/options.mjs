/**
 * The command line of the demo.
 */
import { parseArgs } from 'node:util'
import { DemoError } from './enter.mjs'

export const USAGE = `Usage: npm run demo -- [options]

Makes an image of many layers, composes a root filesystem from it for each of many containers, all
with user namespace mappings of their own, runs a program in some of them, and compares with one idmapped
bind mount per layer. Nothing is left behind. As root it shows all; as a plain user what is permitted.

  --containers N   root filesystems to compose         (default 100)
  --layers N       layers of the image, 2 to 500       (default 50)
  --run N          containers to run the program in    (default 10)
  --runner NAME    runc or unshare                     (default: runc where it is installed)
  --dir DIR        work in a new directory in DIR instead of on a tmpfs
  --json           print one JSON object instead of the report
  --help           print this`

/**
 * @typedef {object} Options
 * @property {number} containers
 * @property {number} layers
 * @property {number} run
 * @property {import('./container.mjs').Runner | undefined} runner
 * @property {string | undefined} dir
 * @property {boolean} json
 * @property {boolean} help
 */

/** @param {string[]} args @returns {Options} */
export function readOptions(args) {
  const string = /** @type {const} */ ({ type: 'string' })
  const flag = /** @type {const} */ ({ type: 'boolean', default: false })
  const known = {
    containers: string,
    layers: string,
    run: string,
    runner: string,
    dir: string,
    json: flag,
    help: flag,
  }
  const { values } = parse({ args, options: known, strict: true, allowPositionals: false })
  const containers = number('--containers', values.containers, 100, 1, 10_000)
  const runner = values.runner
  if (runner !== undefined && runner !== 'runc' && runner !== 'unshare') {
    throw new DemoError(`--runner must be runc or unshare, not '${runner}'`)
  }
  return {
    containers,
    layers: number('--layers', values.layers, 50, 2, 500),
    run: number('--run', values.run, Math.min(10, containers), 0, containers),
    runner,
    dir: values.dir,
    json: values.json ?? false,
    help: values.help ?? false,
  }
}

/** @type {typeof parseArgs} */
const parse = (config) => {
  try {
    return parseArgs(config)
  } catch (error) {
    throw new DemoError(`${/** @type {Error} */ (error).message}\n\n${USAGE}`)
  }
}

/**
 * @param {string} name
 * @param {string | undefined} text
 * @param {number} otherwise
 * @param {number} least
 * @param {number} most
 * @returns {number}
 */
function number(name, text, otherwise, least, most) {
  if (text === undefined) return otherwise
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN
  if (value >= least && value <= most) return value
  throw new DemoError(`${name} must be a whole number from ${least} to ${most}, not '${text}'`)
}
