/** Whether the process is in the initial user namespace, where overlay may use trusted.overlay.* attributes. */
import { binding } from '../binding.js'
import { errnoName } from '../errno.js'
import * as f from '../flags.js'
import type { ContextFeatures } from './overlay-context.js'
import { openContext, path } from './probing.js'

/** Inode of the initial user namespace: `USER_NS_INIT_INO` of linux/nsfs.h, the same since Linux 3.8. */
const initialInode = 0xefff_fffdn

/**
 * By the namespace's inode. Where /proc is missing, by overlay itself: it refuses `redirect_dir=on` (EPERM) before
 * it misses the layers (EINVAL), and that leaves a line in the kernel log.
 */
export function probeUserNamespace(
  { fsContext, mayMount }: ContextFeatures,
  reasons: Record<string, string>,
): boolean {
  const buffer = Buffer.alloc(256)
  if (binding.statx(f.AT_FDCWD, path('/proc/self/ns/user'), 0, f.STATX_INO, buffer) >= 0) {
    const inode = buffer.readBigUInt64LE(32)
    if (inode !== initialInode) reasons['initialUserNamespace'] = `user:[${inode}] is not the initial one`
    return inode === initialInode
  }
  const fsFd = fsContext && mayMount ? openContext('overlay') : -1
  if (fsFd < 0) {
    reasons['initialUserNamespace'] = 'taken to be so: /proc is not mounted'
    return true
  }
  try {
    binding.fsconfig(fsFd, f.FSCONFIG_SET_STRING, path('redirect_dir'), path('on'), 0)
    const created = binding.fsconfig(fsFd, f.FSCONFIG_CMD_CREATE, null, null, 0)
    if (errnoName(-created) !== 'EPERM') return true
    reasons['initialUserNamespace'] = 'EPERM: overlay may not use trusted.overlay.* attributes'
    return false
  } finally {
    binding.close(fsFd)
  }
}
