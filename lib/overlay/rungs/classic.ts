/**
 * Rung classic: mount(2) at the target. Any kernel, no idmap, nothing detached.
 *
 * The data of mount(2) are one page, and what is longer is cut without an error. So no path is in it:
 * the thread's directory is /proc/self/fd, and layers, upper and work are their fds' numbers. 500 layers
 * fit, names of every kind work, and the target is reached by its fd too, so that no symbolic link is
 * followed.
 *
 * An fd that was opened before a mount is below it: to get at the mount, the target's name is looked up again, from the
 * fd of the target and one up, for the path may lead elsewhere by then. It must be the root of a mount, and from there on
 * its fd is used. While something is mounted on it, the directory cannot be renamed in this namespace (EBUSY).
 *
 *   operation     calls                                     taken back by
 *   ---------     -----                                     -------------
 *   mount         openat, chdir, mount(2): visible          umount2 of the name
 *   the mount     openat of "../name", statx
 *   clone         mount(2) bind; out of the layer's peer    the same
 *                 group; again for read-only with the
 *                 flags of the layer's mount
 *   checks        fstatfs
 */
import { outOfRange } from '../../errors.js'
import * as f from '../../flags.js'
import type { Features } from '../../host/features.js'
import * as c from '../../program/calls.js'
import { cwd, PlanBuilder } from '../../program/plan.js'
import {
  about,
  type FdArg,
  isHole,
  isSlot,
  type Slot,
  type Step,
  statfsField,
  type Text,
  type TextPart,
} from '../../program/step.js'
import { msAtimes, outOfPeerGroup, remountFlags } from '../attributes.js'
import { splitLast } from '../bytes.js'
import { missing } from '../choose.js'
import { isMountRoot } from '../identity.js'
import type { OpenLayer } from '../layers.js'
import { maxText } from '../options.js'
import { createSteps, known, type Upper, upperSteps } from '../upper.js'
import { isReadOnly } from './fs-context.js'
import { type Composition, cloneNote, propagationNote, type RungInput } from './rung.js'

export const name = 'classic'

const maxData = 4095
/** Digits of a number that a slot may turn out to hold. */
const slotDigits = 7

export function plan(input: RungInput): Composition {
  const { layers, spec, features } = input
  const target = spec.target!
  const subject = about('target', target)
  const b = new PlanBuilder(name).note(...input.notes).holes(input.holes)
  const at = b.slot('target')
  const made = createSteps(b, input)
  const upper = upperSteps(b, { ...input, userns: noIdmap }, made)
  b.add(c.openat(at, cwd, target, f.O_PATH | f.O_DIRECTORY | f.O_NOFOLLOW, { subject }))
  b.always(c.close(at))
  if (features.ownDirectory) {
    b.add(c.chdir('/proc/self/fd'))
    b.always(c.chdir('/'))
  } else b.note(`${missing(features, ['ownDirectory'])}: fewer layers fit into the data of mount(2)`)
  const isClone = layers.list.length === 1 && spec.upperdir === undefined
  const visible = isClone ? bindStep(b, input, at) : overlaySteps(b, input, at, upper)
  const again: Text = ['/proc/self/fd/', at, '/../', spec.targetName ?? splitLast(known(target))!.name]
  b.undo(visible, c.umount(again, true, true, { endsSuperblock: !isClone }))
  const mount = b.slot('mount')
  b.add(c.openat(mount, cwd, again, f.O_PATH | f.O_DIRECTORY | f.O_NOFOLLOW, { subject }))
  b.always(c.close(mount))
  const identity = c.statxFd(mount, features.uniqueMountId, {
    report: true,
    identifies: true,
    expect: isMountRoot(features),
    subject,
  })
  b.add(identity)
  if (isClone) cloneSteps(b, input, mount)
  if (upper && !isReadOnly(spec)) {
    const expect = [{ field: statfsField.flags, mask: BigInt(f.ST_RDONLY), value: 0n }]
    b.add(c.fstatfs(mount, { expect, subject: about('upperdir', spec.upperdir) }))
  }
  if (spec.propagation !== undefined) {
    b.note(propagationNote)
    b.add(
      c.mount(null, byNumber(mount, features), null, spec.propagation, null, {
        subject: { option: 'propagation' },
      }),
    )
  }
  return {
    plan: b.build(),
    identity,
    outputs: [],
    kind: isClone ? 'clone' : 'overlay',
  }
}

