/**
 * Flags of the classic calls: mount(2), umount2(2), statfs(2).
 *
 * MS_* are not MOUNT_ATTR_*: the names are alike, the bits are not. The four that set the propagation
 * are a family of their own, because mount_setattr(2) takes them, and no other MS_*.
 */
import { flag } from './flag.js'

/** read-only: the superblock of a new mount, or the mount with MS_REMOUNT and MS_BIND */
export const MS_RDONLY = flag<'MS'>(0x1)
/** set-user-ID bits and file capabilities have no effect */
export const MS_NOSUID = flag<'MS'>(0x2)
/** device files cannot be opened */
export const MS_NODEV = flag<'MS'>(0x4)
/** programs cannot be executed */
export const MS_NOEXEC = flag<'MS'>(0x8)
/** writes are synced at once */
export const MS_SYNCHRONOUS = flag<'MS'>(0x10)
/** change a mount; replaces all of its flags */
export const MS_REMOUNT = flag<'MS'>(0x20)
/** mandatory locks; without effect since Linux 5.15 */
export const MS_MANDLOCK = flag<'MS'>(0x40)
/** changes of directories are synced at once */
export const MS_DIRSYNC = flag<'MS'>(0x80)
/** symbolic links are not followed; since Linux 5.10 */
export const MS_NOSYMFOLLOW = flag<'MS'>(0x100)
/** access times are never updated */
export const MS_NOATIME = flag<'MS'>(0x400)
/** access times of directories are not updated */
export const MS_NODIRATIME = flag<'MS'>(0x800)
/** make a directory or file visible at another place */
export const MS_BIND = flag<'MS'>(0x1000)
/** move a mount */
export const MS_MOVE = flag<'MS'>(0x2000)
/** the mounts below too: with MS_BIND or a propagation */
export const MS_REC = flag<'MS'>(0x4000)
/** fewer lines in the kernel log */
export const MS_SILENT = flag<'MS'>(0x8000)
/** the umask is left to the filesystem */
export const MS_POSIXACL = flag<'MS'>(0x10000)

/** private, and cannot be bound or cloned */
export const MS_UNBINDABLE = flag<'MS_PROPAGATION'>(0x20000)
/** mounts below neither come from peers nor go to them */
export const MS_PRIVATE = flag<'MS_PROPAGATION'>(0x40000)
/** mounts below come from the master and do not go back */
export const MS_SLAVE = flag<'MS_PROPAGATION'>(0x80000)
/** mounts below come from peers and go to them */
export const MS_SHARED = flag<'MS_PROPAGATION'>(0x100000)

/** access times follow modification times; the default */
export const MS_RELATIME = flag<'MS'>(0x200000)
/** count the changes of each inode */
export const MS_I_VERSION = flag<'MS'>(0x800000)
/** access times are always updated */
export const MS_STRICTATIME = flag<'MS'>(0x1000000)
/** times are written to disk late */
export const MS_LAZYTIME = flag<'MS'>(0x2000000)

/** abort requests under way; network filesystems only */
export const MNT_FORCE = flag<'MNT'>(0x1)
/** lazy: take it out of the tree now, clean up when it is no longer used */
export const MNT_DETACH = flag<'MNT'>(0x2)
/** mark it; unmount if it was marked and not used since; EAGAIN the first time */
export const MNT_EXPIRE = flag<'MNT'>(0x4)
/** do not follow a symbolic link at the end of the path */
export const UMOUNT_NOFOLLOW = flag<'MNT'>(0x8)

/** MS_RDONLY, of the mount or its superblock */
export const ST_RDONLY = flag<'ST'>(0x1)
/** MS_NOSUID */
export const ST_NOSUID = flag<'ST'>(0x2)
/** MS_NODEV */
export const ST_NODEV = flag<'ST'>(0x4)
/** MS_NOEXEC */
export const ST_NOEXEC = flag<'ST'>(0x8)
/** MS_SYNCHRONOUS */
export const ST_SYNCHRONOUS = flag<'ST'>(0x10)
/** MS_MANDLOCK */
export const ST_MANDLOCK = flag<'ST'>(0x40)
/** MS_NOATIME */
export const ST_NOATIME = flag<'ST'>(0x400)
/** MS_NODIRATIME */
export const ST_NODIRATIME = flag<'ST'>(0x800)
/** MS_RELATIME */
export const ST_RELATIME = flag<'ST'>(0x1000)
/** MS_NOSYMFOLLOW; since Linux 5.10 */
export const ST_NOSYMFOLLOW = flag<'ST'>(0x2000)

/** `type` that statfs(2) answers for an overlay. Not a flag. */
export const OVERLAYFS_SUPER_MAGIC = 0x794c7630

/** `type` that statfs(2) answers for a tmpfs. Not a flag. */
export const TMPFS_MAGIC = 0x01021994
