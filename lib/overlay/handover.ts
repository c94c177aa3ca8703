/**
 * A mount that another process has made: found by what was written of it, or taken over as an fd.
 *
 *   operation   calls                                                     what they tell
 *   ---------   -----                                                     --------------
 *   open        openat2 of the directory above, openat of the name,       is this the mount that was written down?
 *               statx, fstatfs
 *               statmount(2); before Linux 6.8 mountinfo                  if not: is that one still there, and where?
 *   take        statx of the fd, of its "..", and of "/"; fstatfs         a detached mount's root?
 *               fcntl(F_DUPFD_CLOEXEC)                                    the handle's own, close-on-exec
 *               mount_setattr that changes nothing                        and no root of another mount namespace?
 *
 * Nothing is mounted, moved, changed or unmounted here, whatever the JSON says.
 */
import { binding } from '../binding.js'
import { invalidArgValue, invalidState, MountError } from '../errors.js'
import * as f from '../flags.js'
import { mustHaveStatx } from '../host/probing.js'
import type { MountState } from '../mount/standing.js'
import * as c from '../program/calls.js'
import type { Flow } from '../program/flow.js'
import { type Outcome, UnexpectedError } from '../program/outcome.js'
import { cwd, held, type Plan, PlanBuilder } from '../program/plan.js'
import type { Pool } from '../program/pool.js'
import { type Identity, identityOf } from '../program/result.js'
import { type Register, type Step, statfsField, statxField } from '../program/step.js'
import { splitLast } from './bytes.js'
import { HandoverError } from './handover-error.js'
import { bootId, type WrittenMount } from './handover-json.js'
import type { Host } from './host.js'
import { mountPointOf } from './mount-point.js'
import { type ListedMount, readMounts } from './mount-table.js'
import { isOwnNamespace } from './presence.js'
import { resolveParent } from './unmount.js'

const overlayMagic = BigInt(f.OVERLAYFS_SUPER_MAGIC)

/** What is at a path. */
interface Found extends Identity {
  readonly isMountRoot: boolean
  readonly isOverlay: boolean
  /** the id by which the handle is to know it */
  readonly handleId: bigint
}

export interface LookPlan {
  readonly plan: Plan
  readonly identity: Step
  /** by the id that this kernel has, where what was written has the other */
  readonly again: Step | undefined
  readonly statfs: Step
}

/** Index of the step that opens the directory above. */
const openAbove = 0

/** Looks at what is at a target. */
export function planLookAt(target: Buffer, unique: boolean, features: Host['features']): LookPlan {
  const { parent: above, name } = splitLast(target)!
  const subject = { option: 'target', path: target }
  const b = new PlanBuilder('open mount')
  const parent = b.slot('parent')
  const at = b.slot('mount')
  const flags = f.O_PATH | f.O_DIRECTORY
  b.add(
    features.openat2
      ? c.openat2(parent, cwd, above, flags, f.RESOLVE_NO_SYMLINKS, { subject })
      : c.openat(parent, cwd, above, flags, { subject }),
  )
  b.always(c.close(parent))
  b.add(c.openat(at, parent, name, f.O_PATH | f.O_NOFOLLOW, { subject }))
  b.always(c.close(at))
  const identity = c.statxFd(at, unique, { report: true, subject })
  b.add(identity)
  const again =
    unique === features.uniqueMountId
      ? undefined
      : c.statxFd(at, features.uniqueMountId, { report: true, subject })
  if (again) b.add(again)
  const statfs = c.fstatfs(at, { report: true, subject })
  return { plan: b.add(statfs).build(), identity, again, statfs }
}

function foundBy({ identity, again, statfs }: LookPlan, outcome: Outcome): Found {
  const buffer = outcome.report(identity)!
  const attributes = buffer.readBigUInt64LE(statxField.attributes.offset)
  const own = identityOf(buffer)
  return {
    ...own,
    isMountRoot: (attributes & BigInt(f.STATX_ATTR_MOUNT_ROOT)) !== 0n,
    isOverlay: outcome.report(statfs)!.readBigUInt64LE(statfsField.type.offset) === overlayMagic,
    handleId: again ? identityOf(outcome.report(again)!).mountId : own.mountId,
  }
}

/**
 * The mount that was written down, if it is there.
 *
 * @throws HandoverError if it is not · MountError: it could not be looked at
 */
