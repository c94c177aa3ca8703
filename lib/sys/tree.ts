/**
 * The calls on mounts that exist: open_tree copies one, move_mount attaches it, mount_setattr changes it,
 * open_tree_attr does the first and the last at once.
 *
 * Paths are relative to a directory fd (AT_FDCWD: the current directory), and may be empty where a flag
 * (AT_EMPTY_PATH, MOVE_MOUNT_F_EMPTY_PATH) says that the fd itself is meant.
 */
import { binding } from '../binding.js'
import { checkKeys } from '../check.js'
import { invalidArgType } from '../errors.js'
import { flagBits } from '../flags/flag.js'
import { flagNames } from '../flags/names.js'
import { type Flags, MOUNT_ATTR_IDMAP, OPEN_TREE_CLOEXEC } from '../flags.js'
import { fdNotation, mountAttrNotation, stringNotation } from '../notation.js'
import { cString, type PathLike } from '../path.js'
import { check, checkFd, type FdOptions, withCloexec } from './call.js'

/** struct mount_attr: what mountSetattr and openTreeAttr change. What is left out stays as it is. */
export interface MountAttr {
  /** attributes to set; MOUNT_ATTR_NOATIME and the like need MOUNT_ATTR__ATIME in `attrClr` */
  attrSet?: Flags<'MOUNT_ATTR'> | undefined
  /** attributes to clear, before the others are set; MOUNT_ATTR_IDMAP only in openTreeAttr (6.15) */
  attrClr?: Flags<'MOUNT_ATTR'> | undefined
  /** one of MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE */
  propagation?: Flags<'MS_PROPAGATION'> | undefined
  /** with MOUNT_ATTR_IDMAP: a user namespace; may be closed after the call */
  usernsFd?: number | undefined
}

interface AttrBits {
  readonly set: number
  readonly clear: number
  readonly propagation: number
  readonly usernsFd: number
}

/**
 * `open_tree(dirFd, path, flags)`: an fd of a mount, or a detached copy of it. Linux 5.2.
 *
 * With OPEN_TREE_CLONE a bind mount that is attached nowhere: closing its fd unmounts it, which takes an RCU
 * grace period (50 µs and more). Without, it is `openat(O_PATH)`. AT_RECURSIVE copies the mounts below too;
 * without it, what lies under those is seen.
 *
 * @param flags OPEN_TREE_CLOEXEC is added, unless `cloexec: false`
 * @returns treeFd, to be closed by the caller
 * @throws SyscallError EINVAL: an unbindable mount; a detached one (before 6.15); locked mounts below,
 *   without AT_RECURSIVE · EPERM: no CAP_SYS_ADMIN · ENOENT · ENOSYS
 * @see open_tree(2)
 */
export function openTree(
  dirFd: number,
  path: PathLike,
  flags: Flags<'OPEN_TREE' | 'AT'> = 0,
  options: FdOptions = {},
): number {
  checkFd(dirFd, 'dirFd', { cwd: true })
  const pathBytes = cString(path, 'path', { empty: true })
  const bits = withCloexec(flagBits(flags, 'flags'), OPEN_TREE_CLOEXEC, options)
  return check(binding.openTree(dirFd, pathBytes, bits), () => ({
    syscall: 'open_tree',
    args: [fdNotation(dirFd), stringNotation(path), flagNames(bits, 'OPEN_TREE', 'AT')],
    path,
  }))
}

/**
 * `open_tree_attr(dirFd, path, flags, attr, sizeof attr)`: openTree and mountSetattr in one. Linux 6.15.
 *
 * The only way to give a mount that is idmapped already another mapping: with OPEN_TREE_CLONE, of the copy.
 *
 * @returns treeFd, to be closed by the caller
 * @throws SyscallError as openTree and mountSetattr · ENOSYS: before 6.15; the two calls do it there
 * @see open_tree_attr(2)
 */
export function openTreeAttr(
  dirFd: number,
  path: PathLike,
  flags: Flags<'OPEN_TREE' | 'AT'>,
  attr: MountAttr,
  options: FdOptions = {},
): number {
  checkFd(dirFd, 'dirFd', { cwd: true })
  const pathBytes = cString(path, 'path', { empty: true })
  const bits = withCloexec(flagBits(flags, 'flags'), OPEN_TREE_CLOEXEC, options)
  const attrBits = checkAttr(attr)
  return check(binding.openTreeAttr(dirFd, pathBytes, bits, ...wide(attrBits)), () => ({
    syscall: 'open_tree_attr',
    args: [fdNotation(dirFd), stringNotation(path), flagNames(bits, 'OPEN_TREE', 'AT'), ...shown(attrBits)],
    path,
  }))
}

