/**
 * What this kernel, with this process's rights and filters, can do: found by trying, never by version.
 *
 * A call with arguments that no kernel accepts tells three cases apart without any right: EINVAL is the
 * call itself, ENOSYS its absence, EPERM a filter (seccomp) in front of it. What overlay contexts accept
 * is tried on a scratch context, which takes the right to mount; without it, it is inferred from calls
 * that are younger, and `reasons` says so. Nothing is mounted, and nothing is visible to others.
 */
import { binding } from '../binding.js'
import { checkKeys } from '../check.js'
import { invalidArgType } from '../errors.js'
import { mustHaveRoom } from '../exhausted.js'
import * as f from '../flags.js'
import { probeDetachedLayers } from './detached-layers.js'
import { probeImages } from './erofs.js'
import { probeContext } from './overlay-context.js'
import { everyFlag, isThere, path, reasonOf } from './probing.js'
import { probeUserNamespace } from './user-namespace.js'

/** What can be used here; `reasons` holds how each was found, or why it is missing. */
export interface Features {
  /** fsopen, fsconfig, fsmount and move_mount (Linux 5.2), and an overlay file system behind them */
  readonly fsContext: boolean
  /** open_tree (5.2) */
  readonly openTree: boolean
  /** mount_setattr (5.12) */
  readonly mountSetattr: boolean
  /** open_tree_attr (6.15): a clone with its attributes; without it open_tree and mount_setattr do the same */
  readonly openTreeAttr: boolean
  /**
   * overlay takes layers in detached mounts (6.15): inferred from open_tree_attr, and without it tried when it is first
   * read, with mounts that are attached nowhere
   */
  readonly detachedLayers: boolean
  /** overlay takes layers one by one, `lowerdir+` (6.7) */
  readonly appendLayers: boolean
  /** overlay takes layers as fds (6.13): O_PATH ones (6.15), or only fds that are open for reading */
  readonly layersByFd: 'path' | 'directory' | false
  /** openat2 (5.6) */
  readonly openat2: boolean
  /** mount ids that are never reused (6.8) */
  readonly uniqueMountId: boolean
  /**
   * options that overlay knows, as `key` or `key=word`, and those of SELinux if it is enabled; false where that cannot
   * be tried: before Linux 6.5, and without the right to mount
   */
  readonly overlayOptions: readonly string[] | false
  /**
   * erofs mounts an image that is a file (6.12, CONFIG_EROFS_FS_BACKED_BY_FILE); tried when it is first read, because
   * asking for erofs may load a module
   */
  readonly erofsImages: boolean
  /** threads may have mount namespaces of their own: unshare and setns, which filters of containers like to refuse */
  readonly mountNamespaces: boolean
  /**
   * threads may have working directories of their own: unshare and fchdir; else what is unmounted, and layers that are
   * known by name, are reached by way of /proc/self/fd
   */
  readonly ownDirectory: boolean
  /** the overlay file system is there */
  readonly overlay: boolean
  /** the process may mount in its mount namespace */
  readonly mayMount: boolean
  /** it is in the initial user namespace: overlay keeps its marks in trusted.*, which is refused in any other */
  readonly initialUserNamespace: boolean
  /** by feature: why it is missing, or how it was inferred; nothing for what simply is there */
  readonly reasons: Readonly<Record<string, string>>
}

let cached: Features | undefined

/**
 * Probes the kernel, once per process: each call with arguments that no kernel accepts, and a scratch context of
 * overlay that is closed again. Needs no right; on the calling thread, in microseconds.
 *
 * @param options `refresh: true` probes again, for a process whose rights or filters have changed
 * @throws TypeError for wrong options · SyscallError EMFILE, ENFILE, ENOMEM: there was no room to try it. Nothing is kept
 *   of that, and the next call tries again
 */
export function features(options?: { refresh?: boolean }): Features {
  if (options === undefined && cached !== undefined) return cached
  return look(options === undefined ? {} : options)
}

function look(options: { refresh?: boolean }): Features {
  const { refresh } = checkKeys(options, 'options', ['refresh'])
  if (refresh !== undefined && typeof refresh !== 'boolean') {
    throw invalidArgType('options.refresh', 'boolean', refresh)
  }
  if (cached === undefined || refresh === true) cached = probe()
  return cached
}

