/**
 * The staging namespace: where trees are attached on kernels that take no layers of detached mounts (before 6.15).
 *
 * It is empty but for a tmpfs, so it hides nothing, pins nothing of the caller's, and no path of the caller is ever
 * looked up in it: what comes into it are detached clones that were made in the caller's namespace.
 *
 *   set up     unshare, private, tmpfs, pivot_root, MNT_DETACH of the old root; then unshare once more
 *   enter      mkdirat in the tmpfs, setns(inside), move_mount of the clones to that directory
 *   leave      setns(outside), unlinkat of that directory, setns(home)
 *
 * `outside` is a copy of the empty namespace. A directory that is a mount point in another namespace may be removed
 * (since Linux 3.18), and all that is mounted there goes with it: one write and one grace period, however many mounts
 * that were. The kernel looks through the mounts of the caller's own namespace first, under its lock: there are two in
 * `outside`, and in `home` there may be many thousands.
 *
 * All composing threads use one staging namespace, by setns: with one for each of them, each would need clones of the
 * stack's trees. Names in the tmpfs are numbers of fds that are open as long as the name is there, so they are unique.
 */
import * as f from '../flags.js'
import * as c from '../program/calls.js'
import { cwd, held, type Plan, PlanBuilder } from '../program/plan.js'
import {
  type Expectation,
  type FdArg,
  type HeldFd,
  type Slot,
  type Step,
  statxField,
} from '../program/step.js'
import type { StageLease } from './host.js'
import { closedAnyway } from './reap.js'

/** What is kept of it: fds, so that it is gone when they are closed. */
export interface Staging {
  /** the caller's mount namespace */
  readonly home: HeldFd
  readonly inside: HeldFd
  readonly outside: HeldFd
  /** the tmpfs, within `inside` */
  readonly root: HeldFd
  /** /proc/self/fd: as a working directory it makes names of fds' numbers, also where there is no /proc */
  readonly proc: HeldFd
}

/** For plans that are printed only. */
export const assumedStaging: Staging = {
  home: held(-1, 'home'),
  inside: held(-1, 'staging'),
  outside: held(-1, 'beside staging'),
  root: held(-1, 'staging root'),
  proc: held(-1, '/proc/self/fd'),
}

/** The same as a lease. */
export const assumedStage: StageLease = {
  staging: assumedStaging,
  mapping() {
    throw new Error('nothing is kept in a staging namespace that is only assumed')
  },
  takeDown() {},
  release() {},
}

/** Why a process in a chroot cannot have one: setns(2) would take it out of there. */
export const chrooted =
  'the process is in a chroot: its threads would leave it on their way to the staging namespace and back'

/** Makes it, on a thread that is used for nothing else. The outputs are in the order of `Staging`. */
export function planStaging(): Plan {
  const b = new PlanBuilder('set up staging')
  const subject = { option: 'staging' }
  const open = (name: string, dir: FdArg, path: string, flags: number): Slot => {
    const slot = b.slot(name)
    b.add(c.openat(slot, dir, path, flags, { subject }))
    return slot
  }
  // the directory and the mount: the root of a chroot may be a bind mount of the namespace's root
  const fields = [statxField.ino, statxField.dev, statxField.mountId] as const
  const node = fields.map((field) => ({ field, register: b.register(`root.${field.name}`) }))
  const expect = node.map(({ field, register }): Expectation => ({ field, value: register }))
  const namespace = 'thread-self/ns/mnt'
  const home = open('home', cwd, `/proc/${namespace}`, f.O_RDONLY)
  const proc = open('/proc/self/fd', cwd, '/proc/self/fd', f.O_PATH | f.O_DIRECTORY)
  const above = open('/', cwd, '/', f.O_PATH | f.O_DIRECTORY)
  b.add(c.statxFd(above, false, { remember: node }), c.close(above))
  b.add(c.unshare(f.CLONE_NEWNS, { subject }))
  const inside = open('staging', cwd, `/proc/${namespace}`, f.O_RDONLY)
  const fs = b.slot('tmpfs')
  const root = b.slot('staging root')
  b.add(
    c.mount(null, '/', null, f.MS_REC | f.MS_PRIVATE, null, { subject }),
    c.fsopen(fs, 'tmpfs', { subject }),
    c.setString(fs, 'source', 'overlayfd', { subject }),
    c.setString(fs, 'mode', '0700', { subject }),
    c.create(fs, { subject }),
    c.fsmount(root, fs, f.MOUNT_ATTR_NOSUID | f.MOUNT_ATTR_NODEV | f.MOUNT_ATTR_NOEXEC, { subject }),
    c.close(fs),
    c.attachBelow(root, cwd, '/', { subject }),
    c.fchdir(root),
    // the old root comes to lie on the new one, which umount2 of '.' finds first
    c.pivotRoot('.', '.', { subject }),
    c.umount('.', true, false, { subject }),
    c.unshare(f.CLONE_NEWNS, { subject }),
  )
  const outside = open('beside staging', proc, `../../${namespace}`, f.O_RDONLY)
  b.add(c.setns(home, f.CLONE_NEWNS, { home: true, subject }))
  b.add(c.statxPath(cwd, '/', false, { expect, subject: { option: 'chroot' } }))
  for (const slot of [home, inside, outside, root, proc]) b.output(slot)
  return b.build()
}