function noIdmap(): never {
  throw new Error('rung classic does not idmap')
}

/** An fd as a path: its number where the thread's directory is /proc/self/fd. */
const byNumber = (fd: FdArg, { ownDirectory }: Features): TextPart[] =>
  ownDirectory ? [fd] : ['/proc/self/fd/', fd]

function overlaySteps(b: PlanBuilder, input: RungInput, at: Slot, upper: Upper | undefined): Step {
  const { layers, spec, features, mark = 'overlay' } = input
  // this rung keeps an fd of every layer
  const lowers = layers.list.map(({ key, fd }) => ({ key, fd: fd! }))
  const data = overlayData(name, lowers, spec.options.list, upper, (fd) => byNumber(fd, features))
  if (isReadOnly(spec)) b.note('mount(2) makes the superblock read-only too, not this mount alone')
  const step = c.mount(mark, byNumber(at, features), 'overlay', spec.attributes.ms, data, { commits: true })
  b.add(step)
  return step
}

/** `lowerdir=5:6:7,upperdir=8,workdir=9,index=off`: fds by their numbers. */
export function overlayData(
  rung: string,
  lowers: readonly (Pick<OpenLayer, 'key'> & { readonly fd: FdArg })[],
  options: RungInput['spec']['options']['list'],
  upper: Upper | undefined,
  pathOf: (fd: FdArg) => TextPart[] = (fd) => [fd],
): TextPart[] {
  const parts: TextPart[] = ['lowerdir=']
  lowers.forEach(({ key, fd }, i) => {
    if (i > 0) parts.push(key === 'datadir+' ? '::' : ':')
    parts.push(...pathOf(fd))
  })
  if (upper) parts.push(',upperdir=', ...pathOf(upper.upper), ',workdir=', ...pathOf(upper.work))
  let rest = ''
  for (const { key, value, isText } of options) {
    if (value === undefined) rest += `,${key}`
    else if (!isText) rest += `,${key}=${value}`
    else {
      // SELinux takes its options out of the data by these quotes, before overlay splits it at commas
      parts.push(`${rest},${key}="`, value)
      rest = '"'
    }
  }
  if (rest) parts.push(rest)
  const length = parts.reduce((sum, part) => sum + partLength(part), 0)
  if (length > maxData) {
    throw outOfRange('options.lowerdir', `mount(2) data of at most ${maxData} bytes (rung ${rung})`, length)
  }
  return parts
}

function partLength(part: TextPart): number {
  if (typeof part === 'string' || part instanceof Uint8Array) return part.length
  // the only texts here that differ from mount to mount
  if (isHole(part)) return maxText
  return isSlot(part) ? slotDigits : String(part.fd).length
}

const copiesNote =
  'below a shared parent, a copy of the clone stays with its peers if something is mounted below the layer meanwhile: by fd it does not'

/**
 * mount(2) ignores MS_RDONLY together with MS_BIND: it takes a second call, which sets all attributes anew.
 * Those of the layer's mount are as they were when the layer was opened.
 */
function bindStep(b: PlanBuilder, { layers, features }: RungInput, at: Slot): Step {
  // a layer on its own is never reached by name
  const { fd, subject } = layers.list[0]!
  const bind = c.mount(byNumber(fd!, features), byNumber(at, features), null, f.MS_BIND, null, {
    commits: true,
    subject,
  })
  b.add(bind)
  return bind
}

function cloneSteps(b: PlanBuilder, { layers, spec, features }: RungInput, mount: Slot): void {
  const { subject, mountFlags } = layers.list[0]!
  const asked = spec.attributes.ms
  const change = {
    msSet: f.MS_RDONLY | asked,
    msClear: (asked & msAtimes) === 0 ? 0 : msAtimes & ~asked,
  }
  const flags = mountFlags === undefined ? change.msSet : remountFlags(mountFlags, change)
  b.note(cloneNote, 'the clone is writable for a moment: mount(2) makes it read-only by a second call')
  b.note(copiesNote)
  const there = byNumber(mount, features)
  b.add(
    c.mount(null, there, null, outOfPeerGroup, null, { subject }),
    c.mount(null, there, null, f.MS_REMOUNT | f.MS_BIND | flags, null, { subject }),
  )
}
