/**
 * The handle of a mount, whatever it is a mount of: its methods check their arguments, wait for their turn, and leave the
 * rest to operations.ts. How the mount stands is in standing.ts.
 */
import { binding } from '../binding.js'
import type { MountAttributes, Propagation } from '../overlay/attributes.js'
import { checkCall } from '../overlay/call-options.js'
import type { RungName } from '../overlay/choose.js'
import type { Explanation } from '../overlay/explanation.js'
import { findWritten } from '../overlay/handover.js'
import { type Inode, readMount, type WrittenMount, writeMount } from '../overlay/handover-json.js'
import type { Host } from '../overlay/host.js'
import { isElsewhere, type NamespaceTarget } from '../overlay/inside.js'
import { ownsSuperblock, type UnmountWay } from '../overlay/reap.js'
import { TeardownWatcher } from '../overlay/teardown.js'
import type { PathLike } from '../path.js'
import { drive, driveSync, type Flow } from '../program/flow.js'
import type { Trace } from '../program/pool.js'
import { traced, tracedSync } from '../tracing.js'
import type { Attachment } from './attach.js'
import { type Change, changes, type ReconfigureOptions } from './change.js'
import { explainOperation, type MountOperation } from './explain-operation.js'
import { holders, holding, mustBeIdle } from './hold.js'
import * as operations from './operations.js'
import {
  type AttachOptions,
  type ChangeOptions,
  parseAttach,
  parseElsewhere,
  parseMove,
  parseWay,
  type UnmountOptions,
} from './options.js'
import type { Below } from './place.js'
import { type MountState, Standing } from './standing.js'

/** What opens mounts: a Mounter. An interface, because the arrow points the other way. */
export interface MountOpener {
  openMount(json: unknown, call?: { signal?: AbortSignal }): Promise<Mount>
  openMountSync(json: unknown): Mount
}

let defaultOpener: (() => MountOpener) | undefined

/** mounter.ts says here what opens a mount where no mounter is given. */
export function setDefaultMountOpener(opener: () => MountOpener): void {
  defaultOpener = opener
}

/**
 * A mount that this library has made: attached somewhere, or still detached.
 *
 * It does not keep the process alive, and an attached mount outlives handle and process. A detached
 * mount lives as long as its fd: dropping the handle takes it down, with a warning.
 */
export class Mount {
  /**
   * The handle of an attached bind or tmpfs from what `JSON.stringify(mount)` wrote, as `Rootfs.open` opens a rootfs: it
   * is looked for in the same way, and not finding it is told by the same errors. Of what is inside another mount, it is
   * found by its path, and the handle does not know of the other.
   *
   * @param json the text, or the object
   * @param call whose threads; a signal aborts the looking
   * @throws HandoverError by its code · MountError EACCES · TypeError naming the field, also for the JSON of a rootfs
   * @see statx(2), statmount(2) (Linux 6.8; before it /proc/thread-self/mountinfo is read)
   */
  static async open(
    json: object | string,
    call: { mounter?: MountOpener; signal?: AbortSignal } = {},
  ): Promise<Mount> {
    const { mounter = defaultOpener!(), signal } = checkCall(call, ['mounter', 'signal'])
    return mounter.openMount(json, { signal })
  }

  /** As `open`; blocks. */
  static openSync(json: object | string, call: { mounter?: MountOpener } = {}): Mount {
    const { mounter = defaultOpener!() } = checkCall(call, ['mounter'])
    return mounter.openMountSync(json)
  }

  /** @internal Checks the JSON at once, and does nothing else before it is driven. */
  static openFlow(host: Host, json: unknown): Flow<Mount> {
    const written = readMount(json, ['bind', 'tmpfs'])
    return found(host, written)
  }

  /** @internal */
  readonly standing: Standing

  /** @internal */
  constructor(host: Host, state: MountState) {
    this.standing = new Standing(host, state)
  }

  /**
   * Where the mount can be reached: its target, or `/proc/self/fd/N` while it is detached. Bytes that are no
   * UTF-8 are replaced in it; `pathBytes` has them. In another mount namespace it is a path of that one, and here
   * nothing, or something else.
   *
   * @throws Error ERR_INVALID_STATE once it is unmounted
   */
  get path(): string {
    return this.pathBytes.toString()
  }

