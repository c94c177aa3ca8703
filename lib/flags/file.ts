/**
 * Flags of openat2(2) and statx(2).
 */
import { flag } from './flag.js'

// three of the O_* have other bits on arm64
const arm64 = process.arch === 'arm64'

/** for reading; the default */
export const O_RDONLY = flag<'O'>(0x0)
/** for writing */
export const O_WRONLY = flag<'O'>(0x1)
/** for both */
export const O_RDWR = flag<'O'>(0x2)
/** make the file if it is not there */
export const O_CREAT = flag<'O'>(0x40)
/** with O_CREAT: EEXIST if it is there */
export const O_EXCL = flag<'O'>(0x80)
/** a terminal does not become the controlling one */
export const O_NOCTTY = flag<'O'>(0x100)
/** cut the file to no bytes */
export const O_TRUNC = flag<'O'>(0x200)
/** each write goes to the end */
export const O_APPEND = flag<'O'>(0x400)
/** do not wait */
export const O_NONBLOCK = flag<'O'>(0x800)
/** writes wait until the data is on disk */
export const O_DSYNC = flag<'O'>(0x1000)
/** writes wait until data and metadata are on disk */
export const O_SYNC = flag<'O'>(0x101000)
/** past the page cache */
export const O_DIRECT = flag<'O'>(arm64 ? 0x10000 : 0x4000)
/** ENOTDIR if it is no directory */
export const O_DIRECTORY = flag<'O'>(arm64 ? 0x4000 : 0x10000)
/** ELOOP if the last part is a symbolic link; with O_PATH, the link itself */
export const O_NOFOLLOW = flag<'O'>(arm64 ? 0x8000 : 0x20000)
/** reading leaves the access time */
export const O_NOATIME = flag<'O'>(0x40000)
/** close the fd at exec; set unless `cloexec: false` */
export const O_CLOEXEC = flag<'O'>(0x80000)
/** a place in the tree: for *at calls and fstatfs, not for reading */
export const O_PATH = flag<'O'>(0x200000)
/** a file without a name in this directory */
export const O_TMPFILE = flag<'O'>(0x400000 | O_DIRECTORY)

/** EXDEV at the first mount point */
export const RESOLVE_NO_XDEV = flag<'RESOLVE'>(0x1)
/** ELOOP at a link as in /proc/PID/fd */
export const RESOLVE_NO_MAGICLINKS = flag<'RESOLVE'>(0x2)
/** ELOOP at any symbolic link */
export const RESOLVE_NO_SYMLINKS = flag<'RESOLVE'>(0x4)
/** EXDEV where the path leaves the directory */
export const RESOLVE_BENEATH = flag<'RESOLVE'>(0x8)
/** the directory is the root for this path, as after chroot(2) */
export const RESOLVE_IN_ROOT = flag<'RESOLVE'>(0x10)
/** EAGAIN if not all of it is in memory; since Linux 5.12 */
export const RESOLVE_CACHED = flag<'RESOLVE'>(0x20)

/** the type in `mode` */
export const STATX_TYPE = flag<'STATX'>(0x1)
/** the rest of `mode` */
export const STATX_MODE = flag<'STATX'>(0x2)
/** `nlink` */
export const STATX_NLINK = flag<'STATX'>(0x4)
/** `uid` */
export const STATX_UID = flag<'STATX'>(0x8)
/** `gid` */
export const STATX_GID = flag<'STATX'>(0x10)
/** `atimeNs` */
export const STATX_ATIME = flag<'STATX'>(0x20)
/** `mtimeNs` */
export const STATX_MTIME = flag<'STATX'>(0x40)
/** `ctimeNs` */
export const STATX_CTIME = flag<'STATX'>(0x80)
/** `ino` */
export const STATX_INO = flag<'STATX'>(0x100)
/** `size` */
export const STATX_SIZE = flag<'STATX'>(0x200)
/** `blocks` */
export const STATX_BLOCKS = flag<'STATX'>(0x400)
/** all of the above, which is what stat(2) has */
export const STATX_BASIC_STATS = flag<'STATX'>(0x7ff)
/** `btimeNs` */
export const STATX_BTIME = flag<'STATX'>(0x800)
/** `mntId`; since Linux 5.8 */
export const STATX_MNT_ID = flag<'STATX'>(0x1000)
/** `dioMemAlign`, `dioOffsetAlign`; since Linux 6.1 */
export const STATX_DIOALIGN = flag<'STATX'>(0x2000)
/** `mntIdUnique`, instead of `mntId`; since Linux 6.8 */
export const STATX_MNT_ID_UNIQUE = flag<'STATX'>(0x4000)

/** the filesystem compresses the file */
export const STATX_ATTR_COMPRESSED = flag<'STATX_ATTR'>(0x4)
/** the file cannot be changed */
export const STATX_ATTR_IMMUTABLE = flag<'STATX_ATTR'>(0x10)
/** the file can only grow */
export const STATX_ATTR_APPEND = flag<'STATX_ATTR'>(0x20)
/** backups leave it out */
export const STATX_ATTR_NODUMP = flag<'STATX_ATTR'>(0x40)
/** the filesystem encrypts the file */
export const STATX_ATTR_ENCRYPTED = flag<'STATX_ATTR'>(0x800)
/** an automount point */
export const STATX_ATTR_AUTOMOUNT = flag<'STATX_ATTR'>(0x1000)
/** the root of a mount; since Linux 5.8 */
export const STATX_ATTR_MOUNT_ROOT = flag<'STATX_ATTR'>(0x2000)
/** fs-verity guards the file; since Linux 5.5 */
export const STATX_ATTR_VERITY = flag<'STATX_ATTR'>(0x100000)
/** the file is used without the page cache; since Linux 5.8 */
export const STATX_ATTR_DAX = flag<'STATX_ATTR'>(0x200000)
