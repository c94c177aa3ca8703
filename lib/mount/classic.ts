/**
 * Bind mounts and tmpfs by mount(2), where the kernel has no calls on fds, or rung classic is forced.
 *
 *   operation     calls                                             taken back by
 *   ---------     -----                                             -------------
 *   target        mkdirat, openat of the directory above, openat    unlinkat, close
 *   mount         mount(2) on the name of its fd: visible           umount2 of the name, from the fd above
 *   the mount     openat of the same name, statx: is it a mount?    close
 *   attributes    of a bind a second mount(2), MS_REMOUNT|MS_BIND,
 *                 with the flags of the source's mount repeated
 *   propagation   a further mount(2)
 */
import * as f from '../flags.js'
import { outOfPeerGroup, remountFlags } from '../overlay/attributes.js'
import { splitLast } from '../overlay/bytes.js'
import { isMountRoot } from '../overlay/identity.js'
import { endWaits } from '../overlay/reap.js'
import { propagationNote } from '../overlay/rungs/rung.js'
import * as c from '../program/calls.js'
import { cwd, held, PlanBuilder } from '../program/plan.js'
import { type FdArg, type Slot, type Step, statxField, type Text } from '../program/step.js'
import { rootOf } from './attach.js'
import { isChange } from './attributes.js'
import { type Known, type MadeMount, sourceSubject } from './bind.js'
import { createSteps, openPlace, type Spot } from './place.js'
import type { BindSpec, TargetSpec, TmpfsSpec } from './spec.js'
import { tmpfsData } from './tmpfs-options.js'

const byFd = (slot: Slot): Text => ['/proc/self/fd/', slot]

const S_IFMT = 0o170000
const S_IFREG = 0o100000
const regular = { field: statxField.mode, mask: BigInt(S_IFMT), value: BigInt(S_IFREG) }

const copiesNote =
  'below a shared parent, copies of a recursive bind stay with its peers when it is unmounted: by fd they do not'

/**
 * By mount(2) all is done at the target: it is opened for the call, and again to get at what is there then, both times from
 * one fd of the directory above. While something is mounted on it, nobody in this namespace can rename it (EBUSY).
 */
function planAt(
  spec: TargetSpec,
  known: Known,
  kind: 'bind' | 'tmpfs',
  make: (b: PlanBuilder, at: Slot) => Step,
  change: (b: PlanBuilder, mount: Slot) => void,
): MadeMount {
  const { features, isDirectory } = known
  const spot = spec.target!
  const subject = { option: 'target', path: spot.path }
  const b = new PlanBuilder('classic').note(...known.notes)
  const root = rootOf(b, spot, features)
  if (spec.create) createSteps(b, spot, root, known)
  const { dir, name } = above(b, spot, root)
  const at = b.slot('target')
  const openFlags = f.O_PATH | f.O_NOFOLLOW | (isDirectory ? f.O_DIRECTORY : 0)
  b.add(c.openat(at, dir, name, openFlags, { subject }))
  b.always(c.close(at))
  if (!isDirectory) b.add(c.statxFd(at, features.uniqueMountId, { expect: [regular], report: true, subject }))
  const visible = make(b, at)
  b.add(visible)
  b.undo(
    visible,
    c.umount(['/proc/self/fd/', dir, '/', name], true, true, { endsSuperblock: endWaits(kind) }),
  )
  const mount = b.slot('mount')
  b.add(c.openat(mount, dir, name, openFlags, { subject }))
  b.always(c.close(mount))
  const expect = isMountRoot(features)
  const identity = c.statxFd(mount, features.uniqueMountId, { report: true, expect, subject })
  b.add(identity)
  change(b, mount)
  // as by fd, a bind does not stay a peer of its source
  const propagation = spec.propagation ?? (kind === 'bind' ? outOfPeerGroup : undefined)
  if (propagation !== undefined) {
    b.note(propagationNote)
    const recursive = 'recursive' in spec && spec.recursive ? f.MS_REC : 0
    if (recursive !== 0) b.note(copiesNote)
    const subject = { option: 'propagation' }
    b.add(c.mount(null, byFd(mount), null, propagation | recursive, null, { subject }))
  }
  return { plan: b.build(), identity, outputs: [] }
}

/** The directory above the target, by an fd: what its path leads to may be another one by the next call. */
function above(b: PlanBuilder, spot: Spot, root: FdArg | undefined): { dir: Slot; name: Buffer } {
  const subject = { option: 'target', path: spot.path }
  const dir = b.slot('directory above')
  const at = spot.path.lastIndexOf(0x2f)
  const name = spot.path.subarray(at + 1)
  if (root !== undefined) b.add(openPlace(dir, root, spot.path.subarray(0, Math.max(at, 0)), subject))
  else {
    const { parent } = splitLast(spot.path)!
    b.add(c.openat(dir, cwd, parent, f.O_PATH | f.O_DIRECTORY, { subject }))
  }
  b.always(c.close(dir))
  return { dir, name }
}

/** The source has been looked at: its fd and the flags of its mount are known. */
export function planBindClassic(spec: BindSpec, known: Known): MadeMount {
  const subject = sourceSubject(spec)
  const source: Text = ['/proc/self/fd/', held(known.sourceFd!, 'source')]
  const flags = f.MS_BIND | (spec.recursive ? f.MS_REC : 0)
  return planAt(
    spec,
    known,
    'bind',
    (_, at) => c.mount(source, byFd(at), null, flags, null, { commits: true, subject }),
    (b, mount) => {
      if (!isChange(spec.attributes)) return
      b.note('the bind has the attributes of its source for a moment: mount(2) sets its own by a second call')
      const again = f.MS_REMOUNT | f.MS_BIND | remountFlags(known.mountFlags, spec.attributes)
      b.add(c.mount(null, byFd(mount), null, again, null, { subject }))
    },
  )
}

export function planTmpfsClassic(spec: TmpfsSpec, known: Known): MadeMount {
  const data = tmpfsData(spec.options)
  const subject = { option: 'tmpfs' }
  return planAt(
    spec,
    known,
    'tmpfs',
    (_, at) => c.mount('none', byFd(at), 'tmpfs', spec.attributes.msSet, data, { commits: true, subject }),
    () => {},
  )
}
