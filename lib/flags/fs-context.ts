/**
 * Flags of the calls that make a superblock and its first mount: fsopen(2), fsconfig(2), fsmount(2),
 * fspick(2); and the mount attributes, which mount_setattr(2) and open_tree_attr(2) take too.
 */
import { flag } from './flag.js'

/** close the context at exec; set unless `cloexec: false` */
export const FSOPEN_CLOEXEC = flag<'FSOPEN'>(0x1)

/** close the context at exec; set unless `cloexec: false` */
export const FSPICK_CLOEXEC = flag<'FSPICK'>(0x1)
/** do not follow a symbolic link at the end of the path */
export const FSPICK_SYMLINK_NOFOLLOW = flag<'FSPICK'>(0x2)
/** do not trigger an automount at the end of the path */
export const FSPICK_NO_AUTOMOUNT = flag<'FSPICK'>(0x4)
/** an empty path means the fd itself */
export const FSPICK_EMPTY_PATH = flag<'FSPICK'>(0x8)

/** close the mount fd at exec; set unless `cloexec: false` */
export const FSMOUNT_CLOEXEC = flag<'FSMOUNT'>(0x1)

/** command of `fsconfigSetFlag` */
export const FSCONFIG_SET_FLAG = flag<'FSCONFIG'>(0)
/** command of `fsconfigSetString` */
export const FSCONFIG_SET_STRING = flag<'FSCONFIG'>(1)
/** command of `fsconfigSetBinary` */
export const FSCONFIG_SET_BINARY = flag<'FSCONFIG'>(2)
/** command of `fsconfigSetPath` */
export const FSCONFIG_SET_PATH = flag<'FSCONFIG'>(3)
/** command of `fsconfigSetPathEmpty` */
export const FSCONFIG_SET_PATH_EMPTY = flag<'FSCONFIG'>(4)
/** command of `fsconfigSetFd` */
export const FSCONFIG_SET_FD = flag<'FSCONFIG'>(5)
/** command of `fsconfigCreate` */
export const FSCONFIG_CMD_CREATE = flag<'FSCONFIG'>(6)
/** command of `fsconfigReconfigure` */
export const FSCONFIG_CMD_RECONFIGURE = flag<'FSCONFIG'>(7)
/** command of `fsconfigCreateExclusive`; since Linux 6.6 */
export const FSCONFIG_CMD_CREATE_EXCL = flag<'FSCONFIG'>(8)

/** no writes through this mount; the superblock may be writable */
export const MOUNT_ATTR_RDONLY = flag<'MOUNT_ATTR'>(0x1)
/** set-user-ID bits and file capabilities have no effect */
export const MOUNT_ATTR_NOSUID = flag<'MOUNT_ATTR'>(0x2)
/** device files cannot be opened */
export const MOUNT_ATTR_NODEV = flag<'MOUNT_ATTR'>(0x4)
/** programs cannot be executed */
export const MOUNT_ATTR_NOEXEC = flag<'MOUNT_ATTR'>(0x8)
/** mask of the access-time setting, which is a number: to change it, clear the mask */
export const MOUNT_ATTR__ATIME = flag<'MOUNT_ATTR'>(0x70)
/** access times follow modification times; the default */
export const MOUNT_ATTR_RELATIME = flag<'MOUNT_ATTR'>(0x0)
/** access times are never updated */
export const MOUNT_ATTR_NOATIME = flag<'MOUNT_ATTR'>(0x10)
/** access times are always updated */
export const MOUNT_ATTR_STRICTATIME = flag<'MOUNT_ATTR'>(0x20)
/** access times of directories are not updated */
export const MOUNT_ATTR_NODIRATIME = flag<'MOUNT_ATTR'>(0x80)
/** map ids by a user namespace; not in fsmount(2); since Linux 5.12 */
export const MOUNT_ATTR_IDMAP = flag<'MOUNT_ATTR'>(0x100000)
/** symbolic links are not followed; since Linux 5.14 */
export const MOUNT_ATTR_NOSYMFOLLOW = flag<'MOUNT_ATTR'>(0x200000)