export function* findWritten(host: Host, written: WrittenMount): Flow<MountState> {
  const { namespace, reaping: pool } = host.here()
  const { kind, rung, dev, mark } = written
  mustHaveStatx()
  checkPlace(written, namespace)
  let { target } = written
  let found: Found | undefined
  for (let resolved = false; ; resolved = true) {
    const look = planLookAt(target, written.unique, host.features)
    try {
      found = foundBy(look, yield { plan: look.plan, pool, abortable: true })
      break
    } catch (error) {
      if (!(error instanceof MountError)) throw error
      if (error.code === 'ELOOP' && error.step === openAbove && !resolved) {
        // the ids that are compared make following it safe
        target = withoutLinks(target)
        continue
      }
      if (!['ENOENT', 'ENOTDIR', 'ELOOP'].includes(error.code)) throw error
      break
    }
  }
  if (found === undefined || !isSame(written, found)) throw notFound(written, target, found)
  const inodes = Buffer.alloc(written.uppers.length * 16)
  for (const [i, inode] of written.uppers.flat().entries()) inodes.writeBigUInt64LE(inode, i * 8)
  const mountId = found.handleId
  return {
    rung,
    kind,
    target: written.target,
    mountFd: undefined,
    mountId,
    dev,
    ino: found.ino,
    mark,
    namespace,
    notes: [],
    // a clone's device is that of its layer, which is many mounts'
    claim: kind === 'overlay' ? binding.claimMount(mountId, dev, namespace, inodes) : 0,
  }
}

/** The path without symbolic links; as it is if that cannot be told. */
function withoutLinks(target: Buffer): Buffer {
  try {
    return resolveParent(target)
  } catch {
    // a link that leads nowhere: the next look says so
    return target
  }
}

function checkPlace(written: WrittenMount, namespace: number): void {
  const { target, boot, phase } = written
  const refuse = (code: HandoverError['code'], reason: string) => new HandoverError(code, target, reason)
  const now = bootId()
  if (boot === undefined || now === undefined) {
    const who = boot === undefined ? 'where it was written down' : 'here'
    const why = `no boot id can be read ${who}, so a restart of the machine in between cannot be excluded`
    throw refuse('ERR_OVERLAYFD_OTHER_BOOT', why)
  }
  if (boot !== now) {
    throw refuse(
      'ERR_OVERLAYFD_OTHER_BOOT',
      'the machine was started anew since, and mounts do not outlive that',
    )
  }
  if (written.namespace !== namespace && !isOwnNamespace(written.namespace)) {
    const why = 'it was attached in another mount namespace than the caller is in, or below another root'
    throw refuse('ERR_OVERLAYFD_OTHER_NAMESPACE', why)
  }
  if (phase === 'gone')
    throw refuse('ERR_OVERLAYFD_MOUNT_GONE', 'it was unmounted before it was written down')
}

/** By an id that is never given again; before Linux 6.8 by all that is known. */
function isSame(written: WrittenMount, found: Found): boolean {
  const { kind, mountId, unique, dev, ino, mark } = written
  if (!found.isMountRoot || found.mountId !== mountId || found.dev !== dev) return false
  // what is cloned or bound may lie on an overlay, and has no mark
  if (kind === 'overlay' ? !found.isOverlay : found.isOverlay && mark !== undefined) return false
  if (unique) return true
  if (ino !== undefined && ino !== found.ino) return false
  return mark === undefined || listed(written)?.source === mark
}

/** Its line in mountinfo, by what is used again of it. */
function listed({ mountId, unique, dev, kind, mark }: WrittenMount): ListedMount | undefined {
  try {
    return readMounts(kind === 'overlay' ? ' - overlay ' : '').find(
      (each) =>
        each.dev === dev &&
        (unique ? kind === 'overlay' : each.id === mountId) &&
        (!mark || each.source === mark),
    )
  } catch {
    // without /proc nothing more is known
    return undefined
  }
}

/** Where the mount is now, if it is still there. */
function placeOf(written: WrittenMount): Buffer | undefined {
  const point = written.unique ? mountPointOf(written.mountId) : null
  return point === null ? listed(written)?.target : point
}

function notFound(written: WrittenMount, target: Buffer, found: Found | undefined): HandoverError {
  const { mountId } = written
  // an id that is another's now cannot be looked for
  const isReused = found?.isMountRoot === true && found.mountId === mountId
  const place = isReused ? undefined : placeOf(written)
  if (place !== undefined && !place.equals(target)) {
    const where = JSON.stringify(place.toString())
    return new HandoverError('ERR_OVERLAYFD_MOUNT_MOVED', written.target, `it was moved to ${where}`, place)
  }
  if (place !== undefined) {
    const what = found?.isMountRoot ? 'another mount' : 'a mount on a directory above'
    return new HandoverError('ERR_OVERLAYFD_MOUNT_COVERED', written.target, `${what} covers it`)
  }
  if (found?.isMountRoot) {
    const why = 'it was unmounted, and another mount is at its place'
    return new HandoverError('ERR_OVERLAYFD_PATH_REUSED', written.target, why)
  }
  const why = 'it was unmounted, and nothing is mounted at its place'
  return new HandoverError('ERR_OVERLAYFD_MOUNT_GONE', written.target, why)
}

export interface TakePlan {
  readonly plan: Plan
  readonly identity: Step
  readonly root: Step
  readonly statfs: Step
}

