/** The handle of a root filesystem, and how it passes from one process to another. */
import { invalidArgType } from '../errors.js'
import { Mount, type MountOpener } from '../mount/mount.js'
import type { Flow } from '../program/flow.js'
import { checkCall } from './call-options.js'
import { findWritten, takeFd } from './handover.js'
import { readMount } from './handover-json.js'
import type { Host } from './host.js'

/** What opens rootfs: a Mounter. An interface, because the arrow points the other way. */
export interface RootfsOpener extends MountOpener {
  openRootfs(json: unknown, call?: { signal?: AbortSignal }): Promise<Rootfs>
  openRootfsSync(json: unknown): Rootfs
  takeRootfs(fd: number, call?: { signal?: AbortSignal }): Promise<Rootfs>
  takeRootfsSync(fd: number): Rootfs
}

let defaultOpener: (() => RootfsOpener) | undefined

/** mounter.ts says here what opens a rootfs where no mounter is given. */
export function setDefaultRootfsOpener(opener: () => RootfsOpener): void {
  defaultOpener = opener
}

/**
 * A mounted root filesystem. Made by `mountOverlay` and `LayerStack.mount`.
 *
 * It does not keep the process alive, and an attached mount outlives handle and process. A detached
 * mount lives as long as its fd: dropping the handle takes it down, with a warning.
 */
export class Rootfs extends Mount {
  /**
   * The handle of an attached rootfs from what `JSON.stringify(rootfs)` wrote: in another process, or after a restart
   * of the first. `openat2`, `statx` and `fstatfs` of its target, and if that is not it, `statmount`.
   *
   * Several processes may open the same one; the first unmount wins. What was left with `release()` can be opened too.
   * Its upper and work directory count as in use by this process from then on, as if it had mounted it.
   *
   * Whoever writes the JSON says which mount is meant, so it belongs into a file that nobody else can write.
   *
   * @param json the text, or the object
   * @param call whose threads; a signal aborts the looking
   * @throws HandoverError by its code: ERR_OVERLAYFD_OTHER_BOOT · ERR_OVERLAYFD_OTHER_NAMESPACE ·
   *   ERR_OVERLAYFD_PATH_REUSED · ERR_OVERLAYFD_MOUNT_COVERED · ERR_OVERLAYFD_MOUNT_MOVED ·
   *   ERR_OVERLAYFD_MOUNT_GONE · MountError EACCES: the target may not be looked at · TypeError naming the field
   * @see statx(2), statmount(2) (Linux 6.8; before it /proc/thread-self/mountinfo is read)
   */
  static override async open(
    json: object | string,
    call: { mounter?: RootfsOpener; signal?: AbortSignal } = {},
  ): Promise<Rootfs> {
    const { mounter = defaultOpener!(), signal } = checkCall(call, ['mounter', 'signal'])
    return mounter.openRootfs(json, { signal })
  }

  /** As `open`; blocks. */
  static override openSync(json: object | string, call: { mounter?: RootfsOpener } = {}): Rootfs {
    const { mounter = defaultOpener!() } = checkCall(call, ['mounter'])
    return mounter.openRootfsSync(json)
  }

  /**
   * The handle of a detached rootfs from its fd, as `release()` answered it: in a child process that inherited it, in
   * one that it was sent to, or in a worker thread. `statx`, `fstatfs`, and `fcntl(F_DUPFD_CLOEXEC)`.
   *
   * The handle takes the fd over: the number that was given is closed, and `rootfs.fd` is another one, close-on-exec.
   * If it is refused, the fd stays the caller's. Other copies of the fd, in the process that released it for
   * instance, keep the mount too: it is gone when the last of them is closed, or when it is attached and unmounted.
   *
   * @param fd of a detached overlay, or of a detached read-only clone of a layer
   * @throws TypeError: the fd is none of these, or its mount is attached · MountError EBADF
   * @see statx(2) (STATX_ATTR_MOUNT_ROOT: Linux 5.8), fcntl(2)
   */
  static async fromFd(
    fd: number,
    call: { mounter?: RootfsOpener; signal?: AbortSignal } = {},
  ): Promise<Rootfs> {
    const { mounter = defaultOpener!(), signal } = checkCall(call, ['mounter', 'signal'])
    return mounter.takeRootfs(fd, { signal })
  }

  /** As `fromFd`; blocks. */
  static fromFdSync(fd: number, call: { mounter?: RootfsOpener } = {}): Rootfs {
    const { mounter = defaultOpener!() } = checkCall(call, ['mounter'])
    return mounter.takeRootfsSync(fd)
  }

  /** @internal Checks the JSON at once, and does nothing else before it is driven. */
  static override openFlow(host: Host, json: unknown): Flow<Rootfs> {
    const written = readMount(json, ['overlay', 'clone'])
    return made(host, findWritten(host, written))
  }

  /** @internal The same for an fd. */
  static takeFlow(host: Host, fd: number): Flow<Rootfs> {
    if (!Number.isInteger(fd) || fd < 0) throw invalidArgType('fd', 'an fd: a whole number from 0', fd)
    return made(host, takeFd(host, fd))
  }
}

function* made(host: Host, finding: ReturnType<typeof findWritten>): Flow<Rootfs> {
  return new Rootfs(host, yield* finding)
}
