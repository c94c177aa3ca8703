/**
 * One function a system call: each makes the step that makes the call.
 *
 * Names, argument order and flags are those of the manual pages; what a plan always wants is filled in
 * (O_CLOEXEC and its kin, empty paths for "the fd itself"). `extra` carries what is the same for every
 * call: subject, tolerated errnos, expectations.
 */
import * as f from '../flags.js'
import { cwd } from './plan.js'
import {
  type Arg,
  type FdArg,
  type Hole,
  type IntArg,
  type MountAttrArg,
  type Slot,
  type Step,
  statxField,
  type Text,
} from './step.js'

export type Extra = Omit<Step, 'call' | 'args' | 'out'>

const fd = (value: FdArg): Arg => ({ kind: 'fd', fd: value })
const int = (value: number | bigint | Hole, flags?: string): Arg => ({ kind: 'int', value, flags })
const text = (value: Text): Arg => ({ kind: 'text', text: value })
const nothing: Arg = { kind: 'null' }
const attr = (value: Partial<MountAttrArg>): Arg => ({
  kind: 'mount_attr',
  attr: { set: 0, clear: 0, propagation: 0, userns: undefined, ...value },
})

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

/** fsopen(type, FSOPEN_CLOEXEC) */
export const fsopen = (out: Slot, type: string, extra?: Extra): Step => ({
  call: 'fsopen',
  args: [text(type), int(f.FSOPEN_CLOEXEC, 'FSOPEN')],
  out,
  ...extra,
})

/** fsconfig(fs, FSCONFIG_SET_FLAG, key, NULL, 0) */
export const setFlag = (fs: Slot, key: string, extra?: Extra): Step => ({
  call: 'fsconfig',
  args: [fd(fs), int(f.FSCONFIG_SET_FLAG, 'FSCONFIG'), text(key), nothing, int(0)],
  ...extra,
})

/** fsconfig(fs, FSCONFIG_SET_STRING, key, value, 0): at most 255 bytes of value */
export const setString = (fs: Slot, key: string, value: Text, extra?: Extra): Step => ({
  call: 'fsconfig',
  args: [fd(fs), int(f.FSCONFIG_SET_STRING, 'FSCONFIG'), text(key), text(value), int(0)],
  ...extra,
})

/** fsconfig(fs, FSCONFIG_SET_FD, key, NULL, fd) */
export const setFd = (fs: Slot, key: string, value: FdArg, extra?: Extra): Step => ({
  call: 'fsconfig',
  args: [fd(fs), int(f.FSCONFIG_SET_FD, 'FSCONFIG'), text(key), nothing, fd(value)],
  ...extra,
})

/** fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) */
export const create = (fs: Slot, extra?: Extra): Step => ({
  call: 'fsconfig',
  args: [fd(fs), int(f.FSCONFIG_CMD_CREATE, 'FSCONFIG'), nothing, nothing, int(0)],
  ...extra,
})

/** fsmount(fs, FSMOUNT_CLOEXEC, attributes) */
export const fsmount = (out: Slot, fs: Slot, attributes: number, extra?: Extra): Step => ({
  call: 'fsmount',
  args: [fd(fs), int(f.FSMOUNT_CLOEXEC, 'FSMOUNT'), int(attributes, 'MOUNT_ATTR')],
  out,
  ...extra,
})

const cloneFlags = f.OPEN_TREE_CLONE | f.OPEN_TREE_CLOEXEC | f.AT_EMPTY_PATH

/** open_tree(dirFd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH): a detached clone */
export const cloneTree = (out: Slot, dirFd: FdArg, extra?: Extra): Step => ({
  call: 'open_tree',
  args: [fd(dirFd), text(''), int(cloneFlags, 'OPEN_TREE AT')],
  out,
  ...extra,
})

/** open_tree(dirFd, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC): a detached clone of what is mounted there */
export const cloneTreeAt = (out: Slot, dirFd: FdArg, path: Text, extra?: Extra): Step => ({
  call: 'open_tree',
  args: [fd(dirFd), text(path), int(f.OPEN_TREE_CLONE | f.OPEN_TREE_CLOEXEC, 'OPEN_TREE AT')],
  out,
  ...extra,
})

/** What open_tree(2) and open_tree_attr(2) clone: what an fd refers to (path `''`), or a path. */
export interface CloneOf {
  readonly dirFd: FdArg
  readonly path: Text
  /** the mounts below too */
  readonly recursive: boolean
}

const cloneArgs = ({ dirFd, path, recursive }: CloneOf): Arg[] => {
  const flags = f.OPEN_TREE_CLONE | f.OPEN_TREE_CLOEXEC
  const empty = path === '' ? f.AT_EMPTY_PATH : 0
  return [fd(dirFd), text(path), int(flags | empty | (recursive ? f.AT_RECURSIVE : 0), 'OPEN_TREE AT')]
}

