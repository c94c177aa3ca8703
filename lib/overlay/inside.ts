/**
 * Attaching inside another mount namespace: what a thread does there, and how it comes back.
 *
 *   operation   calls                                                  taken back by
 *   ---------   -----                                                  -------------
 *   way back    openat of /proc/thread-self/ns, of "mnt" in it, of "/"  close
 *   enter       openat of the namespace, setns                         setns, fchdir, chroot: home
 *   target      openat2 of the directory above, mkdirat, openat2       unlinkat, close
 *   attach      move_mount onto that fd                                fchdir into the mount, umount2(".")
 *
 * What is in there belongs to a container, and is hostile: no name of /proc is used, because its /proc may be
 * anything; no symbolic link is followed, and nothing above the namespace's root can be reached. After setns(2) the
 * thread's root is the namespace's, so it takes an fd of its own root to come back to where it was, which need not be
 * the root of its namespace (a process in a chroot).
 */
import { checkKeys } from '../check.js'
import { invalidArgType, invalidArgValue, outOfRange } from '../errors.js'
import * as f from '../flags.js'
import { isBytes, type PathLike } from '../path.js'
import * as c from '../program/calls.js'
import { cwd, type PlanBuilder } from '../program/plan.js'
import { about, type FdArg, type PathText, type Slot, type Step } from '../program/step.js'
import { parsePath, splitLast } from './bytes.js'

/**
 * A mount namespace: an fd of it (of `/proc/PID/ns/mnt`, or a pidfd from Linux 6.9 on), a path to it, or the process
 * that is in it, by its number in the caller's /proc. A number may be another process's by the time it is looked at: an
 * fd cannot. The fd stays the caller's and must be open until the call that takes it has ended.
 */
export type MountNamespace = number | PathLike | { pid: number }

/** A directory inside another mount namespace. */
export interface NamespaceTarget {
  /**
   * absolute, from the root of that namespace (not of a process in it that has changed its root), without `..`; no
   * symbolic link in it is followed
   */
  path: PathLike
  /**
   * which namespace. An object without it means what its path means alone; one that has it as `undefined` is refused, for
   * it may have been meant for a container
   */
  mountNamespace?: MountNamespace
}

export const isElsewhere = (target: unknown): target is NamespaceTarget =>
  typeof target === 'object' && target !== null && 'mountNamespace' in target

/** An object that holds a path and says nothing of where: a target in the caller's own namespace. */
export const isPathAlone = (target: unknown): target is { readonly path: PathLike } =>
  typeof target === 'object' &&
  target !== null &&
  'path' in target &&
  !('mount' in target) &&
  !isElsewhere(target)

/** As it is planned: each may be a hole. */
export interface Inside {
  /** a path that opens the namespace, in the caller's own */
  readonly namespace: PathText
  /** of the target, in that namespace */
  readonly above: PathText
  readonly name: PathText
}

/** The same without holes. */
export type InsideBytes = { readonly [K in keyof Inside]: Buffer }

const maxPid = 4_194_304

/** The path that opens a namespace. */
export function parseNamespace(value: unknown, name: string): Buffer {
  if (typeof value === 'number') {
    if (!Number.isInteger(value) || value < 0 || value > 0x7fff_ffff)
      throw outOfRange(name, 'an open fd', value)
    return Buffer.from(`/proc/self/fd/${value}`)
  }
  if (typeof value === 'string' || isBytes(value)) return parsePath(value, name)
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalidArgType(name, 'an fd, a path or { pid }', value)
  }
  const { pid } = checkKeys(value, name, ['pid'])
  if (typeof pid !== 'number') throw invalidArgType(`${name}.pid`, 'number', pid)
  if (!Number.isInteger(pid) || pid < 1 || pid > maxPid) {
    throw outOfRange(`${name}.pid`, `a whole number from 1 to ${maxPid}`, pid)
  }
  return Buffer.from(`/proc/${pid}/ns/mnt`)
}

function parseHere(value: unknown, name: string): { target: Buffer; namespace: undefined } {
  const target = parsePath(value, name)
  if (splitLast(target) !== undefined) return { target, namespace: undefined }
  throw invalidArgValue(name, value, "must be a directory below '/' and not end in '..'")
}

/** A target, checked: its path, and the namespace if it is inside another one. */
export function parseTarget(value: unknown, name: string): { target: Buffer; namespace: Buffer | undefined } {
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
  if (!isObject || isBytes(value)) {
    if (typeof value !== 'string' && !isBytes(value)) {
      throw invalidArgType(name, 'a string, a Buffer or { path, mountNamespace }', value)
    }
    return parseHere(value, name)
  }
  const raw = checkKeys(value, name, ['path', 'mountNamespace'])
  const { path, mountNamespace } = raw
  if (!('mountNamespace' in raw)) return parseHere(path, `${name}.path`)
  const target = parsePath(path, `${name}.path`)
  const isAbsolute = typeof path === 'string' ? path.startsWith('/') : (path as Uint8Array)[0] === 0x2f
  const parts = target.toString('latin1').split('/')
  if (!isAbsolute || splitLast(target) === undefined || parts.includes('..')) {
    throw invalidArgValue(`${name}.path`, path, "must be an absolute path below '/', without '..'")
  }
  return { target, namespace: parseNamespace(mountNamespace, `${name}.mountNamespace`) }
}

