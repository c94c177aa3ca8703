/** Unmounts what is inside another mount of ours: it is found again below that one first. */
import { MountError } from '../errors.js'
import type { Features } from '../host/features.js'
import type { Host } from '../overlay/host.js'
import { leaveAbove, type MountKind, type UnmountWay, unmountSteps } from '../overlay/reap.js'
import { watchOf } from '../overlay/teardown.js'
import { unmountFailure } from '../overlay/unmount.js'
import type { Flow } from '../program/flow.js'
import { type Plan, PlanBuilder } from '../program/plan.js'
import { type Inside, mountOption, openPlace, type Reach, reachSteps, type Spot } from './place.js'
import { withSpots } from './resolve.js'

/** Plan of an unmount inside another mount, which is found again first. */
export function planUnmountBelow(
  reach: Extract<Reach, { kind: 'below' }>,
  kind: MountKind,
  claim: number,
  way: UnmountWay,
  features: Features,
): Plan {
  const b = new PlanBuilder('unmount')
  const root = reachSteps(b, reach.above, features)
  const parent = b.slot('parent')
  const at = reach.path.lastIndexOf('/')
  const name = reach.path.subarray(at + 1)
  const subject = { option: mountOption, path: reach.path }
  b.add(openPlace(parent, root, at < 0 ? Buffer.alloc(0) : reach.path.subarray(0, at), subject))
  const dev = features.uniqueMountId ? undefined : reach.dev
  const known = { name, mountId: reach.mountId, dev, claim: claim || undefined }
  // who unmounts the outer mount next must not find it busy with our fds: so the answer comes at the end
  unmountSteps(b, kind, known, parent, { ...way, early: false }, features)
  return b.always(...leaveAbove(parent, features, false)).build()
}

/** Unmounts what is inside another mount. */
export function* unmountInside(
  host: Host,
  spot: Inside,
  kind: MountKind,
  claim: number,
  way: UnmountWay,
): Flow<number | undefined> {
  const { reaping: pool } = host.here()
  const { features } = host
  const path = spot.mount.path
  try {
    return yield* withSpots(host, pool, { mount: spot as Spot }, function* ({ mount }) {
      const reach = (mount as Inside).reach as Extract<Reach, { kind: 'below' }>
      const plan = planUnmountBelow(reach, kind, claim, way, features)
      const outcome = yield { plan, pool, abortable: false }
      return way.inotify === undefined ? undefined : watchOf(outcome)
    })
  } catch (error) {
    const isExplained = error instanceof MountError && error.hint !== undefined
    throw isExplained ? error : unmountFailure(error, path)
  }
}
