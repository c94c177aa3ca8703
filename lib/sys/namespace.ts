/**
 * setns(2) and unshare(2), of the calling thread.
 *
 * Meant for a program's very start. Namespaces belong to threads, and these calls change only the one that
 * JavaScript runs on: libuv's threads, if they run already, stay behind, so that fs.readFile and
 * fs.readFileSync then look at different trees. Threads made later inherit the change.
 */
import { binding } from '../binding.js'
import { flagBits } from '../flags/flag.js'
import { flagNames } from '../flags/names.js'
import type { Flags } from '../flags.js'
import { fdNotation } from '../notation.js'
import { check, checkFd } from './call.js'

/**
 * `setns(fd, type)`: the calling thread enters a namespace. With a pidfd (5.8) it enters those named of a
 * process. Linux 3.0.
 *
 * @param fd of /proc/PID/ns/*, or a pidfd
 * @param type CLONE_NEW*: what kind it must be, EINVAL if it is another; 0 for any
 * @throws SyscallError EINVAL: CLONE_NEWUSER in a process with threads, which every one of Node is;
 *   CLONE_NEWNS before `unshare(CLONE_FS)` · EPERM: no CAP_SYS_ADMIN over it · EBADF
 * @see setns(2)
 */
export function setns(fd: number, type: Flags<'CLONE'> = 0): void {
  checkFd(fd, 'fd')
  const bits = flagBits(type, 'type')
  check(binding.setns(fd, signed(bits)), () => ({
    syscall: 'setns',
    args: [fdNotation(fd), flagNames(bits, 'CLONE')],
  }))
}

/**
 * `unshare(flags)`: gives the calling thread namespaces of its own, copies of those it has. Linux 2.6.16.
 *
 * After CLONE_NEWNS, mounts still propagate from and to the old namespace where they are shared:
 * `mount(null, '/', null, [MS_REC, MS_PRIVATE])` ends that. It implies CLONE_FS: chdir and umask of this
 * thread then no longer reach the others, and nothing undoes it.
 *
 * @param flags CLONE_NEW*, CLONE_FS, CLONE_FILES
 * @throws SyscallError EINVAL: CLONE_NEWUSER in a process with threads, which every one of Node is · EPERM ·
 *   ENOSPC: too many namespaces
 * @see unshare(2)
 */
export function unshare(flags: Flags<'CLONE'>): void {
  const bits = flagBits(flags, 'flags')
  check(binding.unshare(signed(bits)), () => ({ syscall: 'unshare', args: [flagNames(bits, 'CLONE')] }))
}

/** The kernel's type is int, and all of its 32 bits may be meant. */
function signed(bits: number): number {
  return bits | 0
}
