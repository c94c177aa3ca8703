/**
 * Changes of a mount that is there: its attributes, its propagation, its superblock, its place.
 *
 *   operation        by fd                                          by mount(2)
 *   ---------        -----                                          -----------
 *   look             of an attached one: openat2, openat, statx     the same
 *   attributes       mount_setattr                                  fstatfs, MS_REMOUNT|MS_BIND
 *   propagation      mount_setattr                                  MS_SHARED and its kin
 *   superblock       fspick, fsconfig CMD_RECONFIGURE               fstatfs, MS_REMOUNT
 *   place            move_mount                                     –
 *
 * All but a move works on the fd that proved to be the mount's, so that nothing else is changed, whatever happens at
 * the path meanwhile.
 */
import { invalidArgType, invalidState, MountError } from '../errors.js'
import * as f from '../flags.js'
import type { Features } from '../host/features.js'
import { missing, RungError } from '../overlay/choose.js'
import type { Host } from '../overlay/host.js'
import type { ParsedOption } from '../overlay/options.js'
import { type MountKind, type UnmountWay, unmountSteps } from '../overlay/reap.js'
import { watchOf } from '../overlay/teardown.js'
import { unmountFailure } from '../overlay/unmount.js'
import * as c from '../program/calls.js'
import type { Flow } from '../program/flow.js'
import { type Plan, PlanBuilder } from '../program/plan.js'
import { type FdArg, statfsField, type Text } from '../program/step.js'
import { type Attachment, attachSteps, rootOf } from './attach.js'
import { type AttributeChange, remountFlags } from './attributes.js'
import type { Way } from './choose.js'
import { explainMountFailure } from './failure.js'
import {
  type Inside,
  isInDetached,
  mountOption,
  openPlace,
  type Reach,
  reachSteps,
  type Spot,
} from './place.js'
import { withSpots } from './resolve.js'
import { parseTmpfsChange, type TmpfsChange, tmpfsData } from './tmpfs-options.js'

/** Of `reconfigure`: what the superblock is to be. */
export interface ReconfigureOptions extends TmpfsChange {
  /** of the superblock, and so of every mount of it */
  readonly?: boolean
}

export interface SuperblockChange {
  readonly readonly: boolean | undefined
  readonly list: readonly ParsedOption[]
}

/** Checks what is to be reconfigured of such a mount. */
export function parseReconfigure(options: ReconfigureOptions, kind: MountKind): SuperblockChange {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw invalidArgType('options', 'an object', options)
  }
  const { readonly, ...rest } = options
  if (readonly !== undefined && typeof readonly !== 'boolean') {
    throw invalidArgType('options.readonly', 'boolean', readonly)
  }
  if (kind === 'bind' || kind === 'clone') {
    throw invalidState('a bind has no superblock of its own: setAttributes changes the mount alone')
  }
  const list = kind === 'tmpfs' ? parseTmpfsChange(rest, 'options') : parseTmpfsChange(rest, 'options', [])
  return { readonly, list }
}

/** A change, by either way. `statfs`: the flags that mount(2) has to repeat. */
export interface Change {
  readonly title: string
  /** of the mount, not of its superblock: refused inside a detached one */
  readonly ofMount: boolean
  readonly calls: readonly (keyof Features)[]
  readonly isRecursive: boolean
  readonly repeats: boolean
  steps(b: PlanBuilder, mount: FdArg, way: Way, statfs: number): void
}

const byFd = (mount: FdArg): Text => ['/proc/self/fd/', mount]

export const attributeChange = (change: AttributeChange, isRecursive: boolean): Change => ({
  title: 'set attributes',
  ofMount: true,
  calls: ['mountSetattr'],
  isRecursive,
  repeats: true,
  steps(b, mount, way, statfs) {
    const { set, clear } = change
    const subject = { option: 'attributes' }
    if (way === 'direct') b.add(c.mountSetattr(mount, { set, clear }, { subject }, isRecursive))
    else {
      const flags = f.MS_REMOUNT | f.MS_BIND | remountFlags(statfs, change)
      b.add(c.mount(null, byFd(mount), null, flags, null, { subject }))
    }
  },
})

