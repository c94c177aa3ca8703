/**
 * The demo itself, in the place that enter.mjs made for it: one function a chapter, each says what it found.
 *
 *   image → compose → run → plan → comparison → down
 *
 * On a failure nothing is undone here: the process ends, and its mounts, namespaces and descriptors with it.
 */
import { mkdirSync } from 'node:fs'
import { release } from 'node:os'
import { join } from 'node:path'
import { LayerStack, Mounter } from '../dist/index.js'
import * as sys from '../dist/sys.js'
import { added, mountPoints, openFiles } from './cleanup.mjs'
import { runners } from './container.mjs'
import { DemoError } from './enter.mjs'
import { makeImage } from './image.mjs'
import { perLayer } from './per-layer.mjs'
import { abridge, columns, count, counted, duration, median, say, size, sum, table } from './report.mjs'
import { idAround, inUserNamespace, ONE_ID, ORDINARY_ID, ranges } from './userns.mjs'
import { runAndVerify } from './verify.mjs'

/**
 * @typedef {object} Container one root filesystem and what belongs to it
 * @property {string} name
 * @property {string} directory its own; upper, work and rootfs are in it
 * @property {string} upperdir
 * @property {string} workdir
 * @property {string} target
 * @property {import('./userns.mjs').Range} range its mapping
 *
 * @typedef {object} Setting
 * @property {boolean} mapped each container has ids of its own
 * @property {boolean} userns in a user namespace: overlayfs has to keep its notes in user.* attributes
 */

/**
 * @param {string} directory an existing one that is removed by whoever made it
 * @param {import('./options.mjs').Options} options
 * @returns {Promise<object>} what was found, for --json
 */
export async function tell(directory, options) {
  process.umask(0o022)
  const before = { mounts: mountPoints(), files: openFiles() }
  const onTmpfs = options.dir === undefined
  if (onTmpfs) sys.mount('tmpfs', directory, 'tmpfs', [sys.MS_NOSUID, sys.MS_NODEV], 'mode=0711')
  const own = ranges(options.containers)
  const setting = { mapped: own.length > 0, userns: inUserNamespace() }
  const user = setting.userns ? `user ${idAround(0)}, in a user namespace` : 'root'
  say('overlayfd', `Linux ${release()}, Node ${process.versions.node}, as ${user}`, '')

  const image = await tellImage(subdirectory(directory, 'layers'), options.layers, setting)
  const home = subdirectory(directory, 'containers')
  const containers = Array.from({ length: options.containers }, (_, at) =>
    describe(home, at, own[at] ?? ONE_ID),
  )
  const stack = await LayerStack.open({ lowerdir: image.lowerdir })
  const { rootfs, times } = await tellCompose(stack, containers, setting)
  const run =
    options.run > 0 ? await tellRun(containers.slice(0, options.run), image, options.runner) : undefined
  const plan = tellPlan(stack, describe(home, containers.length, own[0] ?? ONE_ID), setting, directory)
  const trials = setting.mapped
    ? await perLayer(subdirectory(directory, 'per-layer'), image.lowerdir, own, setting.userns)
    : []
  tellComparison(plan, times, trials)
  tellLeftOut(setting, own)
  await tellDown(stack, rootfs)
  if (onTmpfs) sys.umount(directory, sys.UMOUNT_NOFOLLOW)
  const left = tellLeft(before)
  const { rung, cost } = plan
  return {
    ...setting,
    image: image.contents,
    containers: containers.length,
    run,
    rung,
    cost,
    perLayer: trials[0]?.counts,
    left,
  }
}

/** @param {string} parent @param {string} name @returns {string} */
function subdirectory(parent, name) {
  mkdirSync(join(parent, name))
  return join(parent, name)
}

/** @param {string} home @param {number} index @param {import('./userns.mjs').Range} range @returns {Container} */
function describe(home, index, range) {
  const name = `container-${index + 1}`
  const directory = subdirectory(home, name)
  const at = (/** @type {string} */ part) => join(directory, part)
  return { name, directory, upperdir: at('upper'), workdir: at('work'), target: at('rootfs'), range }
}

/** @param {string} directory @param {number} layers @param {Setting} setting */
async function tellImage(directory, layers, { mapped, userns }) {
  const start = process.hrtime.bigint()
  const image = await makeImage({ directory, layers, owner: mapped ? ORDINARY_ID : 0, userxattr: userns })
  const time = duration(process.hrtime.bigint() - start)
  const { runtimeFiles, bytes, files, whiteouts, replaced, opaque } = image.contents
  const changes = [
    counted(files, 'small file'),
    counted(replaced, 'replacement'),
    counted(whiteouts, 'deletion'),
    counted(opaque, 'opaque directory', 'opaque directories'),
  ]
  say(
    'image',
    `${counted(layers, 'layer')} made in ${time}: node and ${counted(runtimeFiles - 1, 'library', 'libraries')} (${size(bytes)}),`,
    changes.join(', '),
    '',
  )
  return image
}

/** @param {Container} container @param {Setting} setting */
function mountOptions({ upperdir, workdir, target, range }, { mapped, userns }) {
  // volatile: nothing of a demo need survive a crash, so that unmounting syncs no disk
  const common = { upperdir, workdir, target, create: true, options: { volatile: true, userxattr: userns } }
  if (!mapped) return common
  return { ...common, idmap: { uid: [range], gid: [range] }, upper: /** @type {const} */ ('shifted') }
}