const mountRoot = BigInt(f.STATX_ATTR_MOUNT_ROOT)

/**
 * Looks at an fd that was handed over, and makes it the program's own under another number. A detached mount has no
 * mount above it, so its root is its own "..".
 */
export function planTake(fd: number, unique: boolean): TakePlan {
  const b = new PlanBuilder('take rootfs')
  const given = held(fd, 'fd')
  const subject = { option: 'fd' }
  const mount: Register = b.register('mount')
  const isRoot = { field: statxField.attributes, mask: mountRoot, value: mountRoot }
  const remember = [{ field: statxField.mountId, register: mount }]
  const identity = c.statxFd(given, unique, { report: true, subject, expect: [isRoot], remember })
  const above = c.statxPath(given, '..', unique, {
    subject,
    expect: [{ field: statxField.mountId, value: mount }],
  })
  const root = c.statxPath(cwd, '/', unique, { report: true, subject })
  const statfs = c.fstatfs(given, { report: true, subject })
  const own = b.slot('mount')
  b.add(identity, above, root, statfs, c.dup(own, given, { subject }))
  b.output(own)
  return { plan: b.build(), identity, root, statfs }
}

/** No right to mount here: then the mount cannot be attached either. No such call, or a filter. */
const cannotTell = [1, 38]

/**
 * The root of another mount namespace is its own ".." too. There the kernel lets nobody set attributes who is elsewhere
 * (EINVAL; Linux 6.18). What is set here is so already: `nodev` is of the mount alone, unlike `readonly` in statfs(2).
 */
export function planTryOut(fd: number, flags: number): Plan {
  const b = new PlanBuilder('take rootfs')
  const attr = (flags & f.ST_NODEV) === 0 ? { clear: f.MOUNT_ATTR_NODEV } : { set: f.MOUNT_ATTR_NODEV }
  return b
    .add(c.mountSetattr(held(fd, 'mount'), attr, { subject: { option: 'fd' }, tolerate: cannotTell }))
    .build()
}

/** By calls that have not ended: each would close the number, and the second one somebody else's. */
const taking = new Set<number>()

/**
 * Takes over the fd of a detached mount. The number that was given is closed, and only if all went well.
 *
 * @throws TypeError: it is none · MountError EBADF
 */
export function* takeFd(host: Host, fd: number): Flow<MountState> {
  if (binding.owns(fd)) throw refuse(fd, 'it is still a handle’s: release() gives it away')
  if (taking.has(fd)) throw invalidState(`fd ${fd} is being taken over by another call`)
  taking.add(fd)
  try {
    return yield* takeGiven(host, fd)
  } finally {
    taking.delete(fd)
  }
}

function* takeGiven(host: Host, fd: number): Flow<MountState> {
  const { namespace, reaping: pool } = host.here()
  const { plan, identity, root, statfs } = planTake(fd, host.features.uniqueMountId)
  let outcome: Outcome
  try {
    outcome = yield { plan, pool, abortable: true }
  } catch (error) {
    if (!(error instanceof UnexpectedError)) throw error
    throw refuse(fd, error.step === identity || error.index === 0 ? 'it is no root of a mount' : attached)
  }
  const { mountId, dev, ino } = identityOf(outcome.report(identity)!)
  const [own] = outcome.outputs as [number]
  const { isOverlay, flags } = kindOf(outcome.report(statfs)!)
  const isOwnRoot = identityOf(outcome.report(root)!).mountId === mountId
  try {
    if (isOwnRoot) throw refuse(fd, attached)
    if (!isOverlay && (flags & f.ST_RDONLY) === 0)
      throw refuse(fd, 'it is no overlay, and no read-only clone of a layer')
    if (host.features.mountSetattr) yield* tryOut(pool, own, flags, fd)
  } catch (error) {
    binding.closeOwned(own)
    throw error
  }
  binding.close(fd)
  const kind = isOverlay ? 'overlay' : 'clone'
  const nothing = { rung: undefined, target: undefined, mark: undefined, notes: [], claim: 0 }
  return { ...nothing, kind, mountFd: own, mountId, dev, ino, namespace }
}

const attached = 'its mount is attached'

function* tryOut(pool: Pool, own: number, flags: number, fd: number): Flow<void> {
  try {
    yield { plan: planTryOut(own, flags), pool, abortable: true }
  } catch (error) {
    if (!(error instanceof MountError) || error.code !== 'EINVAL') throw error
    throw refuse(fd, 'its mount is the root of another mount namespace')
  }
}

function kindOf(statfs: Buffer): { isOverlay: boolean; flags: number } {
  const field = ({ offset }: { offset: number }) => statfs.readBigUInt64LE(offset)
  return { isOverlay: field(statfsField.type) === overlayMagic, flags: Number(field(statfsField.flags)) }
}

const refuse = (fd: number, why: string): TypeError =>
  invalidArgValue('fd', fd, `must be the fd of a detached rootfs: ${why}`)
