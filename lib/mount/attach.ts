/**
 * How a mount is attached by fd: the end of every plan that makes one, and a plan of its own for one that is detached or
 * is moved.
 *
 *   attach         move_mount to the target's path, or to a place inside a mount      umount2 through its fd
 *   propagation    mount_setattr after it: a shared parent makes what is attached     the same
 *                  below it shared; inside a detached mount before it, because there
 *                  the kernel changes nothing any more (EINVAL, Linux 6.18)
 */
import type { Features } from '../host/features.js'
import type { Host } from '../overlay/host.js'
import { endWaits, type MountKind } from '../overlay/reap.js'
import { propagationNote } from '../overlay/rungs/rung.js'
import * as c from '../program/calls.js'
import type { Flow } from '../program/flow.js'
import { type Plan, PlanBuilder } from '../program/plan.js'
import type { FdArg } from '../program/step.js'
import { explainMountFailure } from './failure.js'
import {
  type Inside,
  isInDetached,
  isInside,
  openInside,
  type Reach,
  reachSteps,
  type Spot,
} from './place.js'
import { withSpots } from './resolve.js'

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
  const gone = c.umount(['/proc/self/fd/', mount], true, false, { endsSuperblock: endWaits(kind) })
  b.undo(attach, gone)
}

/** Plan of an attach of a detached mount, or of a move of an attached one. */
export function planAttach(
  title: string,
  reach: Reach,
  attachment: Attachment,
  kind: MountKind,
  features: Features,
): Plan {
  const b = new PlanBuilder(title)
  const mount = reachSteps(b, reach, features)
  const root = rootOf(b, attachment.spot, features)
  attachSteps(b, mount, attachment, root, kind)
  return b.build()
}

/** Attaches or moves. @returns the target that it came to, and what is to be said of it */
export function* attachMount(
  host: Host,
  title: string,
  spot: Inside,
  attachment: Attachment,
  kind: MountKind,
): Flow<{ readonly target: Spot; readonly notes: readonly string[] }> {
  const { composing: pool } = host.here()
  const { features } = host
  const spots: { mount: Spot; target: Spot } = { mount: spot, target: attachment.spot }
  try {
    return yield* withSpots(host, pool, spots, function* ({ mount, target }) {
      const { reach } = mount as Inside
      const plan = planAttach(title, reach, { ...attachment, spot: target }, kind, features)
      yield { plan, pool, abortable: false }
      return { target, notes: plan.notes }
    })
  } catch (error) {
    throw explainMountFailure(error, { target: attachment.spot }, features)
  }
}
