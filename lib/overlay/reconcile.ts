/**
 * What processes that have ended left mounted below a directory, found by the mark that their mounts carry
 * (owner-mark.ts), and taken down on request.
 *
 *   operation   calls                                       what they tell
 *   ---------   -----                                       --------------
 *   list        mountinfo, /proc/PID/stat, kill(pid, 0)     marked mounts below the directory; whether the owner is alive
 *   look        openat of the target, statx                 is it in reach, and by which id is it known for good?
 *   unmount     as Rootfs.unmount                           still the same? then umount2
 *
 * mountinfo and not listmount(2): it has the source on every kernel (statmount since 6.13), and names mounts that
 * cannot be reached. Its ids are used again, so the one that is not is asked for at the target of each mount that was
 * found, and mountinfo is read again after that: what had such an id before and afterwards has the mark, or is gone.
 */
import { realpathSync } from 'node:fs'
import { binding } from '../binding.js'
import { invalidArgType, invalidState, MountError } from '../errors.js'
import { hasRunOut } from '../exhausted.js'
import * as f from '../flags.js'
import { mustHaveStatx } from '../host/probing.js'
import { cString, type PathLike } from '../path.js'
import * as c from '../program/calls.js'
import type { Flow } from '../program/flow.js'
import { cwd, type Plan, PlanBuilder } from '../program/plan.js'
import { identityOf } from '../program/result.js'
import { type Step, statxField } from '../program/step.js'
import { absolute, isBelow } from './bytes.js'
import { checkKeys } from './call-options.js'
import { HandoverError } from './handover-error.js'
import type { Here, Host } from './host.js'
import { type ListedMount, readMounts } from './mount-table.js'
import { isAlive, markPrefix, type Owner, parseMark } from './owner-mark.js'
import { unmountAttached } from './unmount.js'

/** Who made a mount, as its mark says, and what has become of him. */
export interface MountOwner extends Owner {
  /**
   * `false`: it has ended, or the pid is another process's. `undefined`: that cannot be told from here, because it
   * belongs to another pid namespace or /proc hides it
   */
  readonly isAlive: false | undefined
}

/** A mount whose owner is not known to be alive. */
export interface Leftover {
  /** where it is; bytes that are no UTF-8 are replaced */
  readonly target: string
  /** the same as bytes */
  readonly targetBytes: Buffer
  /** a rootfs, or the mount of a MountGroup */
  readonly kind: 'overlay' | 'tmpfs'
  /** as `rootfs.mountId`; undefined if it is not in reach, because another mount covers it */
  readonly mountId: bigint | undefined
  /** the process that made it */
  readonly owner: MountOwner
  /** whether it was taken down now */
  readonly isUnmounted: boolean
  /** why it is still there, although it was to be taken down */
  readonly error?: Error
}

/** Of `reconcile`. */
export interface ReconcileOptions {
  /**
   * what is taken down: nothing (`false`, the default), whatever has a dead owner (`true`), or what this function
   * answers true for. It is asked for every leftover before the first is taken down, for those whose owner cannot be
   * told too
   */
  unmount?: boolean | ((leftover: Leftover) => boolean)
  /** `true`: also what is in use, and with it all that is mounted below (MNT_DETACH). Default `false`: EBUSY then */
  lazy?: boolean
}

interface Wanted {
  readonly dir: Buffer
  readonly isWanted: (leftover: Leftover) => boolean
  readonly lazy: boolean
}

interface Candidate {
  readonly mount: ListedMount
  leftover: Leftover
}

/** Checks the arguments at once, and does nothing else before it is driven. */
export function reconcileFlow(host: Host, dir: PathLike, options: ReconcileOptions): Flow<Leftover[]> {
  const path = absolute(cString(dir, 'dir').subarray(0, -1))
  const { unmount = false, lazy = false } = checkKeys(options, 'options', ['unmount', 'lazy'])
  if (typeof unmount !== 'boolean' && typeof unmount !== 'function') {
    throw invalidArgType('options.unmount', 'boolean or function', unmount)
  }
  if (typeof lazy !== 'boolean') throw invalidArgType('options.lazy', 'boolean', lazy)
  const isWanted =
    typeof unmount === 'function'
      ? (leftover: Leftover) => unmount(leftover) === true
      : ({ owner }: Leftover) => unmount && owner.isAlive === false
  return reconcile(host, { dir: path, isWanted, lazy })
}

function* reconcile(host: Host, { dir, isWanted, lazy }: Wanted): Flow<Leftover[]> {
  mustHaveStatx()
  const here = host.here()
  // mount points are real paths
  const found = listLeftovers(readMounts(markPrefix), realpathSync.native(dir, 'buffer'))
  for (const each of found) each.leftover = yield* look(host, here, each)
  confirm(found)
  // all is decided before anything is done
  let wanted = found.filter(({ leftover }) => isWanted(leftover))
  // what has gone may have been in the way of another
  for (let before = -1; wanted.length !== before; ) {
    before = wanted.length
    for (const each of wanted) each.leftover = yield* takeDown(host, here, each, lazy)
    wanted = wanted.filter(({ leftover }) => !leftover.isUnmounted)
  }
  return found.map(({ leftover }) => leftover)
}

