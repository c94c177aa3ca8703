/**
 * What this kernel, with this process's rights and filters, can do: found by trying, never by version.
 *
 * A call with arguments that no kernel accepts tells three cases apart without any right: EINVAL is the
 * call itself, ENOSYS its absence, EPERM a filter (seccomp) in front of it. What overlay contexts accept
 * is tried on a scratch context, which takes the right to mount; without it, it is inferred from calls
 * that are younger, and `reasons` says so. Nothing is mounted, and nothing is visible to others.
 */
import { closeSync, constants, openSync, readFileSync } from 'node:fs'
import { binding } from '../binding.js'
import { errnoName } from '../errno.js'
import { invalidArgType, unknownOption } from '../errors.js'
import * as f from '../flags.js'
import { probeImages } from './erofs.js'
import { probeOptions } from './overlay-options.js'

/** What can be used here; `reasons` holds how each was found, or why it is missing. */
export interface Features {
  /** fsopen, fsconfig, fsmount and move_mount (Linux 5.2), and an overlay file system behind them */
  readonly fsContext: boolean
  /** open_tree (5.2) */
  readonly openTree: boolean
  /** mount_setattr (5.12) */
  readonly mountSetattr: boolean
  /** open_tree_attr (6.15); with it came layers in detached mounts, which cannot be tried without mounting */
  readonly openTreeAttr: boolean
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
  /** the overlay file system is there */
  readonly overlay: boolean
  /** the process may mount in its mount namespace */
  readonly mayMount: boolean
  /** it is in the initial user namespace: overlay keeps its marks in trusted.*, which is refused in any other */
  readonly initialUserNamespace: boolean
  /** by feature: why it is missing, or how it was inferred; nothing for what simply is there */
  readonly reasons: Readonly<Record<string, string>>
}

const path = (text: string) => Buffer.from(`${text}\0`)
const everyFlag = 0xffff_ffff
const O_PATH = 0x20_0000

let cached: Features | undefined

/**
 * Probes the kernel, once per process: each call with arguments that no kernel accepts, and a scratch context of
 * overlay that is closed again. Needs no right; on the calling thread, in microseconds.
 *
 * @param options `refresh: true` probes again, for a process whose rights or filters have changed
 * @throws TypeError for wrong options
 */
export function features(options?: { refresh?: boolean }): Features {
  if (options === undefined && cached !== undefined) return cached
  return look(options === undefined ? {} : options)
}

function look(options: { refresh?: boolean }): Features {
  const { refresh } = checkObject(options, 'options', ['refresh'])
  if (refresh !== undefined && typeof refresh !== 'boolean') {
    throw invalidArgType('options.refresh', 'boolean', refresh)
  }
  if (cached === undefined || refresh === true) cached = probe()
  return cached
}

const names = [
  'fsContext',
  'openTree',
  'mountSetattr',
  'openTreeAttr',
  'appendLayers',
  'layersByFd',
  'openat2',
  'uniqueMountId',
  'overlayOptions',
  'erofsImages',
  'mountNamespaces',
  'overlay',
  'mayMount',
  'initialUserNamespace',
  'reasons',
] as const satisfies readonly (keyof Features)[]

/** Checks features that were not probed here: those of another kernel, for which something is to be planned. */
export function checkFeatures(features: unknown, name: string): Features {
  const found = checkObject(features, name, names)
  for (const key of names) {
    const value = found[key]
    const path = `${name}.${key}`
    if (key === 'reasons') {
      if (typeof value !== 'object' || value === null) throw invalidArgType(path, 'an object', value)
    } else if (key === 'layersByFd') {
      if (value !== 'path' && value !== 'directory' && value !== false) {
        throw invalidArgType(path, "one of 'path', 'directory', false", value)
      }
    } else if (key === 'overlayOptions') {
      const isList = Array.isArray(value) && value.every((each) => typeof each === 'string')
      if (value !== false && !isList) throw invalidArgType(path, 'an array of strings or false', value)
    } else if (typeof value !== 'boolean') throw invalidArgType(path, 'boolean', value)
  }
  return features as Features
}

function checkObject(value: unknown, name: string, known: readonly string[]): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalidArgType(name, 'an object', value)
  }
  for (const key of Object.keys(value)) {
    if (!known.includes(key)) throw unknownOption(`${name}.${key}`, known)
  }
  return value as Record<string, unknown>
}

function probe(): Features {
  const reasons: Record<string, string> = {}
  const call = (name: string, result: number): boolean => {
    const there = result >= 0 || !['ENOSYS', 'EPERM'].includes(errnoName(-result))
    if (!there) reasons[name] = reasonOf(result)
    return there
  }
  const none = path('')
  const openTree = call('openTree', binding.openTree(-1, none, everyFlag))
  const openTreeAttr = call('openTreeAttr', binding.openTreeAttr(-1, none, everyFlag, 0n, 0n, 0n, 0n))
  const mountSetattr = call('mountSetattr', binding.mountSetattr(-1, none, everyFlag, 0n, 0n, 0n, 0n))
  const fsconfig = call('fsContext', binding.fsconfig(-1, 0xff, null, null, 0))
  const openat2 = probeOpenat2(reasons)
  const context = probeContext(fsconfig, openTreeAttr, reasons)
  let erofsImages: boolean | undefined
  return {
    openTree,
    openTreeAttr,
    mountSetattr,
    openat2,
    uniqueMountId: probeMountId(reasons),
    mountNamespaces: [binding.unshare(-1), binding.setns(-1, 0)].every((result) =>
      call('mountNamespaces', result),
    ),
    ...context,
    initialUserNamespace: probeUserNamespace(context, reasons),
    get erofsImages() {
      if (erofsImages === undefined) {
        const { there, reason } = probeImages(context.mayMount, openTreeAttr)
        erofsImages = there
        if (reason !== undefined) reasons['erofsImages'] = reason
      }
      return erofsImages
    },
    reasons,
  }
}

