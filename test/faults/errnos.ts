/**
 * What each system call of the plans can answer instead of success: call × errno, and where that is from.
 *
 * The sweep (sweep.ts) lets every step fail with each errno of its row; a step whose call has no row fails it. Left out
 * is EFAULT alone, since the addresses are the addon's own. A filter may answer anything; what container engines let
 * theirs answer, EPERM and ENOSYS, is in every row but those of calls without which no program runs at all.
 */
import { errnoName, errnoNumber } from '../../lib/errno.js'
import type { CallName } from '../../lib/program/step.js'

type Row = Readonly<Record<string, string>>

/** `from(source, names)`: these errnos, each with its source. */
const from = (source: string, names: string): Row =>
  Object.fromEntries(names.split(' ').map((name) => [name, source]))

const lookup = from('path_resolution(7)', 'EACCES ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR')
const newFd = from('kernel: get_unused_fd_flags, alloc_empty_file', 'EMFILE ENFILE')
const filtered = from('seccomp(2): container engines’ filters', 'EPERM ENOSYS')
const open = {
  ...lookup,
  ...newFd,
  ...from(
    'open(2)',
    'EBADF EDQUOT EEXIST EINTR EINVAL EISDIR ENODEV ENOSPC ENXIO EOVERFLOW EROFS ETXTBSY EWOULDBLOCK',
  ),
}
const clone = { ...lookup, ...newFd, ...from('kernel: fs/namespace.c, open_detached_copy', 'EBADF EINVAL') }
const attributes = from('mount_setattr(2)', 'EBADF EBUSY EINVAL ENOENT ENOMEM ENOSPC E2BIG')

export const errnos = {
  openat: { ...filtered, ...open },
  openat2: { ...filtered, ...open, ...from('openat2(2)', 'E2BIG EAGAIN EXDEV') },
  // whatever it answers, the fd is closed
  close: from('close(2)', 'EIO EINTR ENOSPC EDQUOT'),
  fsopen: { ...filtered, ...newFd, ...from('kernel: fs/fsopen.c', 'EINVAL ENODEV ENOMEM') },
  fsconfig: {
    ...filtered,
    ...lookup,
    ...from('kernel: fs/fsopen.c', 'EBADF EBUSY EINTR EINVAL EOPNOTSUPP'),
    ...from('kernel: fs/overlayfs/super.c, ovl_fill_super', 'EIO EROFS ESTALE ENOSPC EDQUOT EXDEV EEXIST'),
  },
  fsmount: { ...filtered, ...newFd, ...from('kernel: fs/namespace.c', 'EBADF EBUSY EINTR EINVAL ENOMEM') },
  open_tree: { ...filtered, ...clone },
  open_tree_attr: { ...filtered, ...clone, ...attributes },
  move_mount: {
    ...filtered,
    ...lookup,
    ...from('kernel: fs/namespace.c, do_move_mount', 'EBADF EBUSY EINVAL'),
    ...from('kernel: fs/namespace.c, count_mounts (fs.mount-max)', 'ENOSPC'),
  },
  mount_setattr: { ...filtered, ...attributes, ...lookup },
  mount: {
    ...filtered,
    ...lookup,
    ...from('mount(2)', 'EBUSY EINVAL EMFILE ENODEV ENOTBLK ENXIO EROFS'),
    ...from('kernel: fs/namespace.c, count_mounts (fs.mount-max)', 'ENOSPC'),
    ...from('kernel: fs/overlayfs/super.c, ovl_fill_super', 'EIO ESTALE'),
  },
  umount2: { ...filtered, ...lookup, ...from('umount(2)', 'EAGAIN EBUSY EINVAL') },
  statx: {
    ...filtered,
    ...lookup,
    ...from('statx(2)', 'EBADF EINVAL'),
    ...from('kernel: vfs_getattr', 'EIO ESTALE'),
  },
  fstatfs: { ...filtered, ...from('statfs(2)', 'EBADF EINTR EIO ENOMEM EOVERFLOW') },
  fchdir: { ...filtered, ...from('chdir(2)', 'EACCES EBADF ENOTDIR') },
  chdir: { ...filtered, ...lookup, ...from('chdir(2)', 'EIO') },
  mkdirat: {
    ...filtered,
    ...lookup,
    ...from('mkdir(2)', 'EBADF EDQUOT EEXIST EINVAL EMLINK ENOSPC EROFS'),
  },
  unlinkat: {
    ...filtered,
    ...lookup,
    ...from('unlink(2), rmdir(2)', 'EBADF EBUSY EINVAL EIO EISDIR ENOTEMPTY EROFS'),
  },
  fchownat: { ...filtered, ...lookup, ...from('chown(2)', 'EBADF EINVAL EIO EROFS') },
  fchmodat: { ...filtered, ...lookup, ...from('chmod(2)', 'EBADF EINVAL EIO EROFS') },
  lsetxattr: {
    ...filtered,
    ...lookup,
    ...from('setxattr(2)', 'EDQUOT EEXIST ENODATA ENOSPC ENOTSUP ERANGE E2BIG EROFS'),
  },
  setns: { ...filtered, ...from('setns(2)', 'EBADF EINVAL ENOMEM ESRCH') },
  unshare: { ...filtered, ...from('unshare(2)', 'EINVAL ENOMEM ENOSPC EUSERS') },
  pivot_root: { ...filtered, ...lookup, ...from('pivot_root(2)', 'EBUSY EINVAL') },
  chroot: { ...filtered, ...lookup, ...from('chroot(2)', 'EIO') },
  fcntl: { ...filtered, ...from('fcntl(2), F_DUPFD_CLOEXEC', 'EBADF EINVAL EMFILE') },
  fspick: { ...filtered, ...lookup, ...newFd, ...from('kernel: fs/fsopen.c', 'EBADF EBUSY EINVAL') },
  inotify_add_watch: {
    ...filtered,
    ...lookup,
    ...from('inotify_add_watch(2)', 'EBADF EEXIST EINVAL ENOSPC'),
  },
  readlinkat: { ...filtered, ...lookup, ...from('readlink(2)', 'EBADF EINVAL EIO') },
  clone: { ...filtered, ...from('clone(2)', 'EAGAIN EINVAL ENOMEM ENOSPC EUSERS') },
  write: from('user_namespaces(7), kernel: kernel/user_namespace.c', 'EPERM EINVAL ENOMEM'),
  wait4: from('wait(2)', 'EINTR'),
  capget: { ...filtered, ...from('capget(2)', 'EINVAL ESRCH') },
  capset: { ...filtered, ...from('capget(2)', 'EINVAL ESRCH'), ...from('kernel: prepare_creds', 'ENOMEM') },
} as const satisfies Record<string, Row>

