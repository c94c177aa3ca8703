/**
 * The way of the container runtimes of 2025: one idmapped bind mount per image layer.
 *
 * For each container and each layer: open_tree(OPEN_TREE_CLONE), mount_setattr(MOUNT_ATTR_IDMAP) and
 * move_mount to a temporary directory; then mount(2) of the overlay over these, and an umount of each.
 * It is really done here, through overlayfd/sys, and every call is counted as it is made, so that the
 * comparison rests on nothing but calls.
 *
 * In its favour: all directories and the user namespaces are made before the clock starts, and the
 * calls are synchronous. overlayfd is timed with all of that, awaited.
 */
import { chownSync, mkdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { chdir, cwd } from 'node:process'
import * as sys from '../dist/sys.js'
import { DemoError } from './enter.mjs'
import { PROGRAM } from './image.mjs'
import { openUserNamespace } from './userns.mjs'

/**
 * @typedef {object} Counts calls of one container, until its root filesystem is in place
 * @property {number} syscalls
 * @property {number} namespaceSemWrites those that take the kernel's namespace_sem for writing
 * @property {number} gracePeriods those that wait for an RCU grace period
 * @property {number} temporaryMounts mounts attached and removed again
 *
 * @typedef {{ counts: Counts, compose: bigint }} Trial `compose` in ns
 */

/** What a call costs besides itself; kernel source and traces of Linux 6.18. */
const COST = {
  open_tree: { namespaceSemWrites: 1, gracePeriods: 0, temporaryMounts: 0 },
  mount_setattr: { namespaceSemWrites: 0, gracePeriods: 0, temporaryMounts: 0 },
  move_mount: { namespaceSemWrites: 1, gracePeriods: 0, temporaryMounts: 1 },
  close: { namespaceSemWrites: 0, gracePeriods: 0, temporaryMounts: 0 },
  mount: { namespaceSemWrites: 1, gracePeriods: 0, temporaryMounts: 0 },
  umount2: { namespaceSemWrites: 1, gracePeriods: 1, temporaryMounts: 0 },
}

/**
 * Composes one root filesystem for each mapping, one after the other, and unmounts it.
 * @param {string} directory an existing, empty one
 * @param {string[]} lowerdir layers, topmost first
 * @param {import('./userns.mjs').Range[]} ranges
 * @param {boolean} userxattr
 * @returns {Promise<Trial[]>}
 */
export async function perLayer(directory, lowerdir, ranges, userxattr) {
  const way = new PerLayer(directory, lowerdir)
  const trials = []
  for (const range of ranges) {
    const usernsFd = await openUserNamespace([range])
    trials.push(way.run(usernsFd, range.outside, userxattr))
    sys.close(usernsFd)
  }
  return trials
}

/** The temporary directories, and the calls on them. */
class PerLayer {
  #directory
  #lowerdir
  /** @type {Counts} */
  #counts = { syscalls: 0, namespaceSemWrites: 0, gracePeriods: 0, temporaryMounts: 0 }

  /**
   * @param {string} directory an existing, empty one
   * @param {string[]} lowerdir layers, topmost first
   */
  constructor(directory, lowerdir) {
    this.#directory = directory
    this.#lowerdir = lowerdir
    for (const index of lowerdir.keys()) mkdirSync(join(directory, String(index)))
  }

  /**
   * @param {number} usernsFd
   * @param {number} rootId the id of the container's root, outside
   * @param {boolean} userxattr
   * @returns {Trial}
   */
  run(usernsFd, rootId, userxattr) {
    const container = `c${rootId}`
    for (const name of ['', 'upper', 'work', 'rootfs']) mkdirSync(join(this.#directory, container, name))
    chownSync(join(this.#directory, container, 'upper'), rootId, rootId)
    // names relative to the directory: the options of mount(2) end after 4095 bytes, silently
    const lower = [...this.#lowerdir.keys()].join(':')
    const data = `lowerdir=${lower},upperdir=${container}/upper,workdir=${container}/work,volatile`
    const before = cwd()
    chdir(this.#directory)
    try {
      this.#counts = { syscalls: 0, namespaceSemWrites: 0, gracePeriods: 0, temporaryMounts: 0 }
      const start = process.hrtime.bigint()
      for (const [index, layer] of this.#lowerdir.entries()) this.#attach(layer, String(index), usernsFd)
      this.#call('mount', () =>
        sys.mount('overlay', `${container}/rootfs`, 'overlay', 0, userxattr ? `${data},userxattr` : data),
      )
      for (const index of this.#lowerdir.keys()) this.#detach(String(index))
      const composed = process.hrtime.bigint()
      const trial = { counts: { ...this.#counts }, compose: composed - start }
      const { uid } = statSync(`${container}/rootfs${PROGRAM}`)
      if (uid !== rootId)
        throw new DemoError(`the per-layer way gives a file of the image to ${uid}, not ${rootId}`)
      this.#detach(`${container}/rootfs`)
      return trial
    } finally {
      chdir(before)
    }
  }

  /** @param {string} layer @param {string} name @param {number} usernsFd */
  #attach(layer, name, usernsFd) {
    const treeFd = this.#call('open_tree', () => sys.openTree(sys.AT_FDCWD, layer, sys.OPEN_TREE_CLONE))
    const attr = { attrSet: sys.MOUNT_ATTR_IDMAP, usernsFd }
    this.#call('mount_setattr', () => sys.mountSetattr(treeFd, '', sys.AT_EMPTY_PATH, attr))
    this.#call('move_mount', () => sys.moveMount(treeFd, '', sys.AT_FDCWD, name, sys.MOVE_MOUNT_F_EMPTY_PATH))
    this.#call('close', () => sys.close(treeFd))
  }

  /** @param {string} name */
  #detach(name) {
    this.#call('umount2', () => sys.umount(name, [sys.MNT_DETACH, sys.UMOUNT_NOFOLLOW]))
  }

  /**
   * @template T
   * @param {keyof typeof COST} name
   * @param {() => T} make
   * @returns {T}
   */
  #call(name, make) {
    const cost = COST[name]
    this.#counts.syscalls++
    this.#counts.namespaceSemWrites += cost.namespaceSemWrites
    this.#counts.gracePeriods += cost.gracePeriods
    this.#counts.temporaryMounts += cost.temporaryMounts
    return make()
  }
}
