/** Steps about detached trees: how they are cloned, changed and attached. */
import * as f from '../../flags.js'
import { cwd } from '../plan.js'
import type { Arg, FdArg, MountAttrArg, Slot, Step, Text } from '../step.js'
import { attr, type Extra, fd, int, text } from './args.js'

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
