/**
 * Plans that take things down: mounts, detached mounts, trees, fds. They run on the reaping threads,
 * because nearly all of them wait for RCU grace periods.
 *
 *   unmount    openat2 of the directory above, statx: still ours? fchdir, umount2 of the name
 *   discard    move_mount of the used trees below the first, one close for all (2 us a tree, where a close
 *              of its own takes a grace period); close of ordinary fds
 */
import * as f from '../flags.js'
import type { Features } from '../host/features.js'
import * as c from '../program/calls.js'
import { cwd, type Plan, PlanBuilder } from '../program/plan.js'
import { type Expectation, type Step, statxField } from '../program/step.js'
import { splitLast } from './bytes.js'
import type { Leftovers } from './host.js'

/** An attached mount, as it was when it was made. */
export interface Attached {
  readonly target: Buffer
  readonly mountId: bigint
  readonly dev: bigint
  readonly kind: 'overlay' | 'clone'
}

export interface UnmountPlan {
  readonly plan: Plan
  readonly open: Step
  /** compares what is mounted there with what was attached */
  readonly check: Step
}

/** Unmounts what is at the target, if it is still the mount that was attached there. */
export function planUnmount(mount: Attached, lazy: boolean, features: Features): UnmountPlan {
  const { parent: above, name } = splitLast(mount.target)!
  const subject = { option: 'target', path: mount.target }
  const b = new PlanBuilder('unmount')
  const parent = b.slot('parent')
  const flags = f.O_PATH | f.O_DIRECTORY
  const open = features.openat2
    ? c.openat2(parent, cwd, above, flags, f.RESOLVE_NO_SYMLINKS, { subject })
    : c.openat(parent, cwd, above, flags, { subject })
  const expect: Expectation[] = [{ field: statxField.mountId, value: mount.mountId }]
  // an id that may be reused is not enough
  if (!features.uniqueMountId) expect.push({ field: statxField.dev, value: mount.dev })
  const check = c.statxPath(parent, name, features.uniqueMountId, { expect, report: true, subject })
  b.add(open, check, c.fchdir(parent))
  b.add(c.umount(name, lazy, true, { subject, commits: true, endsSuperblock: mount.kind === 'overlay' }))
  b.always(c.close(parent), c.chdir('/'))
  return { plan: b.build(), open, check }
}

/** Closes a mount that was never attached. */
export function planCloseMount(fd: number): Plan {
  const b = new PlanBuilder('close detached mount')
  const mount = b.input('mount', fd, 'superblock')
  b.add(c.close(mount))
  return b.build()
}

/** Closes used trees together, and fds. */
export function planDiscard({ fds = [], trees = [] }: Leftovers): Plan {
  const b = new PlanBuilder('discard')
  const [first, ...others] = trees.map((fd, i) => b.input(`tree ${i}`, fd, 'tree'))
  for (const tree of others) {
    // where a tree cannot be hung up (before 6.15; its directory was deleted) its close takes it down
    b.add({ ...c.hangBelow(tree, first!), tolerate: cannotHang })
    b.add(c.close(tree))
  }
  if (first) b.add(c.close(first))
  for (const [i, fd] of fds.entries()) b.add(c.close(b.input(`fd ${i}`, fd)))
  return b.build()
}

/** EPERM, ENOENT, EBUSY, EINVAL, ENOSPC, ELOOP */
const cannotHang = [1, 2, 16, 22, 28, 40]
