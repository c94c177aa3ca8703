/**
 * A bind mount by fd: a detached clone gets its attributes and ids, and then it is attached.
 *
 *   operation     calls                                            taken back by
 *   ---------     -----                                            -------------
 *   source        openat2 below a mount, if it is there            close
 *   clone         open_tree, with AT_RECURSIVE                     close (nothing is attached)
 *   attributes    mount_setattr, which takes it out of the peer
 *                 group of the source too; from 6.15 on
 *                 open_tree_attr does both
 *   target        mkdirat, openat2                                 unlinkat, close
 *   attach        move_mount; from here on it is visible           umount2 through its fd
 */
import * as f from '../flags.js'
import type { Features } from '../host/features.js'
import { outOfPeerGroup } from '../overlay/attributes.js'
import { usernsSteps } from '../overlay/userns.js'
import * as c from '../program/calls.js'
import { cwd, held, type Plan, PlanBuilder } from '../program/plan.js'
import type { FdArg, Slot, Step } from '../program/step.js'
import { attachSteps, detachedNote, rootOf } from './attach.js'
import { isChange } from './attributes.js'
import { createSteps, isInDetached, isInside, openInside, type Spot } from './place.js'
import type { BindSpec } from './spec.js'

/** What has been found out, or made, before a plan is made. */
export interface Known {
  readonly features: Features
  /** an fd of the source, if it was looked at */
  readonly sourceFd?: number | undefined
  readonly isDirectory: boolean
  /** ST_* of the mount that the source lies on */
  readonly mountFlags: number
  /** user namespace of the mapping, if there is one already */
  readonly usernsFd?: number | undefined
  /** with `create`, make the directories above a path too */
  readonly parents: boolean
  readonly notes: readonly string[]
}

/** A planned mount: the plan, and which of its steps and outputs mean what. */
export interface MadeMount {
  readonly plan: Plan
  /** reports the mount's id */
  readonly identity: Step
  /** of the plan's outputs, in order */
  readonly outputs: readonly ('mount' | 'userns')[]
}

export function planBind(spec: BindSpec, known: Known): MadeMount {
  const { features } = known
  const b = new PlanBuilder('direct').note(...known.notes)
  const outputs: ('mount' | 'userns')[] = []
  const root = rootOf(b, spec.target, features)
  const what = { ...sourceOf(b, spec, known), recursive: spec.recursive }
  const userns = spec.idmap && usernsOf(b, spec.idmap, known, outputs)
  const mount = b.slot('mount')
  cloneSteps(b, mount, spec, what, userns, features)
  const identity = c.statxFd(mount, features.uniqueMountId, { report: true })
  b.add(identity)
  if (spec.target === undefined) {
    b.output(mount)
    outputs.push('mount')
  } else {
    b.always(c.close(mount))
    if (spec.create) createSteps(b, spec.target, root, known)
    const isEarly = isHidden(spec.target)
    if (isEarly && spec.propagation !== undefined) b.note(detachedNote)
    // a slave is one by now; made so again it would not be unmounted together with its copies in other namespaces
    const propagation = isEarly || spec.propagation === f.MS_SLAVE ? undefined : spec.propagation
    attachSteps(b, mount, { ...spec, propagation, spot: spec.target }, root, 'bind')
  }
  return { plan: b.build(), identity, outputs }
}

/**
 * What the clone becomes before it is attached: taken out of the peer group, or made its slave; only `'shared'` leaves it
 * there.
 */
function early({ propagation, target }: BindSpec): number {
  if (propagation !== undefined && (target === undefined || isHidden(target))) return propagation
  if (propagation === f.MS_SHARED) return 0
  return propagation === f.MS_SLAVE ? f.MS_SLAVE : outOfPeerGroup
}

const isHidden = (target: Spot): boolean => isInside(target) && isInDetached(target.reach)

function usernsOf(
  b: PlanBuilder,
  idmap: NonNullable<BindSpec['idmap']>,
  { usernsFd }: Known,
  outputs: ('mount' | 'userns')[],
): FdArg {
  if (usernsFd !== undefined) return held(usernsFd, 'userns')
  return usernsSteps(b, idmap, (slot) => {
    b.output(slot)
    outputs.push('userns')
  })
}

/** What is cloned: by path where no place is to be looked for first. */
function sourceOf(
  b: PlanBuilder,
  { source }: BindSpec,
  { features, sourceFd }: Known,
): Omit<c.CloneOf, 'recursive'> {
  if (sourceFd !== undefined) return { dirFd: held(sourceFd, 'source'), path: '' }
  if ('fd' in source) return { dirFd: held(source.fd, 'source'), path: '' }
  if (!isInside(source)) return { dirFd: cwd, path: source.path }
  const root = rootOf(b, source, features)!
  return { dirFd: openInside(b, root, source.path, { option: 'source', path: source.path }), path: '' }
}

/** What is said of a source in errors. */
export const sourceSubject = ({ source }: BindSpec) => ({
  option: 'source',
  path: 'fd' in source ? `fd ${source.fd}` : source.path,
})

function cloneSteps(
  b: PlanBuilder,
  mount: Slot,
  spec: BindSpec,
  what: c.CloneOf,
  userns: FdArg | undefined,
  features: Features,
): void {
  const subject = sourceSubject(spec)
  const { set, clear } = spec.attributes
  const propagation = early(spec)
  const together = spec.recursiveAttributes || !spec.recursive
  const idmapped = userns === undefined ? 0 : f.MOUNT_ATTR_IDMAP
  // of all that is cloned, and of the top of it alone
  const all = { set: idmapped | (together ? set : 0), clear: together ? clear : 0, propagation, userns }
  const isAll = (all.set | all.clear | propagation) !== 0
  if (isAll && features.openTreeAttr) b.add(c.cloneOfAttr(mount, what, all, { subject }))
  else {
    b.add(c.cloneOf(mount, what, { subject }))
    if (isAll) b.add(c.mountSetattr(mount, all, { subject }, spec.recursive))
  }
  if (!together && isChange(spec.attributes)) b.add(c.mountSetattr(mount, { set, clear }, { subject }))
}