/** The same features but for a few; what is tried when it is read still is. */
export function withChanges(features: Features, changes: Partial<Features>): Features {
  const properties = {
    ...Object.getOwnPropertyDescriptors(features),
    ...Object.getOwnPropertyDescriptors(changes),
  }
  return Object.defineProperties({} as Features, properties)
}

function reasonOf(result: number): string {
  const name = errnoName(-result)
  if (name === 'ENOSYS') return 'ENOSYS: this kernel does not have it'
  if (name === 'EPERM') return 'EPERM: a filter (seccomp) refuses it'
  return name
}

function probeOpenat2(reasons: Record<string, string>): boolean {
  const fd = binding.openat2(f.AT_FDCWD, path('/'), BigInt(O_PATH | f.O_CLOEXEC), 0n, 0n)
  if (fd >= 0) binding.close(fd)
  else reasons['openat2'] = reasonOf(fd)
  return fd >= 0
}

function probeMountId(reasons: Record<string, string>): boolean {
  const buffer = Buffer.alloc(256)
  binding.statx(f.AT_FDCWD, path('/'), 0, f.STATX_MNT_ID_UNIQUE, buffer)
  const there = (buffer.readUInt32LE(0) & f.STATX_MNT_ID_UNIQUE) !== 0
  if (!there) reasons['uniqueMountId'] = 'statx does not fill STATX_MNT_ID_UNIQUE'
  return there
}

/** Inode of the initial user namespace: `USER_NS_INIT_INO` of linux/nsfs.h, the same since Linux 3.8. */
const initialInode = 0xefff_fffdn

/**
 * By the namespace's inode. Where /proc is missing, by overlay itself: it refuses `redirect_dir=on` (EPERM) before
 * it misses the layers (EINVAL), and that leaves a line in the kernel log.
 */
function probeUserNamespace(
  { fsContext, mayMount }: ContextFeatures,
  reasons: Record<string, string>,
): boolean {
  const buffer = Buffer.alloc(256)
  if (binding.statx(f.AT_FDCWD, path('/proc/self/ns/user'), 0, f.STATX_INO, buffer) >= 0) {
    const inode = buffer.readBigUInt64LE(32)
    if (inode !== initialInode) reasons['initialUserNamespace'] = `user:[${inode}] is not the initial one`
    return inode === initialInode
  }
  const fsFd = fsContext && mayMount ? binding.fsopen(path('overlay'), f.FSOPEN_CLOEXEC) : -1
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

type ContextFeatures = Pick<
  Features,
  'fsContext' | 'appendLayers' | 'layersByFd' | 'overlayOptions' | 'overlay' | 'mayMount'
>

function probeContext(
  fsconfig: boolean,
  openTreeAttr: boolean,
  reasons: Record<string, string>,
): ContextFeatures {
  const missing = { fsContext: false, appendLayers: false, layersByFd: false, overlayOptions: false } as const
  const fsFd = binding.fsopen(path('overlay'), f.FSOPEN_CLOEXEC)
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
    reasons['fsContext'] ??= reasonOf(fsFd)
    reasons['overlayOptions'] = `not tried: fsopen is ${reasonOf(fsFd)}`
    if (error === 'ENODEV') reasons['overlay'] = 'ENODEV: the kernel has no overlay file system'
    return { ...missing, overlay: error !== 'ENODEV', mayMount: true }
  }
  try {
    const complete = probeFsmount(fsFd, reasons)
    const layers = probeLayers(fsFd, reasons)
    const setOption = (key: string, word: string | undefined): number =>
      word === undefined
        ? binding.fsconfig(fsFd, f.FSCONFIG_SET_FLAG, path(key), null, 0)
        : binding.fsconfig(fsFd, f.FSCONFIG_SET_STRING, path(key), path(word), 0)
    const overlayOptions = probeOptions(setOption, reasons)
    return { ...layers, overlayOptions, fsContext: fsconfig && complete, overlay: true, mayMount: true }
  } finally {
    binding.close(fsFd)
  }
}

const noSysAdmin = 'EPERM: no CAP_SYS_ADMIN in the user namespace of this mount namespace'
const foreignNamespace =
  'EPERM: CAP_SYS_ADMIN is there, but not in the user namespace that this mount namespace belongs to (unshare it too), or a security module refuses to mount'

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
  for (const result of [
    binding.fsmount(fsFd, everyFlag, 0),
    binding.moveMount(-1, path(''), -1, path(''), everyFlag),
  ]) {
    if (['ENOSYS', 'EPERM'].includes(errnoName(-result))) {
      reasons['fsContext'] = reasonOf(result)
      return false
    }
  }
  return true
}

/**
 * Before 6.5 overlay's context takes any string and fails at CREATE; that it takes no fd at all
 * (EOPNOTSUPP) gives it away. An O_PATH fd is EBADF before 6.15 (6.13.11, 6.14.2).
 */
function probeLayers(
  fsFd: number,
  reasons: Record<string, string>,
): Pick<Features, 'appendLayers' | 'layersByFd'> {
  const key = path('lowerdir+')
  const setFd = (flags: number): number => {
    const root = openSync('/', constants.O_DIRECTORY | flags)
    try {
      return binding.fsconfig(fsFd, f.FSCONFIG_SET_FD, key, null, root)
    } finally {
      closeSync(root)
    }
  }
  const byPath = setFd(O_PATH)
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