/**
 * `move_mount(fromFd, fromPath, toFd, toPath, flags)`: attaches a detached mount, or moves an attached one.
 * Linux 5.2.
 *
 * Unlike mount(2), no symbolic link at the end of either path is followed unless a flag says so. Below a
 * shared mount the new one is copied to every peer and slave, and becomes shared.
 *
 * @param fromPath empty with MOVE_MOUNT_F_EMPTY_PATH: `fromFd` itself, a mountFd or treeFd
 * @param toPath empty with MOVE_MOUNT_T_EMPTY_PATH: `toFd` itself
 * @throws SyscallError EINVAL: not a mount, attached and unmounted before, below itself, a symbolic link as
 *   target, a shared parent of an attached source · ELOOP · ENOENT · EPERM
 * @see move_mount(2)
 */
export function moveMount(
  fromFd: number,
  fromPath: PathLike,
  toFd: number,
  toPath: PathLike,
  flags: Flags<'MOVE_MOUNT'> = 0,
): void {
  checkFd(fromFd, 'fromFd', { cwd: true })
  const fromBytes = cString(fromPath, 'fromPath', { empty: true })
  checkFd(toFd, 'toFd', { cwd: true })
  const toBytes = cString(toPath, 'toPath', { empty: true })
  const bits = flagBits(flags, 'flags')
  check(binding.moveMount(fromFd, fromBytes, toFd, toBytes, bits), () => ({
    syscall: 'move_mount',
    args: [
      fdNotation(fromFd),
      stringNotation(fromPath),
      fdNotation(toFd),
      stringNotation(toPath),
      flagNames(bits, 'MOVE_MOUNT'),
    ],
    path: fromPath,
    dest: toPath,
  }))
}

/**
 * `mount_setattr(dirFd, path, flags, attr, sizeof attr)`: changes attributes, propagation or idmapping of a
 * mount; with AT_RECURSIVE, of all below, or of none if one refuses. Linux 5.12.
 *
 * Adds and removes single attributes, where mount(2) with MS_REMOUNT and MS_BIND replaces them all. Of the
 * mount, not of the superblock: fsconfigReconfigure is for that.
 *
 * @param path may be empty with AT_EMPTY_PATH
 * @throws SyscallError EINVAL: not the root of a mount; with MOUNT_ATTR_IDMAP an attached mount, a filesystem
 *   that cannot be idmapped, a user namespace without mappings · EPERM: idmapped already, the initial user
 *   namespace, or no CAP_SYS_ADMIN over the filesystem · ENOSYS
 * @see mount_setattr(2)
 */
export function mountSetattr(dirFd: number, path: PathLike, flags: Flags<'AT'>, attr: MountAttr): void {
  checkFd(dirFd, 'dirFd', { cwd: true })
  const pathBytes = cString(path, 'path', { empty: true })
  const bits = flagBits(flags, 'flags')
  const attrBits = checkAttr(attr)
  check(binding.mountSetattr(dirFd, pathBytes, bits, ...wide(attrBits)), () => ({
    syscall: 'mount_setattr',
    args: [fdNotation(dirFd), stringNotation(path), flagNames(bits, 'AT'), ...shown(attrBits)],
    path,
  }))
}

function checkAttr(attr: MountAttr): AttrBits {
  const given: MountAttr = checkKeys(attr, 'attr', ['attrSet', 'attrClr', 'propagation', 'usernsFd'])
  const { attrSet = 0, attrClr = 0, usernsFd: fd } = given
  const set = flagBits(attrSet, 'attr.attrSet', 53)
  const clear = flagBits(attrClr, 'attr.attrClr', 53)
  const propagation = flagBits(
    given.propagation === undefined ? 0 : given.propagation,
    'attr.propagation',
    53,
  )
  const idmaps = (set & MOUNT_ATTR_IDMAP) !== 0
  // without an fd the kernel would be given 0, which is somebody's standard input
  if (idmaps && fd === undefined) throw invalidArgType('attr.usernsFd', 'number', undefined)
  const usernsFd = fd === undefined ? 0 : checkFd(fd, 'attr.usernsFd')
  return { set, clear, propagation, usernsFd }
}

function wide({ set, clear, propagation, usernsFd }: AttrBits): [bigint, bigint, bigint, bigint] {
  return [BigInt(set), BigInt(clear), BigInt(propagation), BigInt(usernsFd)]
}

function shown({ set, clear, propagation, usernsFd }: AttrBits): string[] {
  return [mountAttrNotation(set, clear, propagation, usernsFd)]
}
