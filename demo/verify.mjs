/**
 * Runs the program in some of the containers and compares what it reports, and what it left on the disk,
 * with what must be.
 */
import { lstatSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { added } from './cleanup.mjs'
import { RuntimeError, runProgram } from './container.mjs'
import { DemoError } from './enter.mjs'
import { listing } from './tree.mjs'
import { idAround } from './userns.mjs'

/**
 * @typedef {object} Runs
 * @property {import('./container.mjs').Runner} runner the one that was used
 * @property {string | undefined} refused why a better one was not
 * @property {number} atOnce how many ran at a time
 * @property {bigint[]} times ns from start to exit of each
 * @property {Owner[]} owners of the file that each container made
 *
 * @typedef {{ name: string, inside: number, onDisk: number }} Owner user ids; `name` is the container's
 *
 * @typedef {{ time: bigint, owner: Owner }} Run
 */

/**
 * @param {import('./container.mjs').Runner[]} runners to try in the first container; a runtime may be
 *   installed and yet not work, where cgroups are missing for instance
 * @param {import('./story.mjs').Container[]} containers at least one
 * @param {import('./image.mjs').Image} image
 * @returns {Promise<Runs>}
 */
export async function runAndVerify(runners, containers, image) {
  const waiting = [...containers]
  const { runner, refused, run } = await runFirst(runners, waiting.shift(), image)
  /** @type {Map<string, Run>} */
  const runs = new Map([[run.owner.name, run]])
  const work = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      runs.set(next.name, await runOne(runner, next, image))
    }
  }
  const atOnce = Math.min(availableParallelism(), containers.length)
  await Promise.all(Array.from({ length: atOnce }, work))
  const inOrder = containers.flatMap(({ name }) => runs.get(name) ?? [])
  const [times, owners] = [inOrder.map(({ time }) => time), inOrder.map(({ owner }) => owner)]
  return { runner, refused, atOnce, times, owners }
}

/**
 * @param {import('./container.mjs').Runner[]} runners
 * @param {import('./story.mjs').Container | undefined} container
 * @param {import('./image.mjs').Image} image
 */
async function runFirst(runners, container, image) {
  /** @type {string | undefined} */
  let refused
  for (const runner of runners) {
    try {
      if (container) return { runner, refused, run: await runOne(runner, container, image) }
    } catch (error) {
      if (!(error instanceof RuntimeError) || runner === runners.at(-1)) throw error
      refused = error.message
    }
  }
  throw new DemoError('there is nothing to run')
}

/**
 * @param {import('./container.mjs').Runner} runner
 * @param {import('./story.mjs').Container} container
 * @param {import('./image.mjs').Image} image
 * @returns {Promise<Run>}
 */
async function runOne(runner, container, image) {
  const { name, target: rootfs, directory, range } = container
  const env = { PATH: '/bin', LD_LIBRARY_PATH: image.libraryPath }
  const start = process.hrtime.bigint()
  const report = await runProgram(runner, {
    name,
    rootfs,
    directory,
    range,
    args: [String(image.owner)],
    env,
  })
  const time = process.hrtime.bigint() - start
  const wrong = [...wrongInside(report, image), ...wrongOnDisk(container, image)]
  if (wrong.length > 0) throw new DemoError(`${name} under ${runner}: ${wrong.join('; ')}`)
  const onDisk = lstatSync(join(container.upperdir, 'data/hello.txt')).uid
  return { time, owner: { name, inside: report.hello.uid, onDisk: idAround(onDisk) } }
}

/**
 * @param {import('./container.mjs').Report} report
 * @param {import('./image.mjs').Image} image
 * @returns {string[]} what is not as it must be
 */
function wrongInside(report, image) {
  return differences([
    ['process id in the container', report.pid, 1],
    ['user id in the container', report.uid, 0],
    ['what the merged tree has and should not', added(listing(image.merged), report.tree)[0], undefined],
    ['what the merged tree should have and has not', added(report.tree, listing(image.merged))[0], undefined],
    ['owner of a new file inside', `${report.hello.uid}:${report.hello.gid}`, '0:0'],
    ['owner of a file given away, inside', report.given.uid, image.owner],
  ])
}

/**
 * @param {import('./story.mjs').Container} container
 * @param {import('./image.mjs').Image} image
 * @returns {string[]} what is not as it must be
 */
function wrongOnDisk({ upperdir, range }, image) {
  const root = range.outside
  const hello = lstatSync(join(upperdir, 'data/hello.txt'))
  const given = lstatSync(join(upperdir, 'data/given.txt'))
  const gone = lstatSync(join(upperdir, 'app/deleted-in-the-container'))
  const changed = readFileSync(join(upperdir, 'etc/release'), 'utf8')
  const top = String(image.merged.get('/etc/release')?.content)
  return differences([
    ['owner of a new file on disk', `${hello.uid}:${hello.gid}`, `${root}:${root}`],
    ['owner of a file given away, on disk', given.uid, root + image.owner],
    ['a deleted file on disk is a whiteout', gone.isCharacterDevice() && gone.rdev === 0, true],
    ['a changed file on disk', changed, `${top}changed in the container\n`],
    ['that file in the layer', readFileSync(join(String(image.lowerdir[0]), 'etc/release'), 'utf8'), top],
  ])
}

/**
 * @param {[what: string, found: unknown, expected: unknown][]} claims
 * @returns {string[]}
 */
function differences(claims) {
  return claims
    .filter(([, found, expected]) => found !== expected)
    .map(([what, found, expected]) => `${what} is ${found}, not ${expected}`)
}
