/**
 * Opening and closing, and reading extended attributes: what node:fs has not, or not with these flags.
 */
import { binding } from '../binding.js'
import { checkKeys } from '../check.js'
import { errnoNumber } from '../errno.js'
import { invalidArgType, outOfRange } from '../errors.js'
import { flagBits } from '../flags/flag.js'
import { type Flags, O_CLOEXEC } from '../flags.js'
import { fdNotation, openHowNotation, stringNotation } from '../notation.js'
import { cString, type PathLike } from '../path.js'
import { check, checkFd, type FdOptions, withCloexec } from './call.js'

const ERANGE = errnoNumber('ERANGE') ?? 0

/** struct open_how */
export interface OpenHow {
  /** O_*; 0, which is O_RDONLY, if left out */
  flags?: Flags<'O'> | undefined
  /** permissions of a new file, 0o644 for instance; only with O_CREAT or O_TMPFILE */
  mode?: number | undefined
  /** RESOLVE_*: what the path may not do */
  resolve?: Flags<'RESOLVE'> | undefined
}

/**
 * `openat2(dirFd, path, how, sizeof how)`: opens a path that may be made by someone hostile. Linux 5.6.
 *
 * As openat(2), but a bit that the kernel does not know is EINVAL, and `resolve` says what may not happen on
 * the way.
 *
 * @param how O_CLOEXEC is added, unless `cloexec: false`
 * @returns the fd, to be closed by the caller
 * @throws SyscallError ELOOP: a symbolic link that RESOLVE_NO_SYMLINKS or O_NOFOLLOW forbids · EXDEV: a mount
 *   point or a way out that RESOLVE_NO_XDEV or RESOLVE_BENEATH forbids · EAGAIN: `..` and a rename at the
 *   same time, or RESOLVE_CACHED: try again · ENOENT · ENOTDIR · EACCES · EINVAL · ENOSYS
 * @see openat2(2)
 */
export function openat2(dirFd: number, path: PathLike, how: OpenHow, options: FdOptions = {}): number {
  checkFd(dirFd, 'dirFd', { cwd: true })
  const pathBytes = cString(path, 'path', { empty: true })
  const given: OpenHow = checkKeys(how, 'how', ['flags', 'mode', 'resolve'])
  const flags = withCloexec(
    flagBits(given.flags === undefined ? 0 : given.flags, 'how.flags', 53),
    O_CLOEXEC,
    options,
  )
  const mode = checkMode(given.mode === undefined ? 0 : given.mode)
  const resolve = flagBits(given.resolve === undefined ? 0 : given.resolve, 'how.resolve', 53)
  return check(binding.openat2(dirFd, pathBytes, BigInt(flags), BigInt(mode), BigInt(resolve)), () => ({
    syscall: 'openat2',
    args: [fdNotation(dirFd), stringNotation(path), openHowNotation(flags, mode, resolve)],
    path,
  }))
}

/**
 * `close(fd)`. Every Linux.
 *
 * As fs.closeSync, and for the fds of this module the same; here an error is a SyscallError. Closing a
 * detached mount or a detached tree unmounts it, which waits for an RCU grace period.
 *
 * @throws SyscallError EBADF: not open. After any other error (EIO, EINTR, EDQUOT) the fd is closed all the
 *   same: closing it again could close someone else's
 * @see close(2)
 */
export function close(fd: number): void {
  checkFd(fd, 'fd')
  check(binding.close(fd), () => ({ syscall: 'close', args: [fdNotation(fd)] }))
}

/**
 * `lgetxattr(path, name, value, size)`: the value of an extended attribute. Linux 2.4.
 *
 * @param path a symbolic link at its end is not followed
 * @param name with its namespace: `'trusted.overlay.opaque'`; trusted.* are visible to CAP_SYS_ADMIN only
 * @returns the bytes, perhaps none
 * @throws SyscallError ENODATA: no such attribute · EOPNOTSUPP: the filesystem has none · ENOENT · EACCES
 * @see lgetxattr(2)
 */
export function lgetxattr(path: PathLike, name: PathLike): Buffer {
  const nameBytes = cString(name, 'name')
  return readXattr(path, nameBytes, () => ['lgetxattr', stringNotation(path), stringNotation(name)])
}

/**
 * `llistxattr(path, list, size)`: the names of the extended attributes. Linux 2.4.
 *
 * @param path a symbolic link at its end is not followed
 * @returns a name each, as bytes, which need not be UTF-8; trusted.* with CAP_SYS_ADMIN only
 * @throws SyscallError EOPNOTSUPP: the filesystem has none · ENOENT
 * @see llistxattr(2)
 */
export function llistxattr(path: PathLike): Buffer[] {
  const list = readXattr(path, null, () => ['llistxattr', stringNotation(path)])
  const names: Buffer[] = []
  let start = 0
  for (const [end, byte] of list.entries()) {
    if (byte !== 0) continue
    names.push(list.subarray(start, end))
    start = end + 1
  }
  return names
}

/** Asks for the size, then for the bytes; again if they grew in between. */
function readXattr(path: PathLike, name: Uint8Array | null, call: () => [string, ...string[]]): Buffer {
  const pathBytes = cString(path, 'path')
  for (;;) {
    const size = binding.lgetxattr(pathBytes, name, Buffer.alloc(0))
    const buffer = Buffer.alloc(Math.max(size, 0))
    const result = size > 0 ? binding.lgetxattr(pathBytes, name, buffer) : size
    if (result === -ERANGE) continue
    check(result, () => {
      const [syscall, ...args] = call()
      return { syscall, args: [...args, '{...}', String(buffer.length)], path }
    })
    return buffer.subarray(0, result)
  }
}

function checkMode(mode: number): number {
  if (typeof mode !== 'number') throw invalidArgType('how.mode', 'number', mode)
  if (!Number.isInteger(mode) || mode < 0 || mode > 0o7777)
    throw outOfRange('how.mode', 'from 0 to 0o7777', mode)
  return mode
}
