/**
 * Whether overlay takes layers of detached mounts (Linux 6.15, db04662e2f4f).
 *
 * open_tree_attr came with the same release, so where that is there nothing is tried. Where it is not, the kernel may be
 * older, or a filter may not know the call yet: then overlay is made of two empty tmpfs that are attached nowhere, and
 * thrown away. Older kernels answer EINVAL and write a line into dmesg, so those are not asked whose overlay takes no
 * O_PATH fds either, which came before it.
 */
import { binding } from '../binding.js'
import { errnoName } from '../errno.js'
import { mustHaveRoom } from '../exhausted.js'
import * as f from '../flags.js'
import type { ContextFeatures } from './overlay-context.js'
import { createContext, openContext, path } from './probing.js'

/** `reason`: why they are missing, or how that they are there was found. */
export function probeDetachedLayers(
  openTreeAttr: boolean,
  { mayMount, layersByFd }: Pick<ContextFeatures, 'mayMount' | 'layersByFd'>,
): { there: boolean; reason?: string } {
  if (openTreeAttr) return { there: true }
  if (!mayMount) return { there: false, reason: 'not tried: the process may not mount' }
  if (layersByFd !== 'path') {
    return {
      there: false,
      reason: 'overlay takes no O_PATH fds, which came before layers of detached mounts',
    }
  }
  const answer = tryLayers()
  if (answer === 0) return { there: true, reason: 'tried, since there is no open_tree_attr to tell it by' }
  return { there: false, reason: `${errnoName(-answer)}: tried with two detached mounts` }
}

function tryLayers(): number {
  const open: number[] = []
  try {
    const layers = [detachedTmpfs(open), detachedTmpfs(open)]
    const failed = layers.find((fd) => fd < 0)
    if (failed !== undefined) return failed
    const fs = keep(open, openContext('overlay'))
    if (fs < 0) return fs
    for (const fd of layers) {
      const set = binding.fsconfig(fs, f.FSCONFIG_SET_FD, path('lowerdir+'), null, fd)
      if (set < 0) return set
    }
    return createContext(fs)
  } finally {
    for (const fd of open.reverse()) binding.close(fd)
  }
}

/** The fd of a mount, or -errno. */
function detachedTmpfs(open: number[]): number {
  const fs = keep(open, openContext('tmpfs'))
  if (fs < 0) return fs
  const created = createContext(fs)
  if (created < 0) return created
  const mountFd = keep(open, binding.fsmount(fs, f.FSMOUNT_CLOEXEC, 0))
  mustHaveRoom(mountFd, 'fsmount', 'fsmount(fs, FSMOUNT_CLOEXEC, 0)')
  return mountFd
}

function keep(open: number[], fd: number): number {
  if (fd >= 0) open.push(fd)
  return fd
}