/** The fds that `planStaging` has made. */
export function stagingOf(outputs: readonly number[]): Staging {
  const [home, inside, outside, root, proc] = outputs.map((fd, i) => held(fd, names[i]!))
  return { home: home!, inside: inside!, outside: outside!, root: root!, proc: proc! }
}
const names = Object.values(assumedStaging).map(({ name }: HeldFd) => name)

const EEXIST = 17

/** A place in the staging namespace; it is named by an fd that stays open for as long as it is needed. */
export const placeOf = (fd: FdArg) => [fd] as const

/** The directory for a place. */
export const makePlace = ({ root }: Staging, fd: FdArg): Step =>
  c.mkdirat(root, placeOf(fd), 0o700, { tolerate: [EEXIST] })

export const enter = ({ inside }: Staging): Step => c.setns(inside, f.CLONE_NEWNS)
export const goHome = ({ home }: Staging): Step => c.setns(home, f.CLONE_NEWNS, { home: true })

/** Takes down what is attached at places, and goes home. */
export const clearPlaces = (staging: Staging, places: readonly FdArg[]): Step[] => [
  ...(places.length > 0 ? [c.setns(staging.outside, f.CLONE_NEWNS)] : []),
  ...places.map((fd) => c.rmdirMounted(staging.root, placeOf(fd))),
  goHome(staging),
]

/** Attaches trees for longer, each at a place of its own. */
export function attachTrees(b: PlanBuilder, staging: Staging, trees: readonly Slot[]): void {
  if (trees.length === 0) return
  const entered = enter(staging)
  b.add(...trees.map((tree) => makePlace(staging, tree)), entered)
  for (const tree of trees) b.add(c.attachBelow(tree, staging.root, placeOf(tree)))
  b.add(goHome(staging))
  undoPlaces(b, staging, entered, trees)
}

/**
 * After a failure: what was attached at the places goes, and the thread goes home, before anything else is taken
 * back. `entered` is the step that brought it there.
 */
export function undoPlaces(b: PlanBuilder, staging: Staging, entered: Step, places: readonly FdArg[]): void {
  const steps = clearPlaces(staging, places)
  b.undoBy(...steps.map((step): Step => ({ ...step, when: 'undo', ifDone: entered })))
}

/**
 * Takes trees down that were attached for longer, and closes them.
 *
 * @param isHome whether the thread is one of the namespace that the staging namespace was made from; others stay
 *   where they are
 */
export function planUnstage(staging: Staging, trees: readonly number[], isHome = true): Plan {
  const b = new PlanBuilder('unstage')
  const slots = trees.map((fd, i) => b.input(`tree ${i}`, fd))
  const steps = clearPlaces(staging, slots)
  for (const step of isHome ? steps : steps.filter(({ call }) => call === 'unlinkat')) {
    b.add(step.call === 'unlinkat' ? { ...step, tolerate: gone } : step)
  }
  // it is closed whatever it answers
  for (const slot of slots) b.add({ ...c.close(slot), tolerate: closedAnyway })
  return b.build()
}

/** ENOENT, EBUSY: it goes with the namespace then */
const gone = [2, 16]