/** Marked mounts below a directory whose owner is not alive, what is mounted upon others first. */
export function listLeftovers(
  mounts: readonly ListedMount[],
  dir: Buffer,
  alive: (owner: Owner) => boolean | undefined = isAlive,
): Candidate[] {
  const owners = new Map<string, MountOwner | undefined>()
  const ownerOf = (mark: string): MountOwner | undefined => {
    if (!owners.has(mark)) {
      const owner = parseMark(mark)
      const state = owner === undefined ? true : alive(owner)
      owners.set(mark, owner === undefined || state === true ? undefined : { ...owner, isAlive: state })
    }
    return owners.get(mark)
  }
  const found: Candidate[] = []
  for (const mount of mounts) {
    const { type, target, source } = mount
    if ((type !== 'overlay' && type !== 'tmpfs') || !isBelow(dir, target)) continue
    const owner = ownerOf(source)
    if (owner === undefined) continue
    const place = { target: target.toString(), targetBytes: target }
    found.push({ mount, leftover: { ...place, kind: type, mountId: undefined, owner, isUnmounted: false } })
  }
  return topmostFirst(found)
}

/** Deeper paths first; at one path, what covers the others. */
function topmostFirst(found: Candidate[]): Candidate[] {
  const byId = new Map(found.map(({ mount }) => [mount.id, mount]))
  const above = ({ mount }: Candidate): number => {
    let count = 0
    for (let at = byId.get(mount.parent); at !== undefined && count < byId.size; at = byId.get(at.parent))
      count++
    return count
  }
  const depth = ({ mount }: Candidate) => mount.target.toString('latin1').split('/').length
  const ranked = found.map((each) => ({ each, depth: depth(each), above: above(each) }))
  return ranked.sort((a, b) => b.depth - a.depth || b.above - a.above).map(({ each }) => each)
}

export interface LookPlan {
  readonly plan: Plan
  /** by the id of mountinfo */
  readonly listed: Step
  /** by the one that is not used again, where there is one */
  readonly unique: Step | undefined
}

/** Looks at a mount point, on one fd. */
export function planLookUp(target: Buffer, unique: boolean): LookPlan {
  const b = new PlanBuilder('reconcile')
  const subject = { option: 'dir', path: target }
  const at = b.slot('mount')
  b.add(c.openat(at, cwd, target, f.O_PATH | f.O_DIRECTORY | f.O_NOFOLLOW, { subject }))
  b.always(c.close(at))
  const listed = c.statxFd(at, false, { report: true, subject })
  const known = unique ? c.statxFd(at, true, { report: true, subject }) : undefined
  b.add(listed, ...(known ? [known] : []))
  return { plan: b.build(), listed, unique: known }
}

const mountRoot = BigInt(f.STATX_ATTR_MOUNT_ROOT)

/** Its id, if it is what is seen at its target. */
function* look(host: Host, { reaping }: Here, { mount, leftover: found }: Candidate): Flow<Leftover> {
  const { error: _, ...leftover } = found
  const { plan, listed, unique } = planLookUp(mount.target, host.features.uniqueMountId)
  try {
    const outcome = yield { plan, pool: reaping, abortable: true }
    const buffer = outcome.report(listed)!
    const { mountId, dev } = identityOf(buffer)
    const isRoot = (buffer.readBigUInt64LE(statxField.attributes.offset) & mountRoot) !== 0n
    if (!isRoot || mountId !== mount.id || dev !== mount.dev) return { ...leftover, mountId: undefined }
    return { ...leftover, mountId: unique ? identityOf(outcome.report(unique)!).mountId : mountId }
  } catch (error) {
    // covered from above, or gone since
    if (error instanceof MountError && !hasRunOut(error.code)) return { ...leftover, mountId: undefined }
    throw error
  }
}

/** Another mount may have got the number of one that is gone before it was looked at; then it has no mark, or another. */
function confirm(found: readonly Candidate[]): void {
  const now = new Map(readMounts(markPrefix).map((mount) => [mount.id, mount]))
  for (const each of found) {
    const { id, source, dev } = each.mount
    const mount = now.get(id)
    if (mount?.source !== source || mount.dev !== dev)
      each.leftover = { ...each.leftover, mountId: undefined }
  }
}

function* takeDown(host: Host, here: Here, candidate: Candidate, lazy: boolean): Flow<Leftover> {
  const { mount } = candidate
  const { target, dev } = mount
  const { error: _, ...known } = candidate.leftover
  candidate.leftover = known
  if (known.mountId === undefined) {
    // what covered it may have been taken down meanwhile
    candidate.leftover = yield* look(host, here, candidate)
    confirm([candidate])
  }
  const { leftover } = candidate
  const { mountId, kind } = leftover
  if (mountId === undefined) {
    const why = 'another mount covers it, or a directory above it, or it was taken down meanwhile'
    return { ...leftover, error: new HandoverError('ERR_OVERLAYFD_MOUNT_COVERED', target, why) }
  }
  if (kind === 'overlay' && isOurs(mountId, dev)) {
    return { ...leftover, error: invalidState('this process has opened the rootfs: it was left alone') }
  }
  try {
    const attached = { target, mountId, dev, kind, claim: 0, namespace: here.namespace }
    yield* unmountAttached(host, here.reaping, attached, { lazy, early: false })
    return { ...leftover, isUnmounted: true }
  } catch (error) {
    return { ...leftover, error: error as Error }
  }
}

/** Whether this process has a claim for the mount: it has opened it (`Rootfs.open`). */
function isOurs(mountId: bigint, dev: bigint): boolean {
  const mount = binding.claimedMount(binding.claimOfDevice(dev))
  return Array.isArray(mount) && mount[0] === mountId
}
