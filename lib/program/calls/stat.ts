/** Steps that look: which file, which mount, which filesystem. */
import * as f from '../../flags.js'
import { type FdArg, type Step, statxField, type Text } from '../step.js'
import { type Extra, fd, int, text } from './args.js'

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

/** fstatfs(fd, buffer) */
export const fstatfs = (what: FdArg, extra?: Extra): Step => ({
  call: 'fstatfs',
  args: [fd(what), { kind: 'out', what: 'statfs' }],
  ...extra,
})
