/**
 * Plans that take things down: mounts, detached mounts, trees, fds. They run on the reaping threads,
 * because nearly all of them wait for RCU grace periods.
 *
 *   unmount    openat2 of the directory above, openat and statx of the name: still ours? fchdir, umount2 of the
 *              name, and then the close that takes the superblock down. Where a filter leaves threads no directory
 *              of their own, umount2 of the name below /proc/self/fd/N: the same lookup, but it takes a /proc
 *   discard    mount_setattr of the used trees: private; move_mount of all below the first, one close for all (2 us
 *              a tree, where a close of its own takes a grace period); close of ordinary fds
 */
import * as f from '../flags.js'
import type { Features } from '../host/features.js'
import * as c from '../program/calls.js'
import { cwd, held, type Plan, PlanBuilder } from '../program/plan.js'
import {
  about,
  type Expectation,
  type Fill,
  type Hole,
  type PathText,
  type Slot,
  type Step,
  statxField,
} from '../program/step.js'
import { outOfPeerGroup } from './attributes.js'
import { splitLast } from './bytes.js'
import type { Leftovers } from './host.js'
import { enter, openWayBack } from './inside.js'
import { watchStep } from './teardown.js'

/** What a mount is of. */
export type MountKind = 'overlay' | 'clone' | 'bind' | 'tmpfs'

/** Whether the superblock is the mount's own, and goes with it; a clone's is that of what it is a clone of. */
export const ownsSuperblock = (kind: MountKind): boolean => kind === 'overlay' || kind === 'tmpfs'

/**
 * Whether the end of its superblock waits for a grace period: that of an overlay, which unmounts its layers
 * (kern_unmount_array). That of a tmpfs waits for none (Linux 6.18).
 */
export const endWaits = (kind: MountKind): boolean => kind === 'overlay'

/** An attached mount, as it was when it was made. */
export interface Attached {
  readonly target: Buffer
  readonly mountId: bigint
  readonly dev: bigint
  readonly kind: MountKind
  /** number of its claim; 0 if it has none */
  readonly claim: number
  /** number of the mount namespace that it is in */
  readonly namespace: number
}

/** What of a mount its plan is about: known, or as holes. */
interface Known {
  readonly above: PathText
  readonly name: PathText
  readonly mountId: bigint | Hole
  /** where an id that may be reused is not enough */
  readonly dev: bigint | Hole | undefined
  readonly claim: number | Hole | undefined
}

/** How a mount is taken down. */
export interface UnmountWay {
  readonly lazy: boolean
  /** who waits is answered when the mount has left the namespace, and its superblock goes afterwards */
  readonly early: boolean
  /** an inotify instance that is to tell when the superblock is gone */
  readonly inotify?: number
}

const cached = new WeakMap<Features, Map<number, Plan>>()

/** Unmounts what is at the target, if it is still the mount that was attached there. */
export function planUnmount(
  mount: Attached,
  way: UnmountWay,
  features: Features,
): { plan: Plan; fills: Fill[] } {
  const { target, mountId, dev, claim } = mount
  const { parent, name } = splitLast(target)!
  const fills: Fill[] = [parent, name, mountId]
  // an id that may be reused is not enough
  if (!features.uniqueMountId) fills.push(dev)
  if (claim !== 0) fills.push(BigInt(claim))
  const { lazy, early, inotify = -2 } = way
  const shape =
    (ownsSuperblock(mount.kind) ? 1 : 0) |
    (endWaits(mount.kind) ? 2 : 0) |
    (claim ? 4 : 0) |
    (lazy ? 8 : 0) |
    (early ? 16 : 0) |
    ((inotify + 2) << 5)
  let plans = cached.get(features)
  if (plans === undefined) {
    plans = new Map()
    cached.set(features, plans)
  }
  let plan = plans.get(shape)
  if (plan === undefined) {
    plan = planShape(mount.kind, claim !== 0, way, features)
    plans.set(shape, plan)
  }
  return { plan, fills }
}

/** Index of the step that opens the directory above. */
export const openAbove = 0

function planShape(kind: Attached['kind'], isClaimed: boolean, way: UnmountWay, features: Features): Plan {
  const b = new PlanBuilder('unmount')
  const known: Known = {
    above: b.hole('directory above'),
    name: b.hole('name'),
    mountId: b.hole('mount id'),
    dev: features.uniqueMountId ? undefined : b.hole('device'),
    claim: isClaimed ? b.hole('claim') : undefined,
  }
  const parent = b.slot('parent')
  const flags = f.O_PATH | f.O_DIRECTORY
  const subject = about('target', known.name)
  b.add(
    features.openat2
      ? c.openat2(parent, cwd, known.above, flags, f.RESOLVE_NO_SYMLINKS, { subject })
      : c.openat(parent, cwd, known.above, flags, { subject }),
  )
  unmountSteps(b, kind, known, parent, way, features)
  return b.always(...leaveAbove(parent, features, pinsSuperblock(kind, way))).build()
}

/** By the answer nothing of ours keeps the mount above busy. */
export function leaveAbove(parent: Slot, { ownDirectory }: Features, answers: boolean): Step[] {
  const closed = c.close(parent)
  return ownDirectory ? [closed, { ...c.chdir('/'), answers }] : [{ ...closed, answers }]
}

