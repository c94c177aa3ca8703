/**
 * Changes of a mount that is there: its attributes, its propagation, its superblock.
 *
 *   operation        by fd                                          by mount(2)
 *   ---------        -----                                          -----------
 *   look             of an attached one: openat2, openat, statx     the same
 *   attributes       mount_setattr                                  fstatfs, MS_REMOUNT|MS_BIND
 *   propagation      mount_setattr                                  MS_SHARED and its kin
 *   superblock       fspick, fsconfig CMD_RECONFIGURE               fstatfs, MS_REMOUNT
 *
 * All of it works on the fd that proved to be the mount's, so that nothing else is changed, whatever happens at the
 * path meanwhile.
 */
import { checkKeys } from '../check.js'
import { invalidArgType, invalidState, MountError } from '../errors.js'
import * as f from '../flags.js'
import type { Features } from '../host/features.js'
import {
  type MountAttributes,
  type Propagation,
  parsePropagation,
  remountFlags,
} from '../overlay/attributes.js'
import { missing, RungError } from '../overlay/choose.js'
import type { Host } from '../overlay/host.js'
import type { ParsedOption } from '../overlay/options.js'
import type { MountKind } from '../overlay/reap.js'
import * as c from '../program/calls.js'
import type { Flow } from '../program/flow.js'
import { type Plan, PlanBuilder } from '../program/plan.js'
import { type FdArg, type Step, statfsField, type Text } from '../program/step.js'
import { type AttributeChange, parseSomeChange } from './attributes.js'
import type { Way } from './choose.js'
import { explainMountFailure } from './failure.js'
import { type ChangeOptions, parseRecursive } from './options.js'
import { type Inside, isInDetached, type Reach, reachSteps, type Spot } from './place.js'
import { withSpots } from './resolve.js'
import { parseTmpfsChange, type TmpfsChange, tmpfsData, tmpfsOptions } from './tmpfs-options.js'

/** Of `reconfigure`: what the superblock is to be. */
export interface ReconfigureOptions extends TmpfsChange {
  /** of the superblock, and so of every mount of it */
  readonly?: boolean
}

interface SuperblockChange {
  readonly readonly: boolean | undefined
  readonly list: readonly ParsedOption[]
}

/** Checks what is to be reconfigured of such a mount. */
function parseReconfigure(options: ReconfigureOptions, kind: MountKind): SuperblockChange {
  const known = kind === 'overlay' ? ['readonly'] : ['readonly', ...tmpfsOptions]
  const { readonly, ...ofTmpfs } = checkKeys(options, 'options', known)
  if (readonly !== undefined && typeof readonly !== 'boolean') {
    throw invalidArgType('options.readonly', 'boolean', readonly)
  }
  if (kind === 'bind' || kind === 'clone') {
    throw invalidState('a bind has no superblock of its own: setAttributes changes the mount alone')
  }
  return { readonly, list: parseTmpfsChange(ofTmpfs, 'options') }
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

/** The changes by what the methods of a mount are called with, which is checked. */
export const changes = {
  setAttributes: (_: MountKind, attributes: MountAttributes, options: ChangeOptions = {}): Change =>
    attributeChange(parseSomeChange(attributes, 'attributes'), parseRecursive(options)),
  setPropagation: (_: MountKind, propagation: Propagation, options: ChangeOptions = {}): Change =>
    propagationChange(parseSomePropagation(propagation), parseRecursive(options)),
  reconfigure: (kind: MountKind, options: ReconfigureOptions): Change =>
    superblockChange(parseReconfigure(options, kind)),
} as const

function parseSomePropagation(value: Propagation): number {
  const parsed = parsePropagation(value, 'propagation')
  if (parsed === undefined) throw invalidArgType('propagation', 'string', value)
  return parsed
}

const attributeChange = (change: AttributeChange, isRecursive: boolean): Change => ({
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

const propagationChange = (propagation: number, isRecursive: boolean): Change => ({
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

const superblockChange = ({ readonly, list }: SuperblockChange): Change => ({
  title: 'reconfigure',
  ofMount: false,
  calls: ['fsContext'],
  isRecursive: false,
  repeats: true,
  steps(b, mount, way, statfs) {
    if (way === 'classic') {
      const ro = { msSet: readonly ? f.MS_RDONLY : 0, msClear: readonly === false ? f.MS_RDONLY : 0 }
      const flags = f.MS_REMOUNT | remountFlags(statfs, ro)
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

/** @throws RungError if neither serves */
export function wayOf(change: Change, features: Features, rung: Host['rung']): Way {
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
  for (let rung = host.rung; ; ) {
    const { features } = host
    const way = wayOf(change, features, rung)
    try {
      yield* withSpots(host, pool, { mount: spot as Spot }, function* ({ mount }): Flow<void> {
        const { reach } = mount as Inside
        const statfs = mustLook(change, way) ? yield* statfsOf(host, reach) : 0
        yield { plan: planChange(reach, change, features, way, statfs), pool, abortable: false }
      })
      return
    } catch (error) {
      if (rung === 'auto' && error instanceof MountError) {
        if (host.lacks(error)) continue
        if (isRefused(error)) {
          rung = 'classic'
          continue
        }
      }
      throw explainMountFailure(error, {}, features)
    }
  }
}

/** fspick is the one call of these that making a mount does not need, so nobody has asked for it before. */
const isRefused = ({ syscall, code }: MountError): boolean =>
  syscall === 'fspick' && (code === 'ENOSYS' || code === 'EPERM')

/** Whether mount(2) has to be told again what is to stay. */
const mustLook = (change: Change, way: Way): boolean => way === 'classic' && change.repeats

function planStatfs(reach: Reach, features: Features): { plan: Plan; step: Step } {
  const b = new PlanBuilder('look at the mount')
  const step = c.fstatfs(reachSteps(b, reach, features), { report: true })
  return { plan: b.add(step).build(), step }
}

/** The plans of a change, one after the other. */
export function explainChange(reach: Reach, change: Change, features: Features, way: Way): Plan[] {
  const look = mustLook(change, way) ? [planStatfs(reach, features).plan] : []
  return [...look, planChange(reach, change, features, way)]
}

function* statfsOf(host: Host, reach: Reach): Flow<number> {
  const { plan, step } = planStatfs(reach, host.features)
  const outcome = yield { plan, pool: host.here().composing, abortable: false }
  return Number(outcome.report(step)!.readBigUInt64LE(statfsField.flags.offset))
}

/** @throws Error ERR_INVALID_STATE inside a detached mount, where the kernel would answer EINVAL */
export function mustBeChangeable(reach: Reach): void {
  if (reach.kind !== 'below' || !isInDetached(reach)) return
  throw invalidState(
    'the mount is inside a detached one, where nothing can be changed: attach that one first',
  )
}