/** @param {LayerStack} stack @param {Container[]} containers @param {Setting} setting */
async function tellCompose(stack, containers, setting) {
  const before = mountPoints()
  const rootfs = []
  const times = []
  for (const container of containers) {
    const start = process.hrtime.bigint()
    rootfs.push(await stack.mount(mountOptions(container, setting)))
    times.push(process.hrtime.bigint() - start)
  }
  const attached = added(before, mountPoints())
  if (attached.length !== containers.length) {
    throw new DemoError(`${attached.length} mounts are attached for ${containers.length} containers`)
  }
  const { outside, length } = containers[0]?.range ?? ONE_ID
  const ids = setting.mapped
    ? `each with ${count(length)} ids of its own, from ${idAround(outside)} on`
    : 'all with the one id there is'
  say(
    'containers',
    `${counted(containers.length, 'root filesystem')}, ${ids}`,
    `composed in ${duration(sum(times))}, median ${duration(median(times))} each`,
    `mount table: ${counted(attached.length, 'entry', 'entries')} more, the root filesystems and no other`,
    '',
  )
  return { rootfs, times }
}

/**
 * @param {Container[]} containers
 * @param {import('./image.mjs').Image} image
 * @param {import('./container.mjs').Runner | undefined} wanted
 */
async function tellRun(containers, image, wanted) {
  const { runner, refused, atOnce, times, owners } = await runAndVerify(runners(wanted), containers, image)
  say(
    'run',
    ...(refused ? [`runc is installed but fails, so unshare is used: ${refused}`] : []),
    `node in ${counted(containers.length, 'container')} under ${runner}, ${atOnce} at a time, median ${duration(median(times))}`,
    `each found the ${counted(image.merged.size, 'entry', 'entries')} that the layers amount to, every path, mode, owner and content,`,
    `and added, changed${image.owner === 0 ? '' : ', gave away'} and deleted files; owner of a new one, inside and on disk:`,
    ...columns(owners.map(({ name, inside, onDisk }) => `${name}  ${inside} → ${onDisk}`)),
    '',
  )
  return { runner, entries: image.merged.size, owners }
}

/** @param {LayerStack} stack @param {Container} container @param {Setting} setting @param {string} directory */
function tellPlan(stack, container, setting, directory) {
  const plan = stack.explain(mountOptions(container, setting))
  say('plan', ...abridge(String(plan), directory), '')
  return plan
}

/**
 * @param {import('../dist/index.js').Explanation} plan
 * @param {bigint[]} times
 * @param {import('./per-layer.mjs').Trial[]} trials
 */
function tellComparison({ cost, notes }, times, trials) {
  const counts = trials[0]?.counts
  if (!counts) return
  const theirs = trials.map((trial) => trial.compose)
  const row = (/** @type {string} */ what, /** @type {keyof typeof counts} */ key) => [
    what,
    count(counts[key]),
    count(cost[key]),
  ]
  say(
    'comparison',
    ...table([
      ['to compose one container', 'per-layer way', 'overlayfd'],
      row('mount-table writes (namespace_sem)', 'namespaceSemWrites'),
      row('RCU grace periods waited for', 'gracePeriods'),
      row('temporary mounts', 'temporaryMounts'),
      row('system calls', 'syscalls'),
      ['time, median', duration(median(theirs)), duration(median(times))],
      [`time, all ${count(times.length)}`, duration(sum(theirs)), duration(sum(times))],
    ]),
    ...notes.map((note) => `overlayfd: ${note}`),
    '',
  )
}

/** @param {Setting} setting @param {import('./userns.mjs').Range[]} own */
function tellLeftOut({ userns, mapped }, own) {
  if (!userns) return
  const few = `65,536 ids for each container: ${count(own[0]?.length ?? 0)} are what /etc/subuid gives`
  const one = [
    'a mapping for each container, and with it the comparison: that needs newuidmap, and lines',
    'for this user in /etc/subuid and /etc/subgid. What a container writes belongs to this user.',
  ]
  say('left out', ...(mapped ? [few] : one), 'layers on a disk: only root can idmap those', '')
}

/** @param {LayerStack} stack @param {import('../dist/index.js').Rootfs[]} rootfs */
async function tellDown(stack, rootfs) {
  const start = process.hrtime.bigint()
  await Promise.all(rootfs.map((one) => one.unmount()))
  await stack.close()
  await Mounter.default.idle()
  say(
    'down',
    `${count(rootfs.length)} unmounted, stack closed, superblocks gone in ${duration(process.hrtime.bigint() - start)}`,
  )
}

/** @param {{ mounts: string[], files: string[] }} before */
function tellLeft(before) {
  const left = { mounts: added(before.mounts, mountPoints()), files: added(before.files, openFiles()) }
  say(
    'left behind',
    `${counted(left.mounts.length, 'mount')}, ${counted(left.files.length, 'file descriptor')}`,
  )
  for (const mount of left.mounts) say('', `mount ${mount}`)
  for (const file of left.files) say('', `file descriptor of ${file}`)
  return left
}
