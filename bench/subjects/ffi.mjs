/**
 * An FFI package, koffi, that calls libc's syscall(2): the same calls as variant m of the C floor, made one by one
 * from JavaScript. What a program does that wants the new calls without an addon of its own.
 */
import { closeSync, constants, openSync } from 'node:fs'
import { openUserNamespace } from '../../demo/userns.mjs'
import { drive } from '../support/drive.mjs'
import { FIRST_ID, IDS } from '../support/scratch.mjs'

/** Numbers and flags are the same on every architecture in use. */
const NUMBER = { move_mount: 429, fsopen: 430, fsconfig: 431, fsmount: 432, open_tree_attr: 467 }
const AT_FDCWD = -100
const CLOEXEC = 1
const OPEN_TREE_CLONE = 1
const OPEN_TREE_CLOEXEC = 0o2000000
const MOVE_MOUNT_F_EMPTY_PATH = 4
const MOUNT_ATTR_IDMAP = 0x100000
const SET_STRING = 1
const SET_FD = 5
const CREATE = 6
const MNT_DETACH = 2
const UMOUNT_NOFOLLOW = 8
const O_PATH = 0o10000000

/** @type {import('../support/drive.mjs').Subject} */
export const ffi = {
  name: 'FFI (koffi)',
  about: 'the calls of floor/m, by an FFI package on the JavaScript thread',
  refuses({ idmap, inFlight, isCold, order = 'one by one' }) {
    if (idmap === 'own') return 'it is measured with one mapping'
    if (inFlight > 1 || order !== 'one by one') return 'its calls block their thread'
    if (isCold) return 'what it keeps is open'
  },
  run: (task, place) =>
    drive(task, place, async (lowerdir) => {
      const calls = await load()
      const parent = place.scratch.path('layers')
      const tree = task.idmap === 'none' ? undefined : await idmapped(calls, parent)
      const below = tree === undefined ? parent : `/proc/self/fd/${tree}`
      const layers = lowerdir.map((layer) =>
        openSync(below + layer.slice(parent.length), O_PATH | constants.O_DIRECTORY),
      )
      return {
        isSync: true,
        compose({ upperdir, workdir, target }) {
          const fs = calls.fsopen('overlay', CLOEXEC)
          for (const layer of layers) calls.fsconfig(fs, SET_FD, 'lowerdir+', null, layer)
          calls.fsconfig(fs, SET_STRING, 'upperdir', upperdir, 0)
          calls.fsconfig(fs, SET_STRING, 'workdir', workdir, 0)
          calls.fsconfig(fs, CREATE, null, null, 0)
          const mount = calls.fsmount(fs, CLOEXEC, 0)
          calls.moveMount(mount, '', AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH)
          closeSync(mount)
          closeSync(fs)
          return target
        },
        teardown: (target) => calls.umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW),
        idle() {},
        close() {
          for (const fd of tree === undefined ? layers : [...layers, tree]) closeSync(fd)
        },
      }
    }),
}

/** @param {Awaited<ReturnType<typeof load>>} calls @param {string} path @returns {Promise<number>} a detached tree */
async function idmapped(calls, path) {
  const userns = await openUserNamespace([{ inside: 0, outside: FIRST_ID, length: IDS }])
  const attr = new BigUint64Array([BigInt(MOUNT_ATTR_IDMAP), 0n, 0n, BigInt(userns)])
  const tree = calls.openTreeAttr(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC, attr, attr.byteLength)
  closeSync(userns)
  return tree
}

/** The calls, each of which throws on failure. */
async function load() {
  const { default: koffi } = await import('koffi')
  const libc = koffi.load(null) // the process itself, which has libc in it, under whatever name
  const checked = (/** @type {string} */ name, /** @type {Function} */ call) => {
    return (/** @type {any[]} */ ...args) => {
      const result = call(...args)
      if (result < 0) throw new Error(`${name}: errno ${koffi.errno()}`)
      return result
    }
  }
  const bySyscall = (/** @type {keyof typeof NUMBER} */ name, /** @type {string[]} */ ...types) => {
    const call = libc.func('syscall', 'long', ['long', ...types])
    return checked(name, call.bind(undefined, NUMBER[name]))
  }
  return {
    openTreeAttr: bySyscall('open_tree_attr', 'int', 'str', 'uint', 'void *', 'size_t'),
    fsopen: bySyscall('fsopen', 'str', 'uint'),
    fsconfig: bySyscall('fsconfig', 'int', 'uint', 'str', 'str', 'int'),
    fsmount: bySyscall('fsmount', 'int', 'uint', 'uint'),
    moveMount: bySyscall('move_mount', 'int', 'str', 'int', 'str', 'uint'),
    umount2: checked('umount2', libc.func('umount2', 'int', ['str', 'int'])),
  }
}
