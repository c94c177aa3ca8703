/**
 * Whether erofs mounts an image that is a file: tried with a file that is none.
 *
 * CREATE with such a file is EINVAL where images may be files, and ENOTBLK where erofs takes devices only (seen on
 * Linux 6.18: erofs asks for a regular file that is read through the page cache, which sysfs has and procfs, tmpfs
 * and overlay have not). Nothing is mounted; the kernel writes a line into dmesg, and may load a module.
 */
import { binding } from '../binding.js'
import { errnoName } from '../errno.js'
import * as f from '../flags.js'
import { createContext, openContext, path } from './probing.js'

/** Files that are no erofs images, on any machine; the second for where /sys is not mounted. */
const noImages = ['/sys/kernel/uevent_seqnum', '/proc/self/exe']

const reasons: Readonly<Record<string, string>> = {
  ENODEV: 'ENODEV: the kernel has no erofs',
  ENOTBLK: 'ENOTBLK: erofs mounts devices only, no files',
  ENOSYS: 'ENOSYS: this kernel does not have fsopen',
  EPERM:
    'EPERM: erofs takes CAP_SYS_ADMIN of the machine, not of a user namespace, or a filter (seccomp) refuses it',
}

/** `reason`: why it is missing, or how it was inferred. */
export function probeImages(mayMount: boolean, openTreeAttr: boolean): { there: boolean; reason?: string } {
  if (!mayMount) {
    return openTreeAttr
      ? { there: true, reason: 'inferred from open_tree_attr, which is younger' }
      : { there: false, reason: 'not tried: the process may not mount' }
  }
  let answer = 'ENOENT'
  for (const file of noImages) {
    if (answer === 'ENOENT') answer = errnoName(-tryFile(file))
  }
  return answer === 'EINVAL' ? { there: true } : { there: false, reason: reasons[answer] ?? answer }
}

function tryFile(file: string): number {
  const fsFd = openContext('erofs')
  if (fsFd < 0) return fsFd
  try {
    binding.fsconfig(fsFd, f.FSCONFIG_SET_STRING, path('source'), path(file), 0)
    return createContext(fsFd)
  } finally {
    binding.close(fsFd)
  }
}
