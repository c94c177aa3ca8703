/**
 * What is done with a mount, as flows. Each looks how the mount stands once its turn has come, because what was under
 * way before may have attached, moved or unmounted it; runs the plans; and says how it stands then.
 */
import { binding } from '../binding.js'
import { diagnoseAttach } from '../diagnose.js'
import { invalidState, MountError, movedOn } from '../errors.js'
import { missing, visiting } from '../overlay/choose.js'
import type { Here } from '../overlay/host.js'
import { MountLook } from '../overlay/presence.js'
import { planCloseMount, type UnmountWay } from '../overlay/reap.js'
import { watchOf } from '../overlay/teardown.js'
import { unmountAttached } from '../overlay/unmount.js'
import type { Flow } from '../program/flow.js'
import { failedStep, type Outcome } from '../program/outcome.js'
import { type Attachment, attachMount } from './attach.js'
import { planAttachInside } from './attach-namespace.js'
import { type Change, changeMount, mustBeChangeable } from './change.js'
import type { ElsewhereAttachment } from './options.js'
import { isInDetached, isInside, type Reach, refreshed } from './place.js'
import { attachedElsewhere, released, type Standing } from './standing.js'
import { unmountInside } from './unmount-inside.js'

export function mustBeDetached({ phase }: Standing): void {
  if (phase === 'detached') return
  throw invalidState(`the mount is ${phase}: it can be attached once`)
}

export function mustBeMovable(mount: Standing): void {
  if (mount.phase === 'detached') throw invalidState('the mount is detached: attach puts it somewhere')
  mustBeChangeable(mount.reach())
}

export function mustTake(mount: Standing, { ofMount }: Change): void {
  const reach = mount.reach()
  if (ofMount) mustBeChangeable(reach)
}

/** Where it was asked for: by the time that it is its turn, the same path may mean something else. */
function hereStill({ host }: Standing, began: number): Here {
  const here = host.here()
  if (here.namespace !== began) throw movedOn()
  return here
}

/** What attaching is called in plans. */
export const attachTitle = ({ state }: Standing) => state.rung ?? 'attach'

/** `began`: number of the caller's mount namespace at the call. */
export function* attach(mount: Standing, began: number, attachment: Attachment): Flow<void> {
  mustBeDetached(mount)
  const { namespace } = hereStill(mount, began)
  const spot = refreshed(attachment.spot)
  try {
    const to = { ...attachment, spot }
    const { target, notes } = yield* attachMount(mount.host, attachTitle(mount), mount.spot(), to, mount.kind)
    mount.attached(target, namespace, notes)
  } catch (error) {
    if (!(isInside(spot) && isInDetached(spot.reach))) attachFailed(mount, error)
    throw error
  }
}

export function planAttachElsewhere(mount: Standing, { inside, propagation }: ElsewhereAttachment) {
  const why = missing(mount.host.features, visiting)
  if (why) throw invalidState(`no other mount namespace can be entered: ${why}`)
  const { kind, mountFd } = mount
  return planAttachInside(inside, { rung: attachTitle(mount), kind, mountFd: mountFd!, propagation })
}

export function* attachElsewhere(mount: Standing, began: number, to: ElsewhereAttachment): Flow<void> {
  mustBeDetached(mount)
  const plan = planAttachElsewhere(mount, to)
  let outcome: Outcome
  try {
    outcome = yield { plan, pool: hereStill(mount, began).visiting, abortable: false }
  } catch (error) {
    attachFailed(mount, error)
    throw diagnoseAttach(error)
  }
  mount.keepNamespace(outcome.outputs[0]!)
  mount.attached({ path: to.path }, mount.namespace, plan.notes)
}

/** It was attached and taken off again, and a mount that was unmounted cannot be attached any more. */
function attachFailed(mount: Standing, error: unknown): void {
  if (!(error instanceof MountError) || failedStep(error)?.subject?.option !== 'propagation') return
  binding.closeOwned(mount.closing())
  binding.dropClaim(mount.claim)
}

export function* move(mount: Standing, attachment: Attachment): Flow<void> {
  mustBeMovable(mount)
  const { host } = mount
  const { namespace } = host.here()
  const to = { ...attachment, spot: refreshed(attachment.spot) }
  const { target, notes } = yield* attachMount(host, 'move', mount.spot(), to, mount.kind)
  mount.settled(target, namespace, notes)
}

export function* change(mount: Standing, what: Change): Flow<void> {
  mustTake(mount, what)
  yield* changeMount(mount.host, mount.spot(), what)
}

export function mustBeOurs({ phase }: Standing): void {
  if (phase === 'released') throw released()
}

/** How a mount inside another is found. @throws Error ERR_INVALID_STATE if the outer one is detached */
export function reachBelow(mount: Standing): Extract<Reach, { kind: 'below' }> {
  const reach = mount.reach()
  mustBeChangeable(reach)
  return reach as Extract<Reach, { kind: 'below' }>
}

/** @returns the number of the watch, if `way` has an inotify instance */
export function* unmount(mount: Standing, way: UnmountWay): Flow<number | undefined> {
  const { host, phase, namespace, namespaceFd, target } = mount
  const { mountId, dev, kind, claim } = mount.state
  mustBeOurs(mount)
  if (phase === 'gone') return undefined
  if (mount.outer) return yield* unmountPlace(mount, way)
  const pool = namespaceFd === undefined ? host.reapingIn(namespace) : host.here().visiting
  if (phase === 'detached') {
    const fd = mount.closing()
    const closing = pool ?? host.here().reaping
    return watchOf(yield { plan: planCloseMount(fd, claim, way, kind), pool: closing, abortable: false })
  }
  if (pool === undefined) throw attachedElsewhere()
  const attached = { target: target!, mountId, dev, kind, claim, namespace }
  let watch: number | undefined
  try {
    watch = yield* unmountAttached(host, pool, attached, way, namespaceFd)
  } catch (error) {
    // its group may have been faster
    if (mount.isGroupLeaving) mount.gone(new MountLook(host.features.uniqueMountId))
    if (!isGone(mount)) throw error
  }
  mount.ended()
  return watch
}

/** By now. */
const isGone = ({ phase }: Standing): boolean => phase === 'gone'

function* unmountPlace(mount: Standing, way: UnmountWay): Flow<number | undefined> {
  const spot = { ...mount.spot(), reach: reachBelow(mount) }
  const watch = yield* unmountInside(mount.host, spot, mount.kind, mount.claim, way)
  mount.ended()
  return watch
}
