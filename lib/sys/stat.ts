/**
 * statx(2), statfs(2) and fstatfs(2): what is at a path, and on which mount and filesystem.
 *
 * node:fs has stat and statfs, without the mount: its id, whether the path is its root, its flags.
 * Numbers of 64 bits are bigints. Every time is in nanoseconds since 1970, sizes are in bytes.
 */
import { binding } from '../binding.js'
import { flagBits } from '../flags/flag.js'
import { flagNames } from '../flags/names.js'
import {
  type Flags,
  STATX_ATTR_MOUNT_ROOT,
  STATX_BASIC_STATS,
  STATX_BTIME,
  STATX_MNT_ID,
  STATX_MNT_ID_UNIQUE,
} from '../flags.js'
import { fdNotation, stringNotation } from '../notation.js'
import { cString, type PathLike } from '../path.js'
import { check, checkFd } from './call.js'

/**
 * struct statx. A field whose bit is not in `mask` holds nothing of use. Times are in nanoseconds since 1970,
 * as bigints; sizes in bytes.
 */
export interface Statx {
  /** STATX_* of the fields that were filled */
  mask: number
  /** best size of a read or write, in bytes */
  blksize: number
  /** STATX_ATTR_*, as far as they are in `attributesMask` */
  attributes: bigint
  /** STATX_ATTR_* that the filesystem can tell */
  attributesMask: bigint
  nlink: number
  /** as the mount and the caller's user namespace map it */
  uid: number
  gid: number
  /** type and permissions, as in node:fs */
  mode: number
  ino: bigint
  /** bytes */
  size: bigint
  /** of 512 bytes each, whatever `blksize` is */
  blocks: bigint
  atimeNs: bigint
  ctimeNs: bigint
  mtimeNs: bigint
  /** when it was made; undefined where the filesystem does not know */
  btimeNs: bigint | undefined
  /** of a device file: what device it is */
  rdevMajor: number
  rdevMinor: number
  /** of the filesystem; btrfs and overlay may show several for one */
  devMajor: number
  devMinor: number
  /** as in /proc/self/mountinfo, given to another mount after the unmount; asked for by STATX_MNT_ID */
  mntId: bigint | undefined
  /** never given again; asked for by STATX_MNT_ID_UNIQUE, undefined before Linux 6.8 */
  mntIdUnique: bigint | undefined
  /** whether this is the root of a mount; undefined before Linux 5.8 */
  isMountRoot: boolean | undefined
  /** alignment in bytes for O_DIRECT, of memory; asked for by STATX_DIOALIGN */
  dioMemAlign: number
  /** the same, of offsets */
  dioOffsetAlign: number
}

/** struct statfs */
export interface Statfs {
  /** magic number of the filesystem: OVERLAYFS_SUPER_MAGIC */
  type: number
  /** bytes: the unit of best transfers */
  bsize: bigint
  /** all counts of blocks are in units of `frsize` */
  blocks: bigint
  bfree: bigint
  /** for those who are not root */
  bavail: bigint
  files: bigint
  ffree: bigint
  /** an identifier of the filesystem, of no certain meaning */
  fsid: bigint
  /** longest name, in bytes */
  namelen: bigint
  /** bytes of a block */
  frsize: bigint
  /** ST_*: the flags of the mount, and read-only if either mount or superblock is */
  flags: number
}

/**
 * `statx(dirFd, path, flags, mask, buffer)`. Linux 4.11, mount ids 5.8 and 6.8.
 *
 * Two mount ids look alike. Asked for STATX_MNT_ID_UNIQUE, a kernel before 6.8 answers the reused one in the
 * same field; here each has a field of its own, and the one that was not answered is undefined.
 *
 * @param path may be empty with AT_EMPTY_PATH
 * @param flags AT_SYMLINK_NOFOLLOW, AT_NO_AUTOMOUNT, AT_EMPTY_PATH, AT_STATX_*
 * @param mask fields wanted; STATX_BASIC_STATS and STATX_BTIME if left out
 * @throws SyscallError ENOENT · ENOTDIR · EACCES · ELOOP · EBADF
 * @see statx(2)
 */