/** What is planned of a target that `parseTarget` answered. */
export const insideOf = (target: Buffer, namespace: Buffer): InsideBytes => {
  const { parent, name } = splitLast(target)!
  return { namespace, above: parent, name }
}

const namespaceOption = 'target.mountNamespace'
const pathOption = 'target.path'

/** What a thread needs to come back. */
export interface WayBack {
  /** where the namespaces of the thread are, in the caller's /proc */
  readonly own: Slot
  readonly home: Slot
  readonly root: Slot
}

/** Steps that open the way back: before the thread leaves, while /proc is the caller's. */
export function openWayBack(b: PlanBuilder): WayBack {
  const own = b.slot('own namespaces')
  const home = b.slot('own namespace')
  const root = b.slot('own root')
  b.add(
    c.openat(own, cwd, '/proc/thread-self/ns', f.O_PATH | f.O_DIRECTORY),
    c.openat(home, own, 'mnt', f.O_RDONLY),
    c.openat(root, cwd, '/', f.O_PATH | f.O_DIRECTORY),
  )
  b.always(c.close(root), c.close(home), c.close(own))
  return { own, home, root }
}

/**
 * Steps that enter a namespace and, after a failure, leave it before anything is undone that was done outside.
 *
 * @param last what is to be said of the last step of the way back
 * @returns the way back, to be taken in every case: the caller says what comes before and after
 */
export function enter(b: PlanBuilder, way: WayBack, namespace: FdArg, last: Partial<Step> = {}): Step[] {
  const entered = c.setns(namespace, f.CLONE_NEWNS, { subject: { option: namespaceOption } })
  b.add(entered)
  const back = (when: 'undo' | 'always'): Step[] => {
    const returned: Step = { ...c.setns(way.home, f.CLONE_NEWNS), when, ifDone: entered }
    const above: Step = { ...c.fchdir(way.root), when, ifDone: returned }
    return [
      returned,
      above,
      { ...c.chroot('.'), when, ifDone: above, home: true, ...(when === 'always' && last) },
    ]
  }
  b.undoBy(...back('undo'))
  return back('always')
}

/**
 * Steps that attach a mount inside another namespace.
 *
 * @param how `create`: make the target; with `parents` the directories above it too, which must be known then
 * @returns the slot of an fd of the namespace, and the step that attaches
 */
export function attachInside(
  b: PlanBuilder,
  mount: FdArg,
  inside: Inside,
  how: { readonly create: boolean; readonly parents: readonly Buffer[] },
): { namespace: Slot; attach: Step } {
  const way = openWayBack(b)
  const opened = b.slot('their namespace')
  const inThere = (what: PathText) => ({ subject: about(pathOption, what) })
  b.add(
    c.openat(opened, cwd, inside.namespace, f.O_RDONLY | f.O_NONBLOCK | f.O_NOCTTY, {
      subject: about(namespaceOption, inside.namespace),
    }),
  )
  b.always(c.close(opened))
  b.always(...enter(b, way, opened))
  // what was opened may be a pidfd, which is of no use once its process has ended
  const namespace = b.slot('mount namespace')
  b.add(c.openat(namespace, way.own, 'mnt', f.O_RDONLY))
  const above = b.slot('directory above')
  const directory = f.O_PATH | f.O_DIRECTORY
  if (how.parents.length === 0) {
    const resolve = f.RESOLVE_IN_ROOT | f.RESOLVE_NO_SYMLINKS
    b.add(c.openat2(above, cwd, inside.above, directory, resolve, inThere(inside.above)))
  } else openAbove(b, above, how.parents)
  const at = b.slot('target')
  if (how.create) {
    const made = c.mkdirat(above, inside.name, 0o755, { tolerate: [EEXIST], ...inThere(inside.name) })
    b.add(made).undo(made, c.rmdir(above, inside.name))
  }
  const resolve = f.RESOLVE_BENEATH | f.RESOLVE_NO_SYMLINKS
  b.add(c.openat2(at, above, inside.name, directory, resolve, inThere(inside.name)))
  const attach = c.attachAt(mount, at, inThere(inside.name))
  b.add(attach)
  b.always(c.close(above), c.close(at))
  b.note(insideNote)
  return { namespace, attach }
}

const EEXIST = 17

/** Makes and opens one directory after the other: each name is looked up in the directory that was just opened. */
function openAbove(b: PlanBuilder, above: Slot, names: readonly Buffer[]): void {
  let dir: FdArg = cwd
  const resolve = f.RESOLVE_BENEATH | f.RESOLVE_NO_SYMLINKS
  for (const name of names) {
    const subject = about(pathOption, name)
    b.add(c.mkdirat(dir, name, 0o777, { tolerate: [EEXIST], subject }))
    // a slot that is filled again is closed before
    b.add(c.openat2(above, dir, name, f.O_PATH | f.O_DIRECTORY, resolve, { subject }))
    dir = above
  }
}

/**
 * Takes what is attached inside away again, by the mount's own fd: from within it, since a path could lead anywhere.
 * Where the thread does not get there, "." is the root of that namespace.
 */
export const detachInside = (b: PlanBuilder, mount: FdArg, attach: Step, endsSuperblock: boolean): void => {
  const there: Step = { ...c.fchdir(mount), when: 'undo', ifDone: attach }
  b.undoBy(there, { ...c.umount('.', true, true, { endsSuperblock }), when: 'undo', ifDone: there })
}

export const insideNote =
  'attached in another mount namespace, whose owner may move, cover or unmount it; the handle keeps that namespace alive'
