/**
 * The classic calls: mount(2) and umount2(2).
 *
 * They know paths only. mount(2) does one of five things, by its flags: a new mount, MS_BIND, MS_REMOUNT,
 * MS_MOVE, or a change of propagation (MS_SHARED and its kin), which has to be a call of its own.
 */
import { binding } from '../binding.js'
import { outOfRange } from '../errors.js'
import { flagBits } from '../flags/flag.js'
import { flagNames } from '../flags/names.js'
import type { Flags } from '../flags.js'
import { stringNotation } from '../notation.js'
import { cString, type PathLike } from '../path.js'
import { check } from './call.js'

/** A page and its NUL. */
const maxData = 4095

/**
 * `mount(source, target, type, flags, data)`. Every Linux, MS_BIND 2.4, propagation 2.6.15.
 *
 * With MS_BIND the other flags are ignored, MS_RDONLY too: a second call with MS_REMOUNT and MS_BIND sets
 * them, and replaces all the mount has. On MS_REMOUNT, overlay ignores its options without an error.
 *
 * @param source device, directory or a word for /proc/self/mountinfo; null where there is none
 * @param target an existing file or directory; a symbolic link at its end is followed
 * @param type name of the filesystem; null with MS_BIND, MS_MOVE, MS_REMOUNT and propagation
 * @param flags MS_*, not MOUNT_ATTR_*
 * @param data options of the filesystem, `'size=1m,mode=755'`, at most 4095 bytes: the kernel cuts what is
 *   longer without an error, so it is a RangeError here
 * @throws SyscallError EINVAL: options refused, or `target` is no mount where it must be one · EBUSY: mounted
 *   there already, or read-only refused · ENODEV: no such filesystem · ENOENT · EPERM · ELOOP
 * @see mount(2)
 */
export function mount(
  source: PathLike | null,
  target: PathLike,
  type: string | null,
  flags: Flags<'MS' | 'MS_PROPAGATION'> = 0,
  data: PathLike | null = null,
): void {
  const sourceBytes = source === null ? null : cString(source, 'source', { empty: true })
  const targetBytes = cString(target, 'target')
  const typeBytes = type === null ? null : cString(type, 'type')
  const bits = flagBits(flags, 'flags', 53)
  const dataBytes = data === null ? null : cString(data, 'data', { empty: true })
  if (dataBytes !== null && dataBytes.length - 1 > maxData) {
    throw outOfRange('data', `at most ${maxData} bytes, where the kernel cuts it`, dataBytes.length - 1)
  }
  check(binding.mount(sourceBytes, targetBytes, typeBytes, bits, dataBytes), () => ({
    syscall: 'mount',
    args: [
      stringNotation(source),
      stringNotation(target),
      stringNotation(type),
      flagNames(bits, 'MS'),
      stringNotation(data),
    ],
    path: source ?? target,
    dest: source === null ? undefined : target,
  }))
}

/**
 * `umount2(target, flags)`: takes the topmost mount at a path away. MNT_DETACH since Linux 2.4.11,
 * UMOUNT_NOFOLLOW 2.6.34.
 *
 * Of several on one place the last is taken, whoever made it. Waits for an RCU grace period, and for the
 * superblock's end if this was its last mount: for overlay without `volatile`, a sync of the whole
 * filesystem that holds upperdir.
 *
 * @param target a mount point; a symbolic link at its end is followed unless UMOUNT_NOFOLLOW
 * @param flags MNT_DETACH unmounts what is in use too: it vanishes at once and ends with its last user
 * @throws SyscallError EBUSY: in use (a cwd, an open file, an fd of the mount itself) · EINVAL: not a mount
 *   point, or locked · EAGAIN: MNT_EXPIRE marked it · ENOENT · EPERM
 * @see umount2(2)
 */
export function umount(target: PathLike, flags: Flags<'MNT'> = 0): void {
  const targetBytes = cString(target, 'target')
  const bits = flagBits(flags, 'flags')
  check(binding.umount(targetBytes, bits), () => ({
    syscall: 'umount2',
    args: [stringNotation(target), flagNames(bits, 'MNT', 'UMOUNT')],
    path: target,
  }))
}