export function statx(
  dirFd: number,
  path: PathLike,
  flags: Flags<'AT'> = 0,
  mask: Flags<'STATX'> = [STATX_BASIC_STATS, STATX_BTIME],
): Statx {
  checkFd(dirFd, 'dirFd', { cwd: true })
  const pathBytes = cString(path, 'path', { empty: true })
  const bits = flagBits(flags, 'flags')
  const maskBits = flagBits(mask, 'mask')
  const buffer = Buffer.alloc(256)
  check(binding.statx(dirFd, pathBytes, bits, maskBits, buffer), () => ({
    syscall: 'statx',
    args: [
      fdNotation(dirFd),
      stringNotation(path),
      flagNames(bits, 'AT'),
      flagNames(maskBits, 'STATX'),
      '{...}',
    ],
    path,
  }))
  return parseStatx(buffer)
}

/** The 256 bytes of a struct statx, as the kernel fills them (little-endian: x64 and arm64). */
export function parseStatx(buffer: Buffer): Statx {
  const u32 = (offset: number) => buffer.readUInt32LE(offset)
  const u64 = (offset: number) => buffer.readBigUInt64LE(offset)
  const timeNs = (offset: number) => buffer.readBigInt64LE(offset) * 1_000_000_000n + BigInt(u32(offset + 8))
  const mask = u32(0)
  const attributes = u64(8)
  const attributesMask = u64(56)
  const mountRoot = BigInt(STATX_ATTR_MOUNT_ROOT)
  return {
    mask,
    blksize: u32(4),
    attributes,
    attributesMask,
    nlink: u32(16),
    uid: u32(20),
    gid: u32(24),
    mode: buffer.readUInt16LE(28),
    ino: u64(32),
    size: u64(40),
    blocks: u64(48),
    atimeNs: timeNs(64),
    btimeNs: mask & STATX_BTIME ? timeNs(80) : undefined,
    ctimeNs: timeNs(96),
    mtimeNs: timeNs(112),
    rdevMajor: u32(128),
    rdevMinor: u32(132),
    devMajor: u32(136),
    devMinor: u32(140),
    mntId: mask & STATX_MNT_ID ? u64(144) : undefined,
    mntIdUnique: mask & STATX_MNT_ID_UNIQUE ? u64(144) : undefined,
    isMountRoot: attributesMask & mountRoot ? (attributes & mountRoot) !== 0n : undefined,
    dioMemAlign: u32(152),
    dioOffsetAlign: u32(156),
  }
}

/**
 * `fstatfs(fd, buffer)`: the filesystem and the mount of an open file; O_PATH fds (since
 * Linux 3.12) and detached mounts too.
 *
 * `flags` are those of the mount the fd was opened through. An overlay that came up read-only without an
 * error has ST_RDONLY here.
 *
 * @throws SyscallError EBADF · EIO
 * @see fstatfs(2)
 */
export function fstatfs(fd: number): Statfs {
  checkFd(fd, 'fd')
  const out = new BigInt64Array(11)
  check(binding.fstatfs(fd, out), () => ({ syscall: 'fstatfs', args: [fdNotation(fd), '{...}'] }))
  return toStatfs(out)
}

/**
 * `statfs(path, buffer)`: as fstatfs, by path; a symbolic link at its end is followed. Every Linux.
 *
 * @throws SyscallError ENOENT · ENOTDIR · EACCES · ELOOP
 * @see statfs(2)
 */
export function statfs(path: PathLike): Statfs {
  const pathBytes = cString(path, 'path')
  const out = new BigInt64Array(11)
  check(binding.statfs(pathBytes, out), () => ({
    syscall: 'statfs',
    args: [stringNotation(path), '{...}'],
    path,
  }))
  return toStatfs(out)
}

function toStatfs(numbers: BigInt64Array): Statfs {
  const [type = 0n, bsize = 0n, blocks = 0n, bfree = 0n, bavail = 0n, files = 0n] = numbers
  const [ffree = 0n, fsid = 0n, namelen = 0n, frsize = 0n, flags = 0n] = numbers.subarray(6)
  return {
    type: Number(type),
    bsize,
    // counts are unsigned: all bits set is what a filesystem without a limit may say
    blocks: BigInt.asUintN(64, blocks),
    bfree: BigInt.asUintN(64, bfree),
    bavail: BigInt.asUintN(64, bavail),
    files: BigInt.asUintN(64, files),
    ffree: BigInt.asUintN(64, ffree),
    fsid: BigInt.asUintN(64, fsid),
    namelen,
    frsize,
    flags: Number(flags),
  }
}
