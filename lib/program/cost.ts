/**
 * What a plan costs, counted from its steps: a pure function, so that a cost can be asserted without a
 * kernel and compared with what strace counts of the real calls.
 *
 * The rules, measured by tracing Linux 6.18: `namespace_sem` is taken for writing by every clone of a
 * tree, every attach, every change of propagation, every unmount, and every close of a tree that is
 * still detached. The last two wait for an RCU grace period; the end of a superblock, of overlay or of an
 * image of erofs, waits for one more. Everything else (contexts, layers, CREATE, fsmount) only reads.
 */
import * as f from '../flags.js'
import type { Plan } from './plan.js'
import { type Arg, type CallName, isSlot, type Step } from './step.js'

/** What a plan costs, counted from its steps. */
export interface Cost {
  /** times the kernel's global mount lock is taken for writing: what containers queue for */
  readonly namespaceSemWrites: number
  /** RCU grace periods waited for: 55 µs each on an idle machine, 400 µs on a busy one */
  readonly gracePeriods: number
  /** system calls, those of a user-namespace child and its parent included */
  readonly syscalls: number
  /** mounts attached besides the one that was asked for: what others can see meanwhile */
  readonly temporaryMounts: number
  /** calls by name, as `strace -c` counts them */
  readonly calls: Readonly<Partial<Record<string, number>>>
}

/** Entries that are several calls, in the order of native/userns.h and native/fsids.h; futex is not counted. */
const composites: Partial<Record<CallName, readonly string[]>> = {
  userns: [
    'getpid',
    'readlinkat',
    'clone',
    // the child's own
    'prctl',
    'getppid',
    'exit',
    ...['openat', 'write', 'close'],
    ...['openat', 'write', 'close'],
    'openat',
    'wait4',
  ],
  assume_fsids: ['prctl', 'capget', 'setfsgid', 'setfsuid', 'capset'],
  restore_fsids: ['setfsuid', 'setfsgid', 'prctl'],
  claim: ['statx'],
  retire_claim: [],
  restore_claim: [],
  drop_claim: [],
}

interface Weight {
  writes: number
  grace: number
}
const free: Weight = { writes: 0, grace: 0 }

function intArg(step: Step, index: number): number {
  const arg = step.args[index]
  return arg?.kind === 'int' ? Number(arg.value) : 0
}

function attrPropagation(arg: Arg | undefined): boolean {
  return arg?.kind === 'mount_attr' && arg.attr.propagation !== 0
}

const propagationFlags = f.MS_SHARED | f.MS_PRIVATE | f.MS_SLAVE | f.MS_UNBINDABLE
const write: Weight = { writes: 1, grace: 0 }

/** Calls that touch the global lock; `detached` maps a slot to the grace periods its close would take. */
const weights: Partial<Record<CallName, (step: Step, detached: Map<number, number>) => Weight>> = {
  open_tree: (step, detached) => {
    if (step.out) detached.set(step.out.slot, 1)
    return write
  },
  open_tree_attr: (step, detached) => {
    if (step.out) detached.set(step.out.slot, 1)
    // the clone, and then its propagation
    return attrPropagation(step.args[3]) ? { writes: 2, grace: 0 } : write
  },
  // a superblock of its own: its end waits once more
  fsmount: (step, detached) => {
    if (step.out) detached.set(step.out.slot, 2)
    return free
  },
  move_mount: (step, detached) => {
    const from = step.args[0]
    if (from?.kind === 'fd' && isSlot(from.fd)) detached.delete(from.fd.slot)
    return write
  },
  mount_setattr: (step) => (attrPropagation(step.args[3]) ? write : free),
  // a CREATE that is made to fail drops the clones it has made of its layers' mounts
  fsconfig: (step) => (step.endsSuperblock ? { writes: 0, grace: 1 } : free),
  mount: (step) => {
    if (step.endsSuperblock) return { writes: 0, grace: 1 }
    const flags = intArg(step, 3)
    return (flags & f.MS_REMOUNT) !== 0 && (flags & propagationFlags) === 0 ? free : write
  },
  // a new mount namespace is a copy of the old one's mounts
  unshare: (step) => ((intArg(step, 0) & f.CLONE_NEWNS) !== 0 ? write : free),
  pivot_root: () => write,
  unlinkat: (step) => (step.unmounts ? { writes: 1, grace: 1 } : free),
  umount2: (step) => ({ writes: 1, grace: step.endsSuperblock ? 2 : 1 }),
  close: (step, detached) => {
    const arg = step.args[0]
    if (arg?.kind !== 'fd' || !isSlot(arg.fd)) return free
    const grace = detached.get(arg.fd.slot)
    detached.delete(arg.fd.slot)
    if (grace === undefined) return step.endsSuperblock ? { writes: 0, grace: 1 } : free
    return { writes: 1, grace }
  },
}

/** The cost of plans that run one after the other. */
export function costOf(plans: readonly Plan[]): Cost {
  const calls: Record<string, number> = {}
  const total = { namespaceSemWrites: 0, gracePeriods: 0, syscalls: 0, temporaryMounts: 0, calls }
  for (const plan of plans) {
    const detached = new Map<number, number>()
    for (const [slot] of plan.inputs) {
      if (slot.closes) detached.set(slot.slot, slot.closes === 'tree' ? 1 : 2)
    }
    let attached = 0
    for (const step of plan.steps) {
      if (step.when === 'undo') continue
      if (step.commits) attached++
      const { writes, grace } = weights[step.call]?.(step, detached) ?? free
      total.namespaceSemWrites += writes
      total.gracePeriods += grace
      for (const name of composites[step.call] ?? [step.call]) {
        total.syscalls++
        calls[name] = (calls[name] ?? 0) + 1
      }
    }
    total.temporaryMounts += Math.max(0, attached - 1)
  }
  return total
}
