/** Steps about namespaces, the root and the ids of the thread that runs the program. */
import type { FdArg, Slot, Step, Text } from '../step.js'
import { type Extra, fd, int, text } from './args.js'

/** setns(fd, type): of the thread that runs the program; after CLONE_NEWNS its root and directory are that namespace's root */
export const setns = (namespace: FdArg, type: number, extra?: Extra): Step => ({
  call: 'setns',
  args: [fd(namespace), int(type, 'CLONE')],
  ...extra,
})

/** unshare(flags): of the thread that runs the program */
export const unshare = (flags: number, extra?: Extra): Step => ({
  call: 'unshare',
  args: [int(flags, 'CLONE')],
  ...extra,
})

/** pivot_root(newRoot, putOld): of the mount namespace of the thread that runs the program */
export const pivotRoot = (newRoot: Text, putOld: Text, extra?: Extra): Step => ({
  call: 'pivot_root',
  args: [text(newRoot), text(putOld)],
  ...extra,
})

/** chroot(path): of the thread that runs the program */
export const chroot = (path: Text, extra?: Extra): Step => ({ call: 'chroot', args: [text(path)], ...extra })

/** Files are those of uid:gid from here on, capabilities stay (native/fsids.h lists the calls); of the thread. */
export const assumeFsids = (uid: number, gid: number, extra?: Extra): Step => ({
  call: 'assume_fsids',
  args: [int(uid), int(gid)],
  ...extra,
})

/** Back to the process's own ids; of the thread. */
export const restoreFsids = (uid: number, gid: number, extra?: Extra): Step => ({
  call: 'restore_fsids',
  args: [int(uid), int(gid)],
  ...extra,
})

/** A user namespace with these maps (native/userns.h lists the calls it makes). */
export const userns = (out: Slot, uidMap: Text, gidMap: Text, extra?: Extra): Step => ({
  call: 'userns',
  args: [text(uidMap), text(gidMap)],
  out,
  ...extra,
})
