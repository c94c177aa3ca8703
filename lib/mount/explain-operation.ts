/** What the methods of a mount would do: `mount.explain('moveTo', target)` takes what `mount.moveTo` takes. */
import { invalidArgValue } from '../errors.js'
import type { Features } from '../host/features.js'
import type { RungName } from '../overlay/choose.js'
import { Explanation, mayNotMount } from '../overlay/explanation.js'
import { isElsewhere } from '../overlay/inside.js'
import {
  ownsSuperblock,
  planCloseMount,
  planDiscard,
  planUnmount,
  planUnmountInside,
  type UnmountWay,
} from '../overlay/reap.js'
import { fillPlan } from '../program/fill.js'
import type { Plan } from '../program/plan.js'
import { planAttach } from './attach.js'
import { type Change, changes, explainChange, wayOf } from './change.js'
import type { Mount } from './mount.js'
import {
  attachTitle,
  mustBeDetached,
  mustBeMovable,
  mustBeOurs,
  mustTake,
  planAttachElsewhere,
  reachBelow,
} from './operations.js'
import { parseAttach, parseElsewhere, parseMove, parseWay } from './options.js'
import type { Standing } from './standing.js'
import { planUnmountBelow } from './unmount-inside.js'

/** What `mount.explain` explains: methods of a mount. */
export type MountOperation =
  | 'attach'
  | 'moveTo'
  | 'setAttributes'
  | 'setPropagation'
  | 'reconfigure'
  | 'unmount'

interface Explained {
  readonly rung?: RungName
  readonly plans: readonly Plan[]
}

type Explainers = {
  readonly [O in MountOperation]: (mount: Standing, ...args: Parameters<Mount[O]>) => Explained
}

const explainers: Explainers = {
  attach(mount, target, options = {}) {
    if (isElsewhere(target)) {
      const attachment = parseElsewhere(target, options)
      mustBeDetached(mount)
      return { plans: [planAttachElsewhere(mount, attachment)] }
    }
    const attachment = parseAttach(target, options)
    mustBeDetached(mount)
    return {
      plans: [planAttach(attachTitle(mount), mount.reach(), attachment, mount.kind, featuresOf(mount))],
    }
  },
  moveTo(mount, target, options = {}) {
    const attachment = parseMove(target, options)
    mustBeMovable(mount)
    return { plans: [planAttach('move', mount.reach(), attachment, mount.kind, featuresOf(mount))] }
  },
  setAttributes: (mount, ...args) => changed(mount, changes.setAttributes(mount.kind, ...args)),
  setPropagation: (mount, ...args) => changed(mount, changes.setPropagation(mount.kind, ...args)),
  reconfigure: (mount, ...args) => changed(mount, changes.reconfigure(mount.kind, ...args)),
  unmount: (mount, options = {}) => ({ plans: unmountPlans(mount, parseWay(options)) }),
}

const featuresOf = ({ host }: Standing): Features => host.features

function changed(mount: Standing, change: Change): Explained {
  mustTake(mount, change)
  const features = featuresOf(mount)
  const rung = wayOf(change, features, mount.host.rung)
  return { rung, plans: explainChange(mount.reach(), change, features, rung) }
}

function unmountPlans(mount: Standing, asked: UnmountWay): Plan[] {
  const { kind, claim, namespaceFd, phase, namespace, target } = mount
  const features = featuresOf(mount)
  if (phase === 'gone') return []
  mustBeOurs(mount)
  const watched = !asked.early && ownsSuperblock(kind)
  const way = watched ? { ...asked, inotify: -1 } : asked
  if (mount.outer) return [planUnmountBelow(reachBelow(mount), kind, claim, way, features)]
  if (phase === 'detached') return [planCloseMount(mount.mountFd!, claim, way, kind)]
  const { mountId, dev } = mount.state
  const attached = { target: target!, mountId, dev, kind, claim, namespace }
  if (namespaceFd !== undefined) {
    return [planUnmountInside(attached, namespaceFd, way, features), planDiscard({ fds: [namespaceFd] })]
  }
  const { plan, fills } = planUnmount(attached, way, features)
  return [fillPlan(plan, fills)]
}

/** Explains a call of a method. */
export function explainOperation<O extends MountOperation>(
  mount: Standing,
  operation: O,
  args: Parameters<Mount[O]>,
): Explanation {
  if (typeof operation !== 'string' || !Object.hasOwn(explainers, operation)) {
    const known = Object.keys(explainers).map((name) => `'${name}'`)
    throw invalidArgValue('operation', operation, `must be one of ${known.join(', ')}`)
  }
  const { rung = mount.state.rung ?? 'direct', plans } = explainers[operation](mount, ...args)
  return new Explanation(rung, plans, mayNotMount(featuresOf(mount)))
}
