/**
 * Many root filesystems below one private mount, taken down by one umount.
 *
 * Unmounted one by one, each takes the kernel's global mount lock for writing and waits for two RCU grace
 * periods. Below a stage of their own one lazy umount2(2) takes the lock once and waits once for all of them,
 * then once for each overlay's superblock. What is attached below a private mount is not copied to other
 * namespaces either.
 */

import { binding } from '../binding.js'
import { invalidArgType, invalidArgValue, invalidState } from '../errors.js'
import { cString, type PathLike } from '../path.js'
import { drive, driveSync, type Flow } from '../program/flow.js'
import { traced, tracedSync } from '../tracing.js'
import { absolute, splitLast } from './bytes.js'
import { checkCall, checkKeys } from './call-options.js'
import { attachStage, makeDirectory, type Stage } from './group-stage.js'
import { enterGroup, forgetGroup, type Group, type Member } from './group-table.js'
import type { Host } from './host.js'
import { isElsewhere } from './inside.js'
import { MountLook } from './presence.js'
import { unmountAttached } from './unmount.js'

/** What opens groups: a Mounter. An interface, because the arrow points the other way. */
export interface GroupOpener {
  openGroup(target: PathLike, call?: { signal?: AbortSignal }): Promise<MountGroup>
  openGroupSync(target: PathLike): MountGroup
}

let defaultOpener: (() => GroupOpener) | undefined

/** mounter.ts says here what opens a group where no mounter is given. */
export function setDefaultGroupOpener(opener: () => GroupOpener): void {
  defaultOpener = opener
}

/** Of `MountGroup.unmount`: umount2(2). */
export interface GroupUnmountOptions {
  /**
   * `true` (default): everything leaves the namespace at once, and each superblock goes when nothing uses it any
   * more (MNT_DETACH). `false`: EBUSY while something is mounted below, or uses the group's own mount.
   */
  lazy?: boolean
}

type Phase = 'attached' | 'gone' | 'released'

/**
 * The root filesystems of a pod or of a job, below one private mount of their own. Make one with
 * `MountGroup.open`, mount on what `target` answers, and unmount it.
 *
 * The mount is a small tmpfs. It does not keep the process alive, and outlives handle and process with all that is
 * below, as an attached rootfs does.
 */
export class MountGroup implements Group {
  readonly #host: Host
  readonly #stage: Stage
  readonly #members = new Set<Member>()
  #phase: Phase = 'attached'
  #leaving: Promise<void> | undefined

  /** @internal */
  constructor(host: Host, stage: Stage) {
    this.#host = host
    this.#stage = stage
  }

  /** @internal Checks the target at once, and does nothing else before it is driven. */
  static openFlow(host: Host, target: PathLike): Flow<MountGroup> {
    if (isElsewhere(target)) {
      throw invalidArgValue(
        'target',
        target,
        'must be a path: a group is in the mount namespace of the caller',
      )
    }
    const path = absolute(cString(target, 'target').subarray(0, -1))
    if (splitLast(path) === undefined) {
      throw invalidArgValue('target', target, "must be a directory below '/' and not end in '..'")
    }
    return openGroup(host, path)
  }

  /**
   * Attaches a tmpfs (mode 0711, nosuid, nodev, noexec, which is not so for what is mounted below it) and makes it
   * private: `fsopen("tmpfs")`, `fsconfig`, `fsmount`, `move_mount`, `mount(MS_PRIVATE)`. Before Linux 5.2 by
   * `mount("tmpfs")`.
   *
   * Below a shared parent other namespaces get a copy of the empty tmpfs. They see the names in it, and none of the
   * mounts; it goes when the group is unmounted. A namespace that is made later copies all there is, as of any private
   * mount, and keeps it, with the superblocks, until it ends or unmounts it (as runtimes do after pivot_root).
   *
   * @param target an existing directory, which stays the caller's. What is in it is covered until the group is gone
   * @param call whose threads; a signal aborts before the attach, never after
   * @throws MountError ENOENT: there is nothing · ENOTDIR, EINVAL: a symbolic link, or no directory · EPERM ·
   *   TypeError · the signal's reason
   * @see move_mount(2), mount_namespaces(7)
   */
  static async open(
    target: PathLike,
    call: { mounter?: GroupOpener; signal?: AbortSignal } = {},
  ): Promise<MountGroup> {
    const { mounter = defaultOpener!(), signal } = checkCall(call, ['mounter', 'signal'])
    return mounter.openGroup(target, { signal })
  }

  /** As `open`; blocks. */
  static openSync(target: PathLike, call: { mounter?: GroupOpener } = {}): MountGroup {
    const { mounter = defaultOpener!() } = checkCall(call, ['mounter'])
    return mounter.openGroupSync(target)
  }

  /** Where the group is: the directory it was attached to. Bytes that are no UTF-8 are replaced in it. */
  get path(): string {
    return this.#stage.path.toString()
  }

