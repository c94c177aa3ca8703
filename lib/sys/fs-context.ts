/**
 * The calls around a filesystem context: fsopen makes one, fspick takes that of a mounted filesystem,
 * fsmount makes the mount. What goes between is fsconfig.ts.
 *
 * All three need CAP_SYS_ADMIN over the mount namespace's user namespace: EPERM, before anything else
 * is looked at. A filter that does not know them (an old container runtime) answers ENOSYS or EPERM.
 */
import { binding } from '../binding.js'
import { flagBits } from '../flags/flag.js'
import { flagNames } from '../flags/names.js'
import { type Flags, FSMOUNT_CLOEXEC, FSOPEN_CLOEXEC, FSPICK_CLOEXEC } from '../flags.js'
import { fdNotation, stringNotation } from '../notation.js'
import { cString, type PathLike } from '../path.js'
import { check, checkFd, type FdOptions, withCloexec } from './call.js'
import { failureLog } from './log.js'

/**
 * `fsopen(type, flags)`: a context for a new filesystem of a type. Linux 5.2.
 *
 * @param type name of the filesystem as in /proc/filesystems: `'overlay'`, `'tmpfs'`
 * @param flags FSOPEN_CLOEXEC is added, unless `cloexec: false`
 * @returns fsFd, to be closed by the caller; nothing is made or mounted yet
 * @throws SyscallError ENODEV: no such filesystem, or its module is not loaded · EPERM: no CAP_SYS_ADMIN ·
 *   ENOSYS: before 5.2, or filtered
 * @see fsopen(2)
 */
export function fsopen(type: string, flags: Flags<'FSOPEN'> = 0, options: FdOptions = {}): number {
  const typeBytes = cString(type, 'type')
  const bits = withCloexec(flagBits(flags, 'flags'), FSOPEN_CLOEXEC, options)
  return check(binding.fsopen(typeBytes, bits), () => ({
    syscall: 'fsopen',
    args: [stringNotation(type), flagNames(bits, 'FSOPEN')],
  }))
}

/**
 * `fsmount(fsFd, flags, attributes)`: a mount of the superblock that fsconfigCreate made. Linux 5.2.
 *
 * The mount is detached: it is in no namespace, /proc/self/fd/N reaches into it, moveMount attaches it. As
 * long as it is detached, closing the fd unmounts it; once attached, the fd is an ordinary O_PATH fd.
 * Works once per context.
 *
 * @param flags FSMOUNT_CLOEXEC is added, unless `cloexec: false`
 * @param attributes MOUNT_ATTR_*, not MS_*; of the mount, not of the superblock
 * @returns mountFd, to be closed by the caller
 * @throws SyscallError EINVAL: before fsconfigCreate, or MOUNT_ATTR_IDMAP (mountSetattr takes that) ·
 *   EBUSY: a second time · EPERM
 * @see fsmount(2)
 */
export function fsmount(
  fsFd: number,
  flags: Flags<'FSMOUNT'> = 0,
  attributes: Flags<'MOUNT_ATTR'> = 0,
  options: FdOptions = {},
): number {
  checkFd(fsFd, 'fsFd')
  const bits = withCloexec(flagBits(flags, 'flags'), FSMOUNT_CLOEXEC, options)
  const attributeBits = flagBits(attributes, 'attributes')
  return check(binding.fsmount(fsFd, bits, attributeBits), () => ({
    syscall: 'fsmount',
    args: [fdNotation(fsFd), flagNames(bits, 'FSMOUNT'), flagNames(attributeBits, 'MOUNT_ATTR')],
    log: failureLog(fsFd),
  }))
}

/**
 * `fspick(dirFd, path, flags)`: a context for the superblock of a mounted filesystem, for
 * fsconfigReconfigure. Linux 5.2.
 *
 * @param dirFd a directory, or AT_FDCWD
 * @param path the root of a mount, not a place in it; may be empty with FSPICK_EMPTY_PATH
 * @param flags FSPICK_CLOEXEC is added, unless `cloexec: false`
 * @returns fsFd, to be closed by the caller
 * @throws SyscallError EINVAL: not the root of a mount · ENOENT · EPERM · ENOSYS: before 5.2, filtered,
 *   gVisor
 * @see fspick(2)
 */
export function fspick(
  dirFd: number,
  path: PathLike,
  flags: Flags<'FSPICK'> = 0,
  options: FdOptions = {},
): number {
  checkFd(dirFd, 'dirFd', { cwd: true })
  const pathBytes = cString(path, 'path', { empty: true })
  const bits = withCloexec(flagBits(flags, 'flags'), FSPICK_CLOEXEC, options)
  return check(binding.fspick(dirFd, pathBytes, bits), () => ({
    syscall: 'fspick',
    args: [fdNotation(dirFd), stringNotation(path), flagNames(bits, 'FSPICK')],
    path,
  }))
}
