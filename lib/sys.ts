/**
 * System calls, 1:1 and synchronous: `import { fsopen, MS_BIND } from 'overlayfd/sys'`.
 *
 * One function is one system call, named after it in camelCase, with its arguments in its order. It runs on
 * the calling thread and blocks it. It answers what the kernel answers, or throws a SyscallError that shows
 * the call as strace would; a wrong argument is a TypeError or RangeError with Node's codes, before the call.
 * Every fd is close-on-exec unless `{ cloexec: false }` is given, and is the caller's to close.
 */
export { MountError, SyscallError } from './errors.js'
export * from './flags.js'
export type { PathLike } from './path.js'
export type { FdOptions } from './sys/call.js'
export { close, lgetxattr, llistxattr, type OpenHow, openat2 } from './sys/file.js'
export { fsmount, fsopen, fspick } from './sys/fs-context.js'
export {
  fsconfigCreate,
  fsconfigCreateExclusive,
  fsconfigReconfigure,
  fsconfigSetBinary,
  fsconfigSetFd,
  fsconfigSetFlag,
  fsconfigSetPath,
  fsconfigSetPathEmpty,
  fsconfigSetString,
} from './sys/fsconfig.js'
export { type LogLine, readLog } from './sys/log.js'
export { mount, umount } from './sys/mount.js'
export { setns, unshare } from './sys/namespace.js'
export { fstatfs, type Statfs, type Statx, statfs, statx } from './sys/stat.js'
export { type MountAttr, mountSetattr, moveMount, openTree, openTreeAttr } from './sys/tree.js'
