/**
 * The C floor: bench/floor.c, compiled as it is and run with the arguments it knows.
 *
 * It makes a mount namespace, a tmpfs, layers and containers of its own, so it only needs a directory to start in.
 * Each of its threads mounts and unmounts in turns; what that costs by variant is in its head comment.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { runChild } from './child.mjs'
import { compile } from './compile.mjs'

const SOURCE = fileURLToPath(new URL('../floor.c', import.meta.url))

/** What the variants do, those that are compared with. */
export const VARIANTS = {
  a: 'one idmapped bind mount per layer, as container runtimes do',
  b: 'one idmapped bind mount of the common parent',
  k: 'a kept idmapped tree, layers by name',
  m: 'a kept idmapped tree, layer fds kept open',
  n: 'a new mapping and a new tree each, closed 64 at a time',
}

/**
 * @typedef {object} FloorRow times are medians in microseconds
 * @property {string} variant
 * @property {number} layers
 * @property {number} threads
 * @property {number} compose until the overlay is attached and what it took is cleaned up
 * @property {number} teardown of the umount2, which ends with the superblock
 * @property {number} sum
 * @property {number} ops mounts and unmounts per second, of all threads together
 */

/**
 * Compiles it.
 * @param {string} directory where the program is put
 * @returns {Promise<string>} the program
 */
export async function buildFloor(directory) {
  mkdirSync(directory, { recursive: true })
  const program = join(directory, 'floor')
  await compile(SOURCE, program, 'the C floor', ['-pthread'])
  return program
}

/**
 * Runs it once.
 * @param {string} program
 * @param {object} options
 * @param {string} options.directory to start in, not used by another run at that moment
 * @param {string} options.variants letters
 * @param {number[]} options.layers
 * @param {number} options.threads
 * @param {number} options.mounts per thread; of variant a from 50 layers on 25/layers of that
 * @param {number} [options.table] mounts beside, default 0
 * @returns {Promise<FloorRow[]>}
 */
export async function runFloor(program, { directory, variants, layers, threads, mounts, table = 0 }) {
  mkdirSync(directory, { recursive: true })
  const numbers = { t: threads, n: mounts, r: 1, x: table }
  const args = Object.entries(numbers).flatMap(([name, value]) => [`-${name}`, String(value)])
  const what = `floor -v ${variants} -l ${layers} -t ${threads}`
  const text = await runChild(program, [...args, '-l', layers.join(','), '-v', variants], {
    cwd: directory,
    what,
  })
  return parseFloor(text, threads)
}

/** @param {string} text what it printed @param {number} threads @returns {FloorRow[]} */
export function parseFloor(text, threads) {
  const lines = text.split('\n').filter((line) => /^[a-z] +\d/.test(line))
  return lines.map((line) => {
    const [variant = '', ...numbers] = line.trim().split(/\s+/)
    const [layers, , compose, teardown, sum, ops] = numbers.map(Number)
    return { variant, layers, threads, compose, teardown, sum, ops }
  })
}