function probe(): Features {
  const reasons: Record<string, string> = {}
  const call = (feature: string, name: string, result: number): boolean => {
    if (isThere(result)) return true
    reasons[feature] = reasonOf(result, name)
    return false
  }
  const none = path('')
  const openTree = call('openTree', 'open_tree', binding.openTree(-1, none, everyFlag))
  const openTreeAttr = call(
    'openTreeAttr',
    'open_tree_attr',
    binding.openTreeAttr(-1, none, everyFlag, 0n, 0n, 0n, 0n),
  )
  const mountSetattr = call(
    'mountSetattr',
    'mount_setattr',
    binding.mountSetattr(-1, none, everyFlag, 0n, 0n, 0n, 0n),
  )
  const fsconfig = call('fsContext', 'fsconfig', binding.fsconfig(-1, 0xff, null, null, 0))
  const unshare = binding.unshare(-1)
  const openat2 = probeOpenat2(reasons)
  const context = probeContext(fsconfig, openTreeAttr, reasons)
  let detachedLayers: boolean | undefined
  let erofsImages: boolean | undefined
  return printable({
    openTree,
    openTreeAttr,
    mountSetattr,
    openat2,
    uniqueMountId: probeMountId(reasons),
    mountNamespaces:
      call('mountNamespaces', 'unshare', unshare) && call('mountNamespaces', 'setns', binding.setns(-1, 0)),
    ownDirectory:
      call('ownDirectory', 'unshare', unshare) && call('ownDirectory', 'fchdir', binding.fchdir(-1)),
    ...context,
    initialUserNamespace: probeUserNamespace(context, reasons),
    get detachedLayers() {
      if (detachedLayers === undefined) {
        const { there, reason } = probeDetachedLayers(openTreeAttr, context)
        detachedLayers = there
        if (reason !== undefined) reasons['detachedLayers'] = reason
      }
      return detachedLayers
    },
    get erofsImages() {
      if (erofsImages === undefined) {
        const { there, reason } = probeImages(context.mayMount, openTreeAttr)
        erofsImages = there
        if (reason !== undefined) reasons['erofsImages'] = reason
      }
      return erofsImages
    },
    reasons,
  })
}

/** console.log would print `[Getter]` for what is tried when it is read. */
function printable(features: Features): Features {
  const value = function (this: Features): object {
    return { ...this }
  }
  return Object.defineProperty(features, Symbol.for('nodejs.util.inspect.custom'), { value })
}

/** The same features but for a few; what is tried when it is read still is. */
export function withChanges(features: Features, changes: Partial<Features>): Features {
  const properties = {
    ...Object.getOwnPropertyDescriptors(features),
    ...Object.getOwnPropertyDescriptors(changes),
  }
  return Object.defineProperties({} as Features, properties)
}

function probeOpenat2(reasons: Record<string, string>): boolean {
  const fd = binding.openat2(f.AT_FDCWD, path('/'), BigInt(f.O_PATH | f.O_CLOEXEC), 0n, 0n)
  mustHaveRoom(fd, 'openat2', 'openat2(AT_FDCWD, "/", {flags=O_PATH|O_CLOEXEC}, 24)')
  if (fd >= 0) binding.close(fd)
  else reasons['openat2'] = reasonOf(fd, 'openat2')
  return fd >= 0
}

function probeMountId(reasons: Record<string, string>): boolean {
  const buffer = Buffer.alloc(256)
  const result = binding.statx(f.AT_FDCWD, path('/'), 0, f.STATX_MNT_ID_UNIQUE, buffer)
  const there = (buffer.readUInt32LE(0) & f.STATX_MNT_ID_UNIQUE) !== 0
  if (!isThere(result)) reasons['uniqueMountId'] = reasonOf(result, 'statx')
  else if (!there) reasons['uniqueMountId'] = 'statx does not fill STATX_MNT_ID_UNIQUE'
  return there
}

const names = [
  'fsContext',
  'openTree',
  'mountSetattr',
  'openTreeAttr',
  'detachedLayers',
  'appendLayers',
  'layersByFd',
  'openat2',
  'uniqueMountId',
  'overlayOptions',
  'erofsImages',
  'mountNamespaces',
  'ownDirectory',
  'overlay',
  'mayMount',
  'initialUserNamespace',
  'reasons',
] as const satisfies readonly (keyof Features)[]

/** Checks features that were not probed here: those of another kernel, for which something is to be planned. */
export function checkFeatures(features: unknown, name: string): Features {
  const found = checkKeys(features, name, names)
  for (const key of names) {
    const value = found[key]
    const path = `${name}.${key}`
    if (key === 'reasons') {
      for (const [about, reason] of Object.entries(checkKeys(value, path, names))) {
        if (typeof reason !== 'string') throw invalidArgType(`${path}.${about}`, 'string', reason)
      }
    } else if (key === 'layersByFd') {
      if (value !== 'path' && value !== 'directory' && value !== false) {
        throw invalidArgType(path, "one of 'path', 'directory', false", value)
      }
    } else if (key === 'overlayOptions') {
      if (value === false) continue
      if (!Array.isArray(value)) throw invalidArgType(path, 'an array of strings or false', value)
      for (const [i, each] of value.entries()) {
        if (typeof each !== 'string') throw invalidArgType(`${path}[${i}]`, 'string', each)
      }
    } else if (typeof value !== 'boolean') throw invalidArgType(path, 'boolean', value)
  }
  return found as unknown as Features
}
