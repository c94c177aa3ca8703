/**
 * fsconfig(2), one function per command: sets the parameters of a filesystem context, then makes the
 * superblock.
 *
 * A failing fsconfigSet* leaves the context usable; after a failing fsconfigCreate every further call on it
 * is EBUSY. What the kernel logged about a failure is in the error's `log`. Keys are at most 255 bytes.
 * The keys of a filesystem are in its own manual (for overlay: the kernel's filesystems/overlayfs.rst);
 * every one knows the flags ro, rw, sync, dirsync, lazytime. nosuid, nodev, noexec and the like are no keys
 * but attributes of the mount: fsmount takes them.
 */
import { binding } from '../binding.js'
import { errnoNumber } from '../errno.js'
import { invalidArgType, outOfRange } from '../errors.js'
import { flagNames } from '../flags/names.js'
import {
  AT_FDCWD,
  type Flag,
  FSCONFIG_CMD_CREATE,
  FSCONFIG_CMD_CREATE_EXCL,
  FSCONFIG_CMD_RECONFIGURE,
  FSCONFIG_SET_BINARY,
  FSCONFIG_SET_FD,
  FSCONFIG_SET_FLAG,
  FSCONFIG_SET_PATH,
  FSCONFIG_SET_PATH_EMPTY,
  FSCONFIG_SET_STRING,
} from '../flags.js'
import { bytesNotation, fdNotation, stringNotation } from '../notation.js'
import { copyOf, cString, isBytes, type PathLike } from '../path.js'
import { check, checkFd } from './call.js'
import { failureLog } from './log.js'

const EINVAL = errnoNumber('EINVAL')
const maxString = 255
const maxBinary = 1024 * 1024

/**
 * `fsconfig(fsFd, FSCONFIG_SET_FLAG, key, NULL, 0)`: sets a parameter that has no value. Linux 5.2.
 *
 * @param fsFd a context of fsopen or fspick
 * @param key name of the parameter: `'ro'`, `'userxattr'`
 * @throws SyscallError EINVAL: unknown key, or one that wants a value (the log says which)
 * @see fsconfig(2)
 */
export function fsconfigSetFlag(fsFd: number, key: string): void {
  fsconfig(fsFd, FSCONFIG_SET_FLAG, cString(key, 'key'), null, 0)
}

/**
 * `fsconfig(fsFd, FSCONFIG_SET_STRING, key, value, 0)`: sets a parameter to a string. Linux 5.2.
 *
 * For a path this is the same as naming it in the options of mount(2): the filesystem looks it up itself, at
 * once or at fsconfigCreate. fsconfigSetFd takes a directory that is open already.
 *
 * @param value at most 255 bytes; for overlay's `lowerdir`, `:` `,` and `\` need a `\` before them, for
 *   `lowerdir+` (6.7) nothing is escaped
 * @throws SyscallError EINVAL: unknown key, value not accepted, or longer than 255 bytes (no log line then)
 * @see fsconfig(2)
 */
export function fsconfigSetString(fsFd: number, key: string, value: PathLike): void {
  fsconfig(fsFd, FSCONFIG_SET_STRING, cString(key, 'key'), cString(value, 'value', { empty: true }), 0)
}

/**
 * `fsconfig(fsFd, FSCONFIG_SET_BINARY, key, value, length)`: sets a parameter to bytes. Linux 5.2.
 *
 * @param value 1 byte to 1 MiB, any bytes
 * @throws SyscallError EINVAL: unknown key, or one that takes no bytes
 * @see fsconfig(2)
 */
export function fsconfigSetBinary(fsFd: number, key: string, value: Uint8Array): void {
  if (!isBytes(value)) throw invalidArgType('value', 'Buffer or Uint8Array', value)
  const bytes = copyOf(value, 'value')
  if (bytes.length < 1 || bytes.length > maxBinary) {
    throw outOfRange('value.length', `from 1 to ${maxBinary}`, bytes.length)
  }
  fsconfig(fsFd, FSCONFIG_SET_BINARY, cString(key, 'key'), bytes, bytes.length)
}

/**
 * `fsconfig(fsFd, FSCONFIG_SET_PATH, key, path, dirFd)`: sets a parameter to the file at a path. Linux 5.2.
 *
 * Few filesystems have such parameters. Overlay has none: EINVAL for every key.
 *
 * @param path relative to `dirFd`
 * @param dirFd a directory, or AT_FDCWD, which is the default
 * @throws SyscallError EINVAL: the key takes no path · ENOENT
 * @see fsconfig(2)
 */
export function fsconfigSetPath(fsFd: number, key: string, path: PathLike, dirFd: number = AT_FDCWD): void {
  checkFd(dirFd, 'dirFd', { cwd: true })
  fsconfig(fsFd, FSCONFIG_SET_PATH, cString(key, 'key'), cString(path, 'path'), dirFd)
}

