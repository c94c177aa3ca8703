/**
 * What overlay takes: tried on a scratch context, which is closed again. It takes the right to mount; without it, it is
 * inferred from calls that are younger, and the reasons say so.
 */
import { closeSync, constants, openSync, readFileSync } from 'node:fs'
import { binding } from '../binding.js'
import { errnoName } from '../errno.js'
import { reading } from '../exhausted.js'
import * as f from '../flags.js'
import { probeOptions } from './overlay-options.js'
import { everyFlag, isThere, openContext, path, reasonOf } from './probing.js'

/** What a scratch context tells. */
export interface ContextFeatures {
  readonly fsContext: boolean
  readonly appendLayers: boolean
  readonly layersByFd: 'path' | 'directory' | false
  readonly overlayOptions: readonly string[] | false
  readonly overlay: boolean
  readonly mayMount: boolean
}

/** Tries overlay's context; `fsconfig` and `openTreeAttr`: what was found of these calls. */
export function probeContext(
  fsconfig: boolean,
  openTreeAttr: boolean,
  reasons: Record<string, string>,
): ContextFeatures {
  const missing = { fsContext: false, appendLayers: false, layersByFd: false, overlayOptions: false } as const
  const fsFd = openContext('overlay')
  if (fsFd < 0) {
    const error = errnoName(-fsFd)
    if (error === 'EPERM' && !mayMountAtAll()) {
      reasons['overlayOptions'] = 'not tried: the process may not mount'
      reasons['mayMount'] = hasSysAdmin() ? foreignNamespace : noSysAdmin
      if (!openTreeAttr || !fsconfig) {
        reasons['appendLayers'] = reasons['layersByFd'] = 'not tried: the process may not mount'
        return { ...missing, fsContext: fsconfig, overlay: true, mayMount: false }
      }
      reasons['appendLayers'] = reasons['layersByFd'] = 'inferred from open_tree_attr, which is younger'
      const inferred = { fsContext: true, appendLayers: true, layersByFd: 'path' } as const
      return { ...inferred, overlayOptions: false, overlay: true, mayMount: false }
    }
    const why = reasonOf(fsFd, 'fsopen')
    reasons['fsContext'] ??= why
    reasons['overlayOptions'] = reasons['appendLayers'] = reasons['layersByFd'] = `not tried: ${why}`
    if (error === 'ENODEV') reasons['overlay'] = 'ENODEV: the kernel has no overlay file system'
    return { ...missing, overlay: error !== 'ENODEV', mayMount: true }
  }
  try {
    if (!fsconfig) {
      const why = `not tried: ${reasons['fsContext']}`
      reasons['overlayOptions'] = reasons['appendLayers'] = reasons['layersByFd'] = why
      return { ...missing, overlay: true, mayMount: true }
    }
    const complete = probeFsmount(fsFd, reasons)
    const layers = probeLayers(fsFd, reasons)
    const setOption = (key: string, word: string | undefined): number =>
      word === undefined
        ? binding.fsconfig(fsFd, f.FSCONFIG_SET_FLAG, path(key), null, 0)
        : binding.fsconfig(fsFd, f.FSCONFIG_SET_STRING, path(key), path(word), 0)
    const overlayOptions = probeOptions(setOption, reasons)
    return { ...layers, overlayOptions, fsContext: complete, overlay: true, mayMount: true }
  } finally {
    binding.close(fsFd)
  }
}

const noSysAdmin = 'EPERM: no CAP_SYS_ADMIN in the user namespace of this mount namespace'
const foreignNamespace =
  'EPERM: CAP_SYS_ADMIN is there, but not in the user namespace that this mount namespace belongs to (unshare it too), or a filter (seccomp) or a security module refuses to mount'

/** CAP_SYS_ADMIN in the process's own user namespace, which need not be that of its mount namespace. */
function hasSysAdmin(): boolean {
  try {
    const effective = /^CapEff:\t([0-9a-f]+)$/m.exec(readFileSync('/proc/thread-self/status', 'latin1'))?.[1]
    return effective !== undefined && (BigInt(`0x${effective}`) & (1n << 21n)) !== 0n
  } catch {
    // without /proc it stays the likelier one
    return false
  }
}

/** fsmount and move_mount check the right to mount before their arguments, which is there by now. */
function probeFsmount(fsFd: number, reasons: Record<string, string>): boolean {
  const calls = {
    fsmount: binding.fsmount(fsFd, everyFlag, 0),
    move_mount: binding.moveMount(-1, path(''), -1, path(''), everyFlag),
  }
  const refused = Object.entries(calls).find(([, result]) => !isThere(result))
  if (refused) reasons['fsContext'] = reasonOf(refused[1], refused[0])
  return refused === undefined
}

/**
 * Before 6.5 overlay's context takes any string and fails at CREATE; that it takes no fd at all
 * (EOPNOTSUPP) gives it away. An O_PATH fd is EBADF before 6.15 (6.13.11, 6.14.2).
 */
function probeLayers(
  fsFd: number,
  reasons: Record<string, string>,
): Pick<ContextFeatures, 'appendLayers' | 'layersByFd'> {
  const key = path('lowerdir+')
  const setFd = (flags: number): number => {
    const root = reading('/', () => openSync('/', constants.O_DIRECTORY | flags))
    try {
      return binding.fsconfig(fsFd, f.FSCONFIG_SET_FD, key, null, root)
    } finally {
      closeSync(root)
    }
  }
  const byPath = setFd(f.O_PATH)
  if (byPath === 0) return { appendLayers: true, layersByFd: 'path' }
  if (errnoName(-byPath) === 'EOPNOTSUPP') {
    reasons['appendLayers'] = reasons['layersByFd'] = 'EOPNOTSUPP: overlay has no fs context of its own'
    return { appendLayers: false, layersByFd: false }
  }
  if (setFd(constants.O_RDONLY) === 0) {
    reasons['layersByFd'] = `${errnoName(-byPath)} for an O_PATH fd`
    return { appendLayers: true, layersByFd: 'directory' }
  }
  reasons['layersByFd'] = 'EINVAL: lowerdir+ takes no fd'
  const appended = binding.fsconfig(fsFd, f.FSCONFIG_SET_STRING, key, path('/'), 0)
  if (appended < 0) reasons['appendLayers'] = `${errnoName(-appended)}: overlay does not know lowerdir+`
  return { appendLayers: appended === 0, layersByFd: false }
}

/**
 * True if the right to mount is there, whatever a filter says of fsopen: an unmount of what is no mount is EPERM
 * without it, and EINVAL with it.
 */
function mayMountAtAll(): boolean {
  return errnoName(-binding.umount(path('/proc/self/status'), f.UMOUNT_NOFOLLOW)) !== 'EPERM'
}