  /** `path` as bytes, which node:fs takes. */
  get pathBytes(): Buffer {
    return this.standing.path
  }

  /** Id of the mount: never reused from Linux 6.8 on (STATX_MNT_ID_UNIQUE), else as in mountinfo. */
  get mountId(): bigint {
    return this.standing.mountId
  }

  /** The rung it was made on; undefined if it came as an fd (`Rootfs.fromFd`). */
  get rung(): RungName | undefined {
    return this.standing.state.rung
  }

  /** What the rung could not promise: as in the plan. */
  get notes(): readonly string[] {
    return this.standing.notes
  }

  /** True while it is attached nowhere. */
  get detached(): boolean {
    return this.standing.phase === 'detached'
  }

  /** fd of the detached mount, which stays the handle's; undefined once it is attached. */
  get fd(): number | undefined {
    return this.standing.mountFd
  }

  /**
   * fd of the mount namespace that it is attached in, if that is another than the caller's. It stays the handle's, and
   * keeps the namespace alive until the handle unmounts, is released or collected.
   */
  get namespaceFd(): number | undefined {
    return this.standing.namespaceFd
  }

  /**
   * Attaches a detached mount: `move_mount(fd, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH)`, with all that is
   * attached inside it.
   *
   * Once; a second attach is ERR_INVALID_STATE. A symbolic link at the end of `target` is not followed (EINVAL).
   * If it fails, it is still detached.
   *
   * @param target an existing directory (a file for the bind of one), or a place inside another mount of this library:
   *   `{ mount, path }`, where no symbolic link leads out, inside a detached one since Linux 6.15; or
   *   `{ path, mountNamespace }`, a directory in another mount namespace: the thread goes there by `setns` and opens the
   *   path with `openat2(RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS)`
   * @throws MountError ENOENT: there is nothing · EINVAL: a symbolic link, or no directory · EPERM: also no right over
   *   the user namespace that owns that mount namespace · ELOOP: a symbolic link on the way, in another namespace
   * @see move_mount(2), Linux 5.2; setns(2)
   */
  async attach(target: PathLike | Below | NamespaceTarget, options: AttachOptions = {}): Promise<void> {
    if (isElsewhere(target)) return this.standing.turns.drive(this.#attachElsewhere(target, options))
    const attachment = this.#parseAttach(target, options)
    const began = this.#namespace
    const all = holders(this.standing, attachment.spot)
    return holding(all, () => drive(operations.attach(this.standing, began, attachment)))
  }

  /** As `attach`; blocks. */
  attachSync(target: PathLike | Below | NamespaceTarget, options: AttachOptions = {}): void {
    if (isElsewhere(target)) {
      this.standing.turns.mustBeIdle()
      driveSync(this.#attachElsewhere(target, options))
      return
    }
    const attachment = this.#parseAttach(target, options)
    mustBeIdle(holders(this.standing, attachment.spot))
    driveSync(operations.attach(this.standing, this.#namespace, attachment))
  }

  /** Of the caller. */
  get #namespace(): number {
    return this.standing.host.here().namespace
  }

  #parseAttach(target: PathLike | Below | NamespaceTarget, options: AttachOptions): Attachment {
    const attachment = parseAttach(target, options)
    operations.mustBeDetached(this.standing)
    return attachment
  }

  #attachElsewhere(target: NamespaceTarget, options: AttachOptions): Flow<void> {
    const attachment = parseElsewhere(target, options)
    operations.mustBeDetached(this.standing)
    return operations.attachElsewhere(this.standing, this.#namespace, attachment)
  }

  /**
   * Moves an attached mount, with all that is below it, to another place: `move_mount(2)` of what has proved to be this
   * mount. Nobody sees it in both places or in none.
   *
   * The kernel moves nothing out of a shared parent, and nothing that is unbindable below it into one (EINVAL): where
   * `/` is shared, make the parent private first, or mount anew.
   *
   * @param target as in `attach`
   * @throws MountError EINVAL: a shared parent, or as in `attach` · EBUSY, EINVAL: it is not there any more, as in
   *   `unmount` · Error ERR_INVALID_STATE while it is detached, or inside a detached mount
   * @see move_mount(2), Linux 5.2; mount_namespaces(7)
   */
  async moveTo(target: PathLike | Below, options: AttachOptions = {}): Promise<void> {
    const attachment = this.#parseMove(target, options)
    const all = holders(this.standing, attachment.spot)
    return holding(all, () => drive(operations.move(this.standing, attachment)))
  }

  /** As `moveTo`; blocks. */
  moveToSync(target: PathLike | Below, options: AttachOptions = {}): void {
    const attachment = this.#parseMove(target, options)
    mustBeIdle(holders(this.standing, attachment.spot))
    driveSync(operations.move(this.standing, attachment))
  }

  #parseMove(target: PathLike | Below, options: AttachOptions): Attachment {
    const attachment = parseMove(target, options)
    operations.mustBeMovable(this.standing)
    return attachment
  }

  /**
   * Sets and clears attributes of the mount: `mount_setattr(fd, "", AT_EMPTY_PATH, …)` on what has proved to be this
   * mount; what is not named stays as it is. Files that are open for writing keep it from becoming read-only (EBUSY).
   *
   * Without mount_setattr(2) by `mount(MS_REMOUNT | MS_BIND)`, which changes one mount only.
   *
   * @throws MountError EBUSY: `readonly`, and something is open for writing, or as in `unmount` · EPERM: an attribute
   *   that is locked in this user namespace · Error ERR_INVALID_STATE inside a detached mount: set it on the outer one
   *   with `recursive`, or before · TypeError
   * @see mount_setattr(2), Linux 5.12
   */
  async setAttributes(attributes: MountAttributes, options: ChangeOptions = {}): Promise<void> {
    return this.#change(changes.setAttributes(this.standing.kind, attributes, options))
  }

  /** As `setAttributes`; blocks. */
  setAttributesSync(attributes: MountAttributes, options: ChangeOptions = {}): void {
    this.#changeSync(changes.setAttributes(this.standing.kind, attributes, options))
  }

  /**
   * Makes the mount shared, private, a slave of what it was a peer of, or unbindable.
   *
   * A detached mount that is attached below a shared parent becomes shared, with all that is inside it.
   *
   * @throws as `setAttributes`
   * @see mount_setattr(2), mount_namespaces(7)
   */
  async setPropagation(propagation: Propagation, options: ChangeOptions = {}): Promise<void> {
    return this.#change(changes.setPropagation(this.standing.kind, propagation, options))
  }

  /** As `setPropagation`; blocks. */
  setPropagationSync(propagation: Propagation, options: ChangeOptions = {}): void {
    this.#changeSync(changes.setPropagation(this.standing.kind, propagation, options))
  }

  /**
   * Changes the superblock, and with it every mount of it: `fspick(2)`, `fsconfig(FSCONFIG_CMD_RECONFIGURE)` on what
   * has proved to be this mount. Of a tmpfs `size`, `nr_blocks`, `nr_inodes`, `huge` and `mpol`; of both it and an
   * overlay `readonly`.
   *
   * @throws MountError EINVAL: the file system refuses (`log` says why), such as a size that is in use · EBUSY:
   *   `readonly`, and something is open for writing · Error ERR_INVALID_STATE for a bind, whose superblock is not its
   *   own · TypeError: what cannot be changed any more
   * @see fspick(2), Linux 5.2
   */
  async reconfigure(options: ReconfigureOptions): Promise<void> {
    return this.#change(changes.reconfigure(this.standing.kind, options))
  }

  /** As `reconfigure`; blocks. */
  reconfigureSync(options: ReconfigureOptions): void {
    this.#changeSync(changes.reconfigure(this.standing.kind, options))
  }

  #change(change: Change): Promise<void> {
    operations.mustTake(this.standing, change)
    return this.standing.turns.drive(operations.change(this.standing, change))
  }