/** open_tree(dirFd, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC, with AT_EMPTY_PATH and AT_RECURSIVE as wanted) */
export const cloneOf = (out: Slot, what: CloneOf, extra?: Extra): Step => ({
  call: 'open_tree',
  args: cloneArgs(what),
  out,
  ...extra,
})

/** open_tree_attr(…): the same with attributes, of the mounts below too if those are cloned */
export const cloneOfAttr = (
  out: Slot,
  what: CloneOf,
  attributes: Partial<MountAttrArg>,
  extra?: Extra,
): Step => ({
  call: 'open_tree_attr',
  args: [...cloneArgs(what), attr(attributes)],
  out,
  ...extra,
})

/** open_tree_attr(dirFd, "", OPEN_TREE_CLONE | …, attr, sizeof attr): the clone with its attributes */
export const cloneTreeAttr = (
  out: Slot,
  dirFd: FdArg,
  attributes: Partial<MountAttrArg>,
  extra?: Extra,
): Step => ({
  call: 'open_tree_attr',
  args: [fd(dirFd), text(''), int(cloneFlags, 'OPEN_TREE AT'), attr(attributes)],
  out,
  ...extra,
})

/** mount_setattr(fd, "", AT_EMPTY_PATH, attr, sizeof attr); `recursive`: AT_RECURSIVE, the mounts below too */
export const mountSetattr = (
  mount: FdArg,
  attributes: Partial<MountAttrArg>,
  extra?: Extra,
  recursive = false,
): Step => ({
  call: 'mount_setattr',
  args: [
    fd(mount),
    text(''),
    int(f.AT_EMPTY_PATH | (recursive ? f.AT_RECURSIVE : 0), 'AT'),
    attr(attributes),
  ],
  ...extra,
})

/** fspick(fd, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH): a context of the superblock that a mount shows */
export const fspick = (out: Slot, mount: FdArg, extra?: Extra): Step => ({
  call: 'fspick',
  args: [fd(mount), text(''), int(f.FSPICK_CLOEXEC | f.FSPICK_EMPTY_PATH, 'FSPICK')],
  out,
  ...extra,
})

/** fsconfig(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0) */
export const reconfigure = (fs: Slot, extra?: Extra): Step => ({
  call: 'fsconfig',
  args: [fd(fs), int(f.FSCONFIG_CMD_RECONFIGURE, 'FSCONFIG'), nothing, nothing, int(0)],
  ...extra,
})

/** move_mount(from, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH): attaches; no symlink is followed at the end */
export const attach = (from: FdArg, target: Text, extra?: Extra): Step => ({
  call: 'move_mount',
  args: [fd(from), text(''), fd(cwd), text(target), int(f.MOVE_MOUNT_F_EMPTY_PATH, 'MOVE_MOUNT')],
  commits: true,
  ...extra,
})

/** move_mount(from, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH): attaches to the directory that is open */
export const attachAt = (from: FdArg, at: FdArg, extra?: Extra): Step => ({
  ...hangBelow(from, at),
  commits: true,
  ...extra,
})

/** Where move_mount(2) attaches: a path, or what an fd refers to; `beneath`: under the mount that is there (6.5) */
export type AttachTo = ({ readonly path: Text } | { readonly fd: FdArg }) & { readonly beneath: boolean }

/** move_mount(from, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH): as `attach`, to a path or an fd, beneath or not */
export const attachTo = (from: FdArg, to: AttachTo, extra?: Extra): Step => {
  const flags = f.MOVE_MOUNT_F_EMPTY_PATH | ('fd' in to ? f.MOVE_MOUNT_T_EMPTY_PATH : 0)
  return {
    call: 'move_mount',
    args: [
      fd(from),
      text(''),
      fd('fd' in to ? to.fd : cwd),
      text('fd' in to ? '' : to.path),
      int(flags | (to.beneath ? f.MOVE_MOUNT_BENEATH : 0), 'MOVE_MOUNT'),
    ],
    commits: true,
    ...extra,
  }
}

/** move_mount(from, "", to, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH): hangs one tree below another */
export const hangBelow = (from: FdArg, to: FdArg): Step => ({
  call: 'move_mount',
  args: [
    fd(from),
    text(''),
    fd(to),
    text(''),
    int(f.MOVE_MOUNT_F_EMPTY_PATH | f.MOVE_MOUNT_T_EMPTY_PATH, 'MOVE_MOUNT'),
  ],
})

/** move_mount(from, "", dirFd, path, MOVE_MOUNT_F_EMPTY_PATH): attaches where nobody sees it */
export const attachBelow = (from: FdArg, dirFd: FdArg, path: Text, extra?: Extra): Step => ({
  call: 'move_mount',
  args: [fd(from), text(''), fd(dirFd), text(path), int(f.MOVE_MOUNT_F_EMPTY_PATH, 'MOVE_MOUNT')],
  ...extra,
})

