/** Steps about files and directories, and about the directory that a thread is in. */
import * as f from '../../flags.js'
import { cwd } from '../plan.js'
import type { FdArg, IntArg, Slot, Step, Text } from '../step.js'
import { type Extra, fd, int, text } from './args.js'

/** openat(dirFd, path, flags | O_CLOEXEC, mode) */
export const openat = (out: Slot, dirFd: FdArg, path: Text, flags: number, extra?: Extra): Step => ({
  call: 'openat',
  args: [fd(dirFd), text(path), int(flags | f.O_CLOEXEC, 'O'), int(0)],
  out,
  ...extra,
})

/** openat2(dirFd, path, { flags | O_CLOEXEC, resolve }) */
export const openat2 = (
  out: Slot,
  dirFd: FdArg,
  path: Text,
  flags: number,
  resolve: number,
  extra?: Extra,
): Step => ({
  call: 'openat2',
  args: [fd(dirFd), text(path), { kind: 'open_how', flags: flags | f.O_CLOEXEC, mode: 0, resolve }],
  out,
  ...extra,
})

/** close(fd) */
export const close = (slot: Slot): Step => ({ call: 'close', args: [fd(slot)] })

/** inotify_add_watch(fd, path, mask); reports the watch's number */
export const inotifyAddWatch = (inotify: FdArg, path: Text, mask: IntArg, extra?: Extra): Step => ({
  call: 'inotify_add_watch',
  args: [fd(inotify), text(path), mask],
  report: true,
  ...extra,
})

/** fchdir(fd): of the thread that runs the program */
export const fchdir = (dir: FdArg): Step => ({ call: 'fchdir', args: [fd(dir)] })

/** chdir(path): of the thread that runs the program */
export const chdir = (path: string): Step => ({ call: 'chdir', args: [text(path)] })

/** mkdirat(AT_FDCWD, path, mode) */
export const mkdir = (path: Text, mode: number, extra?: Extra): Step => ({
  call: 'mkdirat',
  args: [fd(cwd), text(path), int(mode, '0')],
  ...extra,
})

/** mkdirat(dirFd, path, mode) */
export const mkdirat = (dirFd: FdArg, path: Text, mode: number, extra?: Extra): Step => ({
  call: 'mkdirat',
  args: [fd(dirFd), text(path), int(mode, '0')],
  ...extra,
})

/**
 * unlinkat(dirFd, path, AT_REMOVEDIR) of a directory that is a mount point in another mount namespace: what is
 * mounted there goes with it (3.18, mount_namespaces(7)), one write and one grace period for all of it. In the
 * namespace of the mount it would be EBUSY.
 */
export const rmdirMounted = (dirFd: FdArg, path: Text, extra?: Extra): Step => ({
  ...rmdir(dirFd, path, extra),
  unmounts: true,
})

/** openat(dirFd, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode): a new file */
export const createFile = (out: Slot, dirFd: FdArg, path: Text, mode: number, extra?: Extra): Step => ({
  call: 'openat',
  args: [
    fd(dirFd),
    text(path),
    int(f.O_WRONLY | f.O_CREAT | f.O_EXCL | f.O_NOFOLLOW | f.O_CLOEXEC, 'O'),
    int(mode, '0'),
  ],
  out,
  ...extra,
})

/** unlinkat(dirFd, path, AT_REMOVEDIR) */
export const rmdir = (dirFd: FdArg, path: Text, extra?: Extra): Step => ({
  call: 'unlinkat',
  args: [fd(dirFd), text(path), int(f.AT_REMOVEDIR, 'AT')],
  ...extra,
})

/** unlinkat(dirFd, path, 0) */
export const unlink = (dirFd: FdArg, path: Text, extra?: Extra): Step => ({
  call: 'unlinkat',
  args: [fd(dirFd), text(path), int(0, 'AT')],
  ...extra,
})

/** fchownat(fd, "", uid, gid, AT_EMPTY_PATH) */
export const fchown = (what: FdArg, uid: number, gid: number, extra?: Extra): Step => ({
  call: 'fchownat',
  args: [fd(what), text(''), int(uid), int(gid), int(f.AT_EMPTY_PATH, 'AT')],
  ...extra,
})

/** fchmodat(AT_FDCWD, path, mode) */
export const chmod = (path: Text, mode: number, extra?: Extra): Step => ({
  call: 'fchmodat',
  args: [fd(cwd), text(path), int(mode, '0')],
  ...extra,
})

/** lsetxattr(path, name, value, size, 0) */
export const lsetxattr = (path: Text, name: Text, value: Uint8Array, extra?: Extra): Step => ({
  call: 'lsetxattr',
  args: [text(path), text(name), { kind: 'bytes', bytes: value }, int(0)],
  ...extra,
})

/** fcntl(fd, F_DUPFD_CLOEXEC, 3): the same open file under another number */
export const dup = (out: Slot, what: FdArg, extra?: Extra): Step => ({
  call: 'fcntl',
  args: [fd(what), { kind: 'int', value: 1030, symbol: 'F_DUPFD_CLOEXEC' }, int(3)],
  out,
  ...extra,
})