  #changeSync(change: Change): void {
    operations.mustTake(this.standing, change)
    this.standing.turns.mustBeIdle()
    driveSync(operations.change(this.standing, change))
  }

  /**
   * Unmounts it, once it has made sure that what is at the target is still this mount: `openat2` of the
   * directory above, `statx` of the name, `umount2(name, MNT_DETACH | UMOUNT_NOFOLLOW)` from there. A detached
   * one is closed. Resolves when the mount has left the namespace; what is unmounted already resolves too, at once. If
   * the caller is in another mount namespace by now, the threads that the mounter still has in the old one do it.
   *
   * @throws MountError EINVAL: it is not mounted there any more · EBUSY: another mount covers it, or, with
   *   `lazy: false`, it is in use. Nothing has been unmounted then · Error ERR_INVALID_STATE: the caller has left the
   *   mount namespace, and the mounter has no threads there any more (`trim`, `close`)
   * @see umount2(2), openat2(2) (Linux 5.6), statx(2)
   */
  unmount(options: UnmountOptions = {}): Promise<void> {
    try {
      const way = parseWay(options)
      const { phase, target } = this.standing
      if (phase === 'gone') return Promise.resolve()
      if (way.early) return traced('unmount', target, (trace) => this.#alone(this.#unmountEarly(way), trace))
      return traced('unmount', target, (trace) => this.#unmountWhole(way, trace))
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /** As `unmount`; blocks. */
  unmountSync(options: UnmountOptions = {}): void {
    const way = parseWay(options)
    const { phase, target, turns } = this.standing
    if (phase === 'gone') return
    turns.mustBeIdle()
    tracedSync('unmount', target, (trace) => {
      const watcher = way.early ? undefined : this.#watcher()
      try {
        const watch = driveSync(operations.unmount(this.standing, { ...way, inotify: watcher?.fd }), trace)
        watcher?.waitSync(watch)
      } finally {
        watcher?.release()
      }
    })
  }

  *#unmountEarly(way: UnmountWay): Flow<void> {
    yield* operations.unmount(this.standing, way)
  }

  /** Until the superblock is gone, whoever holds it. */
  async #unmountWhole(way: UnmountWay, trace: Trace | undefined): Promise<void> {
    const watcher = this.#watcher()
    try {
      const flow = operations.unmount(this.standing, { ...way, inotify: watcher?.fd })
      const watch = await this.#alone(flow, trace)
      await watcher?.wait(watch)
    } finally {
      watcher?.release()
    }
  }

  /** The superblock of a clone stays. */
  #watcher(): TeardownWatcher | undefined {
    return ownsSuperblock(this.standing.kind) ? TeardownWatcher.take() : undefined
  }

  /** While the mounts that it is inside do nothing else. */
  #alone<T>(flow: Flow<T>, trace: Trace | undefined): Promise<T> {
    if (this.standing.outer === undefined) return this.standing.turns.drive(flow, trace)
    return holding(holders(this.standing), () => drive(flow, undefined, trace))
  }

  /**
   * Lets go of the mount: it stays, and this handle does nothing more. A detached mount's fd becomes the
   * caller's, to be closed or passed on; its upper no longer counts as in use here.
   *
   * @returns the fd of a detached mount; undefined for an attached one
   */
  release(): number | undefined {
    this.standing.turns.mustBeIdle()
    return this.standing.released()
  }

  /**
   * What a call of another method would do: its plans, what they cost and what is to be said, as `explain` gives them of
   * a mount. Nothing is done, and no right is needed. Symbolic links on the way are taken not to be there.
   *
   * @param operation the method's name
   * @param args what it is called with
   * @returns `rung` of a change is `'classic'` where mount(2) does it; else that of the mount
   * @throws what the method throws before it does anything: TypeError, RangeError, RungError, Error ERR_INVALID_STATE
   */
  explain<O extends MountOperation>(operation: O, ...args: Parameters<Mount[O]>): Explanation {
    return explainOperation(this.standing, operation, args)
  }

  [Symbol.dispose](): void {
    if (this.#isThere) this.unmountSync()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isThere) await this.unmount()
  }

  get #isThere(): boolean {
    const { phase } = this.standing
    return phase === 'detached' || phase === 'attached'
  }

  /**
   * What identifies the mount, in plain data: enough for another process, or this one after a restart, to find it and
   * to be sure that it is the same (`Rootfs.open`). Reads the id of the boot.
   */
  toJSON(): object {
    const { host, state, written } = this.standing
    const { rung, kind, mountId, dev, ino, mark, claim } = state
    const unique = host.features.uniqueMountId
    const inodes = claim === 0 ? [] : binding.claimedInodes(claim)
    const uppers = inodes.flatMap((dev, i): Inode[] => (i % 2 === 0 ? [[dev, inodes[i + 1]!]] : []))
    return writeMount({ ...written, rung, kind, mountId, unique, dev, ino, mark, uppers })
  }
}

function* found(host: Host, written: WrittenMount): Flow<Mount> {
  return new Mount(host, yield* findWritten(host, written))
}