export const propagationChange = (propagation: number, isRecursive: boolean): Change => ({
  title: 'set propagation',
  ofMount: true,
  calls: ['mountSetattr'],
  // mount(2) can do it too: MS_REC
  isRecursive: false,
  repeats: false,
  steps(b, mount, way) {
    const subject = { option: 'propagation' }
    if (way === 'direct') b.add(c.mountSetattr(mount, { propagation }, { subject }, isRecursive))
    else {
      const flags = propagation | (isRecursive ? f.MS_REC : 0)
      b.add(c.mount(null, byFd(mount), null, flags, null, { subject }))
    }
  },
})

export const superblockChange = ({ readonly, list }: SuperblockChange): Change => ({
  title: 'reconfigure',
  ofMount: false,
  calls: ['fsContext'],
  isRecursive: false,
  repeats: true,
  steps(b, mount, way, statfs) {
    if (way === 'classic') {
      const ro = { msSet: readonly ? f.MS_RDONLY : 0, msClear: readonly === false ? f.MS_RDONLY : 0 }
      const flags = f.MS_REMOUNT | remountFlags(statfs, { set: 0, clear: 0, ...ro })
      if (readonly !== undefined)
        b.note('mount(2) makes this mount read-only or writable too, not the superblock alone')
      b.add(c.mount(null, byFd(mount), null, flags, tmpfsData(list), { subject: { option: 'reconfigure' } }))
      return
    }
    const fs = b.slot('fs')
    b.add(c.fspick(fs, mount, { subject: { option: 'reconfigure' } }))
    b.always(c.close(fs))
    if (readonly !== undefined)
      b.add(c.setFlag(fs, readonly ? 'ro' : 'rw', { subject: { option: 'readonly' } }))
    for (const { key, value } of list) {
      const subject = { option: key }
      b.add(value === undefined ? c.setFlag(fs, key, { subject }) : c.setString(fs, key, value, { subject }))
    }
    b.add(c.reconfigure(fs, { subject: { option: 'reconfigure' } }))
  },
})

/** Plan of a change. */
export function planChange(reach: Reach, change: Change, features: Features, way: Way, statfs = 0): Plan {
  const b = new PlanBuilder(change.title)
  change.steps(b, reachSteps(b, reach, features), way, statfs)
  return b.build()
}

function wayOf(change: Change, features: Features, rung: Host['rung']): Way {
  const absent = missing(features, change.calls)
  if (rung !== 'classic' && absent === undefined) return 'direct'
  const why = change.isRecursive ? 'mount(2) sets the attributes of one mount only' : undefined
  if (why === undefined && (rung === 'classic' || rung === 'auto')) return 'classic'
  const reasons = { ...(absent && { direct: absent }), ...(why && { classic: why }) }
  throw new RungError(`no rung can change this: ${Object.values(reasons).join('; ')}`, reasons)
}

/** Makes a change. */
export function* changeMount(host: Host, spot: Inside, change: Change): Flow<void> {
  const { composing: pool } = host.here()
  for (;;) {
    const { features } = host
    const way = wayOf(change, features, host.rung)
    try {
      yield* withSpots(host, pool, { mount: spot as Spot }, function* ({ mount }): Flow<void> {
        const { reach } = mount as Inside
        const statfs = way === 'classic' && change.repeats ? yield* statfsOf(host, reach) : 0
        yield { plan: planChange(reach, change, features, way, statfs), pool, abortable: false }
      })
      return
    } catch (error) {
      if (error instanceof MountError && host.rung === 'auto' && host.lacks(error)) continue
      throw explainMountFailure(error, {}, features)
    }
  }
}

function* statfsOf(host: Host, reach: Reach): Flow<number> {
  const b = new PlanBuilder('look at the mount')
  const step = c.fstatfs(reachSteps(b, reach, host.features), { report: true })
  b.add(step)
  const outcome = yield { plan: b.build(), pool: host.here().composing, abortable: false }
  return Number(outcome.report(step)!.readBigUInt64LE(statfsField.flags.offset))
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
  return b.always(c.close(parent), c.chdir('/')).build()
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

/** @throws Error ERR_INVALID_STATE inside a detached mount, where the kernel would answer EINVAL */
export function mustBeChangeable(reach: Reach): void {
  if (reach.kind !== 'below' || !isInDetached(reach)) return
  throw invalidState(
    'the mount is inside a detached one, where nothing can be changed: attach that one first',
  )
}