/** mount(source, target, type, flags, data) */
export const mount = (
  source: Text | null,
  target: Text,
  type: string | null,
  flags: number,
  data: Text | null,
  extra?: Extra,
): Step => ({
  call: 'mount',
  args: [
    source === null ? nothing : text(source),
    text(target),
    type === null ? nothing : text(type),
    int(flags, 'MS'),
    data === null ? nothing : text(data),
  ],
  ...extra,
})

/** umount2(target, MNT_DETACH or 0, | UMOUNT_NOFOLLOW) */
export const umount = (target: Text, lazy: boolean, nofollow = true, extra?: Extra): Step => ({
  call: 'umount2',
  args: [text(target), int((lazy ? f.MNT_DETACH : 0) | (nofollow ? f.UMOUNT_NOFOLLOW : 0), 'MNT UMOUNT')],
  ...extra,
})

const identityMask = f.STATX_INO | f.STATX_TYPE | f.STATX_MODE | f.STATX_NLINK | f.STATX_UID | f.STATX_GID

/** statx(fd, "", AT_EMPTY_PATH, …): what an fd refers to, and through which mount; `unique`: STATX_MNT_ID_UNIQUE (6.8) */
export const statxFd = (what: FdArg, unique: boolean, extra?: Extra): Step => ({
  call: 'statx',
  args: [
    fd(what),
    text(''),
    int(f.AT_EMPTY_PATH, 'AT'),
    int(identityMask | (unique ? f.STATX_MNT_ID_UNIQUE : f.STATX_MNT_ID), 'STATX'),
    { kind: 'out', what: 'statx' },
  ],
  ...extra,
})

/** statx(dirFd, path, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, …) */
export const statxPath = (dirFd: FdArg, path: Text, unique: boolean, extra?: Extra): Step => ({
  call: 'statx',
  args: [
    fd(dirFd),
    text(path),
    int(f.AT_SYMLINK_NOFOLLOW | f.AT_NO_AUTOMOUNT, 'AT'),
    int(identityMask | (unique ? f.STATX_MNT_ID_UNIQUE : f.STATX_MNT_ID), 'STATX'),
    { kind: 'out', what: 'statx' },
  ],
  ...extra,
})

/** statx(fd, "", AT_EMPTY_PATH, …): which file it is, and since when it is as it is */
export const statxFile = (what: FdArg, extra?: Extra): Step => ({
  call: 'statx',
  args: [
    fd(what),
    text(''),
    int(f.AT_EMPTY_PATH, 'AT'),
    int(f.STATX_INO | f.STATX_TYPE | f.STATX_MODE | f.STATX_CTIME | f.STATX_SIZE, 'STATX'),
    { kind: 'out', what: 'statx' },
  ],
  ...extra,
})

/** Expects the same directory: device and inode. */
export const sameInode = (identity: { dev: bigint; ino: bigint }) => [
  { field: statxField.ino, value: identity.ino },
  { field: statxField.dev, value: identity.dev },
]

/** inotify_add_watch(fd, path, mask); reports the watch's number */
export const inotifyAddWatch = (inotify: FdArg, path: Text, mask: IntArg, extra?: Extra): Step => ({
  call: 'inotify_add_watch',
  args: [fd(inotify), text(path), mask],
  report: true,
  ...extra,
})

/** statx(fd, "", AT_EMPTY_PATH, …): the directory becomes the program's own; EBUSY if another mount of the process has it */
export const claim = (what: FdArg, extra?: Extra): Step => ({
  call: 'claim',
  args: [fd(what), { kind: 'out', what: 'statx' }],
  ...extra,
})
/** A claim whose mount is being taken down: who wants its directories waits until it is dropped. */
export const retireClaim = (claim: Hole | number, extra?: Extra): Step => ({
  call: 'retire_claim',
  args: [int(claim)],
  ...extra,
})
/** It was not taken down after all. */
export const restoreClaim = (claim: Hole | number, extra?: Extra): Step => ({
  call: 'restore_claim',
  args: [int(claim)],
  ...extra,
})
/** The directories of a claim are free again. */
export const dropClaim = (claim: Hole | number, extra?: Extra): Step => ({
  call: 'drop_claim',
  args: [int(claim)],
  ...extra,
})

/** fstatfs(fd, buffer) */
export const fstatfs = (what: FdArg, extra?: Extra): Step => ({
  call: 'fstatfs',
  args: [fd(what), { kind: 'out', what: 'statfs' }],
  ...extra,
})

/** fchdir(fd): of the thread that runs the program */
export const fchdir = (dir: FdArg): Step => ({ call: 'fchdir', args: [fd(dir)] })
/** chdir(path): of the thread that runs the program */
export const chdir = (path: string): Step => ({ call: 'chdir', args: [text(path)] })

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

/** fcntl(fd, F_DUPFD_CLOEXEC, 3): the same open file under another number */
export const dup = (out: Slot, what: FdArg, extra?: Extra): Step => ({
  call: 'fcntl',
  args: [fd(what), { kind: 'int', value: 1030, symbol: 'F_DUPFD_CLOEXEC' }, int(3)],
  out,
  ...extra,
})
