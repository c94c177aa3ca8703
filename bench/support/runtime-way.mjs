/**
 * What the two ways of container runtimes have in common, as contenders in JavaScript: something idmapped is attached
 * to a temporary directory, the overlay is mounted with names relative to it, and it is detached again.
 *
 * All calls are overlayfd/sys's, synchronous, as few as the runtimes make (kernel.md, variants a and b). So what
 * differs from overlayfd is the way, and what differs from the C floor is the language.
 */
import { openUserNamespace } from '../../demo/userns.mjs'
import { drive } from './drive.mjs'
import { FIRST_ID, IDS } from './scratch.mjs'

/** @typedef {typeof import('../../dist/sys.js')} Sys */

/**
 * @typedef {object} Way
 * @property {string} directory that `names` are relative to
 * @property {string[]} names of the layers, topmost first
 * @property {() => void} attach what is idmapped
 * @property {() => void} detach it
 */

/**
 * @param {string} name
 * @param {string} about
 * @param {(given: { sys: Sys, attr: import('../../dist/sys.js').MountAttr, scratch: import('./scratch.mjs').Scratch,
 *   lowerdir: string[] }) => Way} wayOf
 * @returns {import('./drive.mjs').Subject}
 */
export function runtimeWay(name, about, wayOf) {
  return {
    name,
    about,
    refuses({ idmap, inFlight, isCold, order = 'one by one' }) {
      if (idmap !== 'shared') return 'it is measured with one mapping'
      if (inFlight > 1 || order !== 'one by one') return 'its calls block their thread'
      if (isCold) return 'it keeps nothing open'
    },
    run: (task, place) =>
      drive(task, place, async (lowerdir) => {
        const sys = await import('../../dist/sys.js')
        const usernsFd = await openUserNamespace([{ inside: 0, outside: FIRST_ID, length: IDS }])
        const attr = { attrSet: sys.MOUNT_ATTR_IDMAP, usernsFd }
        const { directory, names, attach, detach } = wayOf({ sys, attr, scratch: place.scratch, lowerdir })
        const lower = names.join(':')
        return {
          isSync: true,
          compose({ upperdir, workdir, target }) {
            attach()
            // relative names: the options of mount(2) end after 4095 bytes, silently
            process.chdir(directory)
            sys.mount(
              'overlay',
              target,
              'overlay',
              0,
              `lowerdir=${lower},upperdir=${upperdir},workdir=${workdir}`,
            )
            process.chdir('/')
            detach()
            return target
          },
          teardown: (target) => sys.umount(target, [sys.MNT_DETACH, sys.UMOUNT_NOFOLLOW]),
          idle() {},
          close: () => sys.close(usernsFd),
        }
      }),
  }
}