/** As `planUnmount`, of a mount that is inside another mount namespace. */
export function planUnmountInside(
  { target, mountId, dev, claim, kind }: Attached,
  namespaceFd: number,
  way: UnmountWay,
  features: Features,
): Plan {
  const { parent: above, name } = splitLast(target)!
  const b = new PlanBuilder('unmount')
  const known: Known = {
    above,
    name,
    mountId,
    dev: features.uniqueMountId ? undefined : dev,
    claim: claim === 0 ? undefined : claim,
  }
  const pins = pinsSuperblock(kind, way)
  const wayBack = openWayBack(b)
  const parent = b.slot('parent')
  const back = enter(b, wayBack, held(namespaceFd, 'mount namespace'), { answers: pins })
  const resolve = f.RESOLVE_IN_ROOT | f.RESOLVE_NO_SYMLINKS
  const subject = about('target.path', above)
  b.add(c.openat2(parent, cwd, above, f.O_PATH | f.O_DIRECTORY, resolve, { subject }))
  unmountSteps(b, kind, known, parent, way, features)
  return b.always(c.close(parent), ...back).build()
}

/** Whether the superblock goes after the answer. */
const pinsSuperblock = (kind: MountKind, { lazy, early }: UnmountWay): boolean =>
  lazy && early && ownsSuperblock(kind)

/** Steps from the directory above to the unmount. */
export function unmountSteps(
  b: PlanBuilder,
  kind: MountKind,
  { name, mountId, dev, claim }: Omit<Known, 'above'>,
  parent: Slot,
  way: UnmountWay,
  features: Features,
): void {
  const subject = about('target', name)
  const expect: Expectation[] = [{ field: statxField.mountId, value: mountId }]
  if (dev !== undefined) expect.push({ field: statxField.dev, value: dev })
  const endsSuperblock = endWaits(kind)
  const pins = pinsSuperblock(kind, way)
  const check = { expect, report: true, subject }
  const pin = b.slot('mount')
  if (pins) {
    // an fd keeps the superblock until the mount has left the namespace and the answer is on its way
    b.add(c.openat(pin, parent, name, f.O_PATH | f.O_NOFOLLOW, { subject }))
    b.add(c.statxFd(pin, features.uniqueMountId, check))
  } else b.add(c.statxPath(parent, name, features.uniqueMountId, check))
  const path = features.ownDirectory ? name : ['/proc/self/fd/', parent, '/', name]
  if (features.ownDirectory) b.add(c.fchdir(parent))
  if (way.inotify !== undefined) b.add(watchStep(way.inotify, path))
  const gone = c.umount(path, way.lazy, true, {
    subject,
    commits: true,
    endsSuperblock: endsSuperblock && !pins,
  })
  if (claim !== undefined) {
    // before: whoever finds the mount gone must find that its directories are not free yet
    const retired = c.retireClaim(claim)
    b.add(retired).undo(retired, c.restoreClaim(claim))
    b.always(c.dropClaim(claim, { ifDone: gone }))
  }
  b.add(gone)
  if (pins) b.always({ ...c.close(pin), endsSuperblock })
}

/** Closes a mount that was never attached. */
export function planCloseMount(
  fd: number,
  claim: number,
  { early, inotify }: Omit<UnmountWay, 'lazy'>,
  kind: MountKind = 'overlay',
): Plan {
  const b = new PlanBuilder('close detached mount')
  const mount = b.input('mount', fd, endWaits(kind) ? 'superblock' : 'tree')
  if (inotify !== undefined) b.add(watchStep(inotify, ['/proc/self/fd/', mount, '/.']))
  if (claim === 0) return b.add(c.close(mount)).build()
  const retired = c.retireClaim(claim, { answers: early })
  return b
    .add(retired)
    .always(c.dropClaim(claim, { ifDone: retired }))
    .always(c.close(mount))
    .build()
}

/** Closes used trees together, and fds. */
export function planDiscard({ fds = [], trees = [] }: Leftovers): Plan {
  const b = new PlanBuilder('discard')
  const [first, ...others] = trees.map((fd, i) => b.input(`tree ${i}`, fd, 'tree'))
  // what the next tree comes to lie on may be a peer of a mount that others see: they would get a copy. Before it is
  // hung up, since then it is no root of its own, which is EINVAL
  const isolate = (tree: Slot) =>
    c.mountSetattr(tree, { propagation: outOfPeerGroup }, { tolerate: cannotHang })
  const isolated = first && others.length > 0 ? isolate(first) : undefined
  if (isolated) b.add(isolated)
  for (const tree of others) {
    if (tree !== others.at(-1)) b.add(isolate(tree))
    // where a tree cannot be hung up (before 6.15; its directory was deleted) its close takes it down
    b.add({ ...c.hangBelow(tree, first!), tolerate: cannotHang, ifDone: isolated! })
    b.add(drop(tree))
  }
  if (first) b.add(drop(first))
  for (const [i, fd] of fds.entries()) b.add(drop(b.input(`fd ${i}`, fd)))
  return b.build()
}

/** EINTR, EIO, ENOSPC, EDQUOT: it is closed all the same, and whoever closes a stack has nothing else to do about it. */
export const closedAnyway = [4, 5, 28, 122]
const drop = (slot: Slot): Step => ({ ...c.close(slot), tolerate: closedAnyway })

/** EPERM, ENOENT, EBUSY, EINVAL, ENOSPC, ELOOP */
const cannotHang = [1, 2, 16, 22, 28, 40]
