/**
 * Flags of the calls on mount trees, open_tree(2), open_tree_attr(2) and move_mount(2), and the AT_*
 * flags of calls that take a directory fd and a path.
 */
import { flag } from './flag.js'

/** a detached copy; without it, the fd is an O_PATH fd of what is there */
export const OPEN_TREE_CLONE = flag<'OPEN_TREE'>(0x1)
/** close the fd at exec; set unless `cloexec: false` */
export const OPEN_TREE_CLOEXEC = flag<'OPEN_TREE'>(0x80000)

/** follow a symbolic link at the end of the source path */
export const MOVE_MOUNT_F_SYMLINKS = flag<'MOVE_MOUNT'>(0x1)
/** trigger an automount at the end of the source path */
export const MOVE_MOUNT_F_AUTOMOUNTS = flag<'MOVE_MOUNT'>(0x2)
/** an empty source path means the fd itself */
export const MOVE_MOUNT_F_EMPTY_PATH = flag<'MOVE_MOUNT'>(0x4)
/** follow a symbolic link at the end of the target path */
export const MOVE_MOUNT_T_SYMLINKS = flag<'MOVE_MOUNT'>(0x10)
/** trigger an automount at the end of the target path */
export const MOVE_MOUNT_T_AUTOMOUNTS = flag<'MOVE_MOUNT'>(0x20)
/** an empty target path means the fd itself */
export const MOVE_MOUNT_T_EMPTY_PATH = flag<'MOVE_MOUNT'>(0x40)
/** move nothing: give the target the sharing of the source; since Linux 5.15 */
export const MOVE_MOUNT_SET_GROUP = flag<'MOVE_MOUNT'>(0x100)
/** attach under the mount that is at the target; since Linux 6.5 */
export const MOVE_MOUNT_BENEATH = flag<'MOVE_MOUNT'>(0x200)

/** do not follow a symbolic link at the end of the path */
export const AT_SYMLINK_NOFOLLOW = flag<'AT'>(0x100)
/** unlinkat(2): remove a directory */
export const AT_REMOVEDIR = flag<'AT'>(0x200)
/** do not trigger an automount at the end of the path */
export const AT_NO_AUTOMOUNT = flag<'AT'>(0x800)
/** an empty path means the fd itself */
export const AT_EMPTY_PATH = flag<'AT'>(0x1000)
/** statx(2): as fresh as stat(2); the default */
export const AT_STATX_SYNC_AS_STAT = flag<'AT'>(0x0)
/** statx(2): ask the server of a network filesystem */
export const AT_STATX_FORCE_SYNC = flag<'AT'>(0x2000)
/** statx(2): what is cached will do */
export const AT_STATX_DONT_SYNC = flag<'AT'>(0x4000)
/** the mounts below too: open_tree(2), mount_setattr(2) */
export const AT_RECURSIVE = flag<'AT'>(0x8000)

/** A directory fd that stands for the current directory. Not a flag. */
export const AT_FDCWD = -100