/**
 * `fsconfig(fsFd, FSCONFIG_SET_PATH_EMPTY, key, path, dirFd)`: as fsconfigSetPath, and an empty path means
 * `dirFd` itself. Linux 5.2.
 *
 * Not fsconfigSetFd: that hands the fd to the filesystem, this one the place it refers to.
 *
 * @throws SyscallError EINVAL: the key takes no path · ENOENT
 * @see fsconfig(2)
 */
export function fsconfigSetPathEmpty(fsFd: number, key: string, path: PathLike, dirFd: number): void {
  checkFd(dirFd, 'dirFd', { cwd: true })
  fsconfig(fsFd, FSCONFIG_SET_PATH_EMPTY, cString(key, 'key'), cString(path, 'path', { empty: true }), dirFd)
}

/**
 * `fsconfig(fsFd, FSCONFIG_SET_FD, key, NULL, fd)`: sets a parameter to an open file. Linux 5.2; for the
 * directories of overlay 6.13, and 6.15 (6.13.11, 6.14.2) for O_PATH fds.
 *
 * The kernel keeps what it needs: `fd` may be closed right after.
 *
 * @param fd any fd of this process
 * @throws SyscallError EINVAL: the key takes no fd · EBADF: not open, or O_PATH and the kernel wants one that
 *   is open for reading · EOPNOTSUPP: overlay before 6.5
 * @see fsconfig(2)
 */
export function fsconfigSetFd(fsFd: number, key: string, fd: number): void {
  checkFd(fd, 'fd')
  fsconfig(fsFd, FSCONFIG_SET_FD, cString(key, 'key'), null, fd)
}

/**
 * `fsconfig(fsFd, FSCONFIG_CMD_CREATE, NULL, NULL, 0)`: makes the superblock, or takes one that exists and
 * has the same parameters. Linux 5.2.
 *
 * Overlay can succeed and be read-only, if it could not prepare its workdir: fstatfs of the mount tells.
 *
 * @throws SyscallError EINVAL: parameters missing or at odds; overlay says why in the kernel's own log only ·
 *   EBUSY: done before, or failed before · ELOOP: overlay, directories overlap · EPERM: no CAP_SYS_ADMIN
 * @see fsconfig(2)
 */
export function fsconfigCreate(fsFd: number): void {
  fsconfig(fsFd, FSCONFIG_CMD_CREATE, null, null, 0)
}

/**
 * `fsconfig(fsFd, FSCONFIG_CMD_CREATE_EXCL, NULL, NULL, 0)`: as fsconfigCreate, but never takes a superblock
 * that exists: its parameters would be silently other than those asked for. Linux 6.6.
 *
 * @throws SyscallError as fsconfigCreate · EBUSY: there is one already · EOPNOTSUPP: an older kernel, or a
 *   filesystem not yet converted to contexts
 * @see fsconfig(2)
 */
export function fsconfigCreateExclusive(fsFd: number): void {
  fsconfig(fsFd, FSCONFIG_CMD_CREATE_EXCL, null, null, 0)
}

/**
 * `fsconfig(fsFd, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0)`: gives the superblock of a context of fspick the
 * parameters set since. Linux 5.2.
 *
 * For all mounts of that superblock at once; mountSetattr changes one mount. Overlay takes `ro` and `rw`
 * only.
 *
 * @throws SyscallError EINVAL: a parameter that cannot change · EBUSY: a context of fsopen
 * @see fsconfig(2)
 */
export function fsconfigReconfigure(fsFd: number): void {
  fsconfig(fsFd, FSCONFIG_CMD_RECONFIGURE, null, null, 0)
}

function fsconfig(
  fsFd: number,
  command: Flag<'FSCONFIG'>,
  key: Uint8Array | null,
  value: Uint8Array | null,
  aux: number,
): void {
  checkFd(fsFd, 'fsFd')
  check(binding.fsconfig(fsFd, command, key, value, aux), (errno) => {
    const isString = command === FSCONFIG_SET_STRING && value !== null
    const tooLong = isString && value.length - 1 > maxString && errno === EINVAL
    const takesDirFd = command === FSCONFIG_SET_PATH || command === FSCONFIG_SET_PATH_EMPTY
    return {
      syscall: 'fsconfig',
      args: [
        fdNotation(fsFd),
        flagNames(command, 'FSCONFIG'),
        stringNotation(key),
        command === FSCONFIG_SET_BINARY && value !== null ? bytesNotation(value) : stringNotation(value),
        takesDirFd ? fdNotation(aux) : String(aux),
      ],
      path: takesDirFd && value !== null ? value.subarray(0, -1) : undefined,
      log: failureLog(fsFd),
      hint: tooLong
        ? `the kernel takes at most ${maxString} bytes, the value has ${value.length - 1}`
        : undefined,
    }
  })
}
