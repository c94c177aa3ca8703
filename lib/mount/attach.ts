/**
 * The end of every plan that makes a mount by fd: it is attached somewhere, or handed out detached.
 *
 *   attach         move_mount to the target's path, or to a place inside a mount      umount2 through its fd
 *   propagation    mount_setattr after it: a shared parent makes what is attached     the same
 *                  below it shared; inside a detached mount before it, because there
 *                  the kernel changes nothing any more (EINVAL, Linux 6.18)
 */
import type { Features } from '../host/features.js'
import { type MountKind, ownsSuperblock } from '../overlay/reap.js'
import { propagationNote } from '../overlay/rungs/rung.js'
import * as c from '../program/calls.js'
import type { PlanBuilder } from '../program/plan.js'
import type { FdArg } from '../program/step.js'
import { isInDetached, isInside, openInside, reachSteps, type Spot } from './place.js'

export interface Attachment {
  readonly spot: Spot
  /** under the mount that is there */
  readonly beneath: boolean
  readonly propagation: number | undefined
  /** propagation is that of the mounts below too */
  readonly recursive: boolean
}

const propagationSubject = { option: 'propagation' }
/** Of a propagation that was set early. */
export const detachedNote =
  'propagation is set before the outer mount is attached: below a shared parent, everything becomes shared then'

/** An fd of the mount that a spot is inside of, if it is. */
export const rootOf = (b: PlanBuilder, spot: Spot | undefined, features: Features): FdArg | undefined =>
  spot && isInside(spot) ? reachSteps(b, spot.reach, features) : undefined

/** Steps that attach `mount`; `root`: what `rootOf` answered. */
export function attachSteps(
  b: PlanBuilder,
  mount: FdArg,
  { spot, beneath, propagation, recursive }: Attachment,
  root: FdArg | undefined,
  kind: MountKind,
): void {
  const subject = { option: 'target', path: spot.path }
  const early = isInside(spot) && isInDetached(spot.reach)
  const set = () =>
    c.mountSetattr(mount, { propagation: propagation! }, { subject: propagationSubject }, recursive)
  if (propagation !== undefined && early) b.note(detachedNote).add(set())
  const to = root === undefined ? { path: spot.path } : { fd: openInside(b, root, spot.path, subject) }
  const attach = c.attachTo(mount, { ...to, beneath }, { subject })
  b.add(attach)
  if (propagation === undefined || early) return
  b.note(propagationNote).add(set())
  const gone = c.umount(['/proc/self/fd/', mount], true, false, { endsSuperblock: ownsSuperblock(kind) })
  b.undo(attach, gone)
}