  /**
   * Makes a directory in the group, to be the `target` of a mount or of `rootfs.attach`: `mkdir`, mode 0755, on the
   * calling thread, once what is at `path` has proved to be the group. Once for each name: the same directory serves
   * one rootfs after the other, so keep it.
   *
   * @param name one component of a path, of at most 255 bytes
   * @returns the path; a Buffer for a name given as bytes
   * @throws MountError EEXIST: the name was given out before · EBUSY: another mount covers the group · EINVAL,
   *   ENOENT: the group is not mounted there any more · Error ERR_INVALID_STATE once it is unmounted or released, and
   *   in another mount namespace · TypeError
   */
  target(name: string): string
  target(name: Uint8Array): Buffer
  target(name: PathLike): PathLike {
    const bytes = checkName(name)
    const path = Buffer.concat([this.#stage.path, Buffer.from('/'), bytes])
    const text = path.toString()
    if (typeof name === 'string' && !Buffer.from(text).equals(path)) {
      throw invalidArgValue('name', name, 'must be a Buffer: the path of the group is not UTF-8')
    }
    this.#mustBeAttached()
    this.#mustBeHere()
    makeDirectory(this.#stage, bytes)
    // it is what is at the path now, whatever was opened there since
    enterGroup(this, this.#stage.namespace, this.#stage.path)
    return typeof name === 'string' ? text : path
  }

  /**
   * Takes the group down, and every mount below it: one `umount2(name, MNT_DETACH | UMOUNT_NOFOLLOW)`, once it has
   * made sure that what is at `path` is the group's own mount. Handles of rootfs below it are unmounted then, and
   * their uppers free. Resolves when all are gone from the namespace, and the superblocks that nothing uses with them.
   *
   * A mount that is being made in the group meanwhile is not waited for: end those first. What is unmounted already
   * resolves too. The directory stays, and nothing in it is deleted.
   *
   * @throws MountError EINVAL, ENOENT: it is not mounted there any more · EBUSY: another mount covers it, or, with
   *   `lazy: false`, something is mounted below. Nothing has been unmounted then · Error ERR_INVALID_STATE once it
   *   is released, and in another mount namespace
   * @see umount2(2)
   */
  async unmount(options: GroupUnmountOptions = {}): Promise<void> {
    const lazy = checkLazy(options)
    const before = this.#leaving
    const mine = traced('unmount', this.#stage.path, async (trace) => {
      await before
      await drive(this.#unmount(lazy), undefined, trace)
    })
    const leaving = mine
      .catch(() => {})
      .finally(() => {
        if (this.#leaving === leaving) this.#leaving = undefined
      })
    this.#leaving = leaving
    return mine
  }

  /** As `unmount`; blocks. */
  unmountSync(options: GroupUnmountOptions = {}): void {
    const lazy = checkLazy(options)
    this.#mustNotBeLeaving()
    tracedSync('unmount', this.#stage.path, (trace) => driveSync(this.#unmount(lazy), trace))
  }

  *#unmount(lazy: boolean): Flow<void> {
    if (this.#phase === 'gone') return
    this.#mustNotBeReleased()
    const { reaping } = this.#mustBeHere()
    const { path: target, mountId, dev, namespace } = this.#stage
    // as a clone: the stage itself has no superblock of an overlay
    const stage = { target, mountId, dev, kind: 'clone', claim: 0, namespace } as const
    // whoever finds their mounts gone must find that their directories are not free yet
    const members = [...this.#members]
    for (const { claim } of members) binding.retireClaim(claim)
    try {
      yield* unmountAttached(this.#host, reaping, stage, { lazy, early: false })
      this.#forget('gone')
      const look = new MountLook(this.#stage.uniqueMountId)
      for (const member of this.#members) member.gone(look)
      this.#members.clear()
    } finally {
      // of those that are still there
      for (const { claim } of members) binding.restoreClaim(claim)
    }
  }

  /** Lets go of the group: it stays mounted with all that is below, and this handle does nothing more. */
  release(): void {
    this.#mustNotBeLeaving()
    if (this.#phase === 'attached') this.#forget('released')
  }

  [Symbol.dispose](): void {
    if (this.#phase === 'attached') this.unmountSync()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#phase === 'attached') await this.unmount()
  }

  /** @internal */
  get isLeaving(): boolean {
    return this.#leaving !== undefined
  }

  /** @internal */
  join(member: Member): void {
    this.#members.add(member)
  }

  /** @internal */
  leave(member: Member): void {
    this.#members.delete(member)
  }

  #forget(phase: Phase): void {
    this.#phase = phase
    forgetGroup(this, this.#stage.namespace, this.#stage.path)
  }

  #mustBeAttached(): void {
    if (this.#phase === 'gone') throw invalidState('the group is unmounted')
    this.#mustNotBeReleased()
    this.#mustNotBeLeaving()
  }

  #mustNotBeReleased(): void {
    if (this.#phase !== 'released') return
    throw invalidState('the group was released: its mount is no longer this handle’s')
  }

  #mustNotBeLeaving(): void {
    if (this.#leaving) throw invalidState('the group is being unmounted')
  }

  #mustBeHere() {
    const here = this.#host.here()
    if (here.namespace === this.#stage.namespace) return here
    throw invalidState('the group was opened in another mount namespace than the caller is in now')
  }
}

function* openGroup(host: Host, path: Buffer): Flow<MountGroup> {
  return new MountGroup(host, yield* attachStage(host, path))
}

function checkName(name: PathLike): Buffer {
  const bytes = cString(name, 'name').subarray(0, -1)
  const text = Buffer.from(bytes).toString('latin1')
  if (text.includes('/') || text === '.' || text === '..' || text.length > 255) {
    throw invalidArgValue(
      'name',
      name,
      "must be one component of a path: no '/', not '.' or '..', at most 255 bytes",
    )
  }
  return Buffer.from(bytes)
}

function checkLazy(options: GroupUnmountOptions): boolean {
  const { lazy = true } = checkKeys(options, 'options', ['lazy'])
  if (typeof lazy !== 'boolean') throw invalidArgType('options.lazy', 'boolean', lazy)
  return lazy
}
