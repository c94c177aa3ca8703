/**
 * Bind mounts and tmpfs by mount(2), where the kernel has no calls on fds, or rung classic is forced.
 *
 *   operation     calls                                             taken back by
 *   ---------     -----                                             -------------
 *   target        mkdirat, openat                                   unlinkat, close
 *   mount         mount(2) on the name of its fd: visible           umount2
 *   attributes    of a bind a second mount(2), MS_REMOUNT|MS_BIND,
 *                 with the flags of the source's mount repeated
 *   propagation   a further mount(2)
 */
import * as f from '../flags.js'
import { outOfPeerGroup, remountFlags } from '../overlay/attributes.js'
import { endWaits } from '../overlay/reap.js'
import { propagationNote } from '../overlay/rungs/rung.js'
import * as c from '../program/calls.js'
import { cwd, held, PlanBuilder } from '../program/plan.js'
import { type Slot, type Step, statxField, type Text } from '../program/step.js'
import { rootOf } from './attach.js'
import { isChange } from './attributes.js'
import { type Known, type MadeMount, sourceSubject } from './bind.js'
import { createSteps, openInside, type Spot } from './place.js'
import type { BindSpec, TargetSpec, TmpfsSpec } from './spec.js'
import { tmpfsData } from './tmpfs-options.js'

const byFd = (slot: Slot): Text => ['/proc/self/fd/', slot]

const S_IFMT = 0o170000
const S_IFREG = 0o100000
const regular = { field: statxField.mode, mask: BigInt(S_IFMT), value: BigInt(S_IFREG) }

const copiesNote =
  'below a shared parent, copies of a recursive bind stay with its peers when it is unmounted: by fd they do not'

/** By mount(2) all is done at the target: it is opened for the call, and again to get at what is there then. */
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
  const at = open(b, 'target', spot, root, isDirectory)
  if (!isDirectory) b.add(c.statxFd(at, features.uniqueMountId, { expect: [regular], report: true, subject }))
  const visible = make(b, at)
  b.add(visible)
  const mount = open(b, 'mount', spot, root, isDirectory)
  const gone = { endsSuperblock: endWaits(kind) }
  b.undo(
    visible,
    root === undefined ? c.umount(spot.path, true, true, gone) : c.umount(byFd(mount), true, false, gone),
  )
  const identity = c.statxFd(mount, features.uniqueMountId, { report: true })
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

function open(
  b: PlanBuilder,
  name: string,
  spot: Spot,
  root: Parameters<typeof openInside>[1] | undefined,
  isDirectory: boolean,
): Slot {
  const subject = { option: 'target', path: spot.path }
  if (root !== undefined) return openInside(b, root, spot.path, subject) as Slot
  const slot = b.slot(name)
  const flags = f.O_PATH | f.O_NOFOLLOW | (isDirectory ? f.O_DIRECTORY : 0)
  b.add(c.openat(slot, cwd, spot.path, flags, { subject }))
  b.always(c.close(slot))
  return slot
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