export type SystemCall = keyof typeof errnos

const aliases: Readonly<Record<string, string>> = { EWOULDBLOCK: 'EAGAIN' }

/** The errnos of a call, as numbers. */
export const errnosOf = (call: SystemCall): number[] => {
  const numbers = Object.keys(errnos[call]).map((name) => errnoNumber(aliases[name] ?? name))
  if (numbers.includes(undefined)) throw new Error(`${call}: an errno without a number`)
  return [...new Set(numbers as number[])]
}

/** Those that mean something of their own to the library, and one that means nothing but failure. */
export const fewErrnosOf = (call: SystemCall): number[] => {
  const all = errnosOf(call)
  const special = all.filter((errno) => ['EPERM', 'ENOSYS'].includes(errnoName(errno)))
  return [...all.filter((errno) => !special.includes(errno)).slice(-1), ...special]
}

const itself = <const Name extends SystemCall>(...names: Name[]): Record<Name, readonly SystemCall[]> =>
  Object.fromEntries(names.map((name) => [name, [name]])) as unknown as Record<Name, readonly SystemCall[]>

/** The system calls of each step, in order, as far as the supervisor is asked for them. */
export const systemCalls: Record<CallName, readonly SystemCall[]> = {
  ...itself('openat', 'openat2', 'close', 'fsopen', 'fsconfig', 'fsmount', 'open_tree', 'open_tree_attr'),
  ...itself('move_mount', 'mount_setattr', 'mount', 'umount2', 'statx', 'fstatfs', 'fchdir', 'chdir'),
  ...itself('mkdirat', 'unlinkat', 'fchownat', 'fchmodat', 'lsetxattr', 'inotify_add_watch', 'setns'),
  ...itself('unshare', 'pivot_root', 'chroot', 'fcntl', 'fspick'),
  userns: ['readlinkat', 'clone', 'openat', 'write', 'close', 'wait4'],
  claim: ['statx'],
  assume_fsids: ['capget', 'capset'],
  // setfsuid(2) and setfsgid(2) have no errors
  restore_fsids: [],
  retire_claim: [],
  restore_claim: [],
  drop_claim: [],
}
