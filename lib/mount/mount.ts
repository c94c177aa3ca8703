/**
 * The handle of a mount, whatever it is a mount of: where it is, how it is attached, and how it is taken down once
 * it has proved to be the one that was made.
 */
import { binding } from '../binding.js'
import { diagnoseAttach } from '../diagnose.js'
import { invalidArgType, invalidArgValue, invalidState, MountError, movedOn } from '../errors.js'
import { type MountAttributes, type Propagation, parsePropagation } from '../overlay/attributes.js'
import type { RungName } from '../overlay/choose.js'
import { type Group, joinGroup } from '../overlay/group-table.js'
import { type Inode, writeMount } from '../overlay/handover-json.js'
import type { Here, Host } from '../overlay/host.js'
import {
  type InsideBytes,
  insideOf,
  type NamespaceTarget,
  parseTarget as parseNamespaceTarget,
} from '../overlay/inside.js'
import { MountLook, numberOf } from '../overlay/presence.js'
import { type MountKind, ownsSuperblock, planCloseMount, type UnmountWay } from '../overlay/reap.js'
import { TeardownWatcher, watchOf } from '../overlay/teardown.js'
import { unmountAttached } from '../overlay/unmount.js'
import type { PathLike } from '../path.js'
import { drive, driveSync, type Flow } from '../program/flow.js'
import { failedStep, type Outcome } from '../program/outcome.js'
import type { Trace } from '../program/pool.js'
import { traced, tracedSync } from '../tracing.js'
import type { Attachment } from './attach.js'
import { planAttachInside } from './attach-namespace.js'
import { parseSomeChange } from './attributes.js'
import {
  attachMount,
  attributeChange,
  type Change,
  changeMount,
  mustBeChangeable,
  parseReconfigure,
  propagationChange,
  type ReconfigureOptions,
  superblockChange,
  unmountInside,
} from './change.js'
import { holders, holding } from './hold.js'
import {
  type AttachOptions,
  type ChangeOptions,
  parseAttach,
  parseRecursive,
  parseWay,
  type UnmountOptions,
} from './options.js'
import {
  type Below,
  below,
  type Inside,
  isInDetached,
  isInside,
  parseTarget,
  type Reach,
  refreshed,
  type Spot,
} from './place.js'

/** @internal */
export interface MountState {
  /** undefined of a mount that came as an fd */
  readonly rung: RungName | undefined
  readonly kind: MountKind
  readonly target: Buffer | undefined
  /** inside another mount, instead of a target */
  readonly place?: Place | undefined
  readonly mountFd: number | undefined
  readonly mountId: bigint
  readonly dev: bigint
  /** of the root directory */
  readonly ino?: bigint
  /** its source, if that names its maker */
  readonly mark?: string | undefined
  readonly namespace: number
  readonly notes: readonly string[]
  /** number of what it has claimed; 0 if that is nothing */
  readonly claim: number
  /** of the mount namespace that it was attached in, if that is not the caller's */
  readonly namespaceFd?: number | undefined
}

/** @internal Where in another mount a mount is: a path without symbolic links, and without a slash before it. */
export interface Place {
  readonly mount: Mount
  readonly path: Buffer
}

type Phase = 'detached' | 'attached' | 'gone' | 'released'

interface Dropped {
  readonly fd: number
  readonly host: Host
  readonly state: MountState
}

/** What a detached mount that is dropped without being unmounted leaves behind. */
const dropped = new FinalizationRegistry<Dropped>(({ fd, host, state }) => {
  host.later(planCloseMount(fd, state.claim, { early: false }))
  const name = state.kind === 'overlay' || state.kind === 'clone' ? 'Rootfs' : 'Mount'
  process.emitWarning(`a detached ${name} was garbage collected without unmount()`, {
    code: `OVERLAYFD_${name.toUpperCase()}_DROPPED`,
  })
})

/** Of a mount in another namespace, which stays there: nothing keeps the namespace alive any more. */
const left = new FinalizationRegistry<{ readonly fd: number; readonly host: Host }>(({ fd, host }) => {
  host.discard({ fds: [fd] })
})

/**
 * A mount that this library has made: attached somewhere, or still detached.
 *
 * It does not keep the process alive, and an attached mount outlives handle and process. A detached
 * mount lives as long as its fd: dropping the handle takes it down, with a warning.
 */
export class Mount {
  readonly #host: Host
  readonly #state: MountState
  #phase: Phase
  #target: Buffer | undefined
  #namespace: number
  #notes: readonly string[]
  #mountFd: number | undefined
  #namespaceFd: number | undefined
  /** operations under way: one runs, the others wait for it */
  #operations = 0
  #last: Promise<unknown> | undefined
  /** that it is attached below, if it is */
  #group: Group | undefined
  /** what it is attached inside, if that is a mount of ours */
  #place: Place | undefined
  /** what is attached inside it */
  #inside: Set<Mount> | undefined

  /** @internal */
  constructor(host: Host, state: MountState) {
    this.#host = host
    this.#state = state
    this.#target = state.target
    this.#notes = state.notes
    this.#namespace = state.namespace
    this.#mountFd = state.mountFd
    this.#phase = state.target === undefined ? 'detached' : 'attached'
    if (state.place !== undefined) this.#enter(state.place)
    if (state.mountFd !== undefined) {
      dropped.register(this, { fd: state.mountFd, host, state }, this)
    }
    if (state.namespaceFd !== undefined) this.#keepNamespace(state.namespaceFd)
    else if (state.target !== undefined) this.#group = joinGroup(this, state.namespace, state.target)
  }

  #keepNamespace(fd: number): void {
    this.#namespaceFd = fd
    this.#namespace = numberOf(fd)
    const { claim, mountId, dev } = this.#state
    // its program did not know in which namespace that would be
    if (claim !== 0) binding.settleClaim(claim, mountId, dev, this.#namespace)
    left.register(this, { fd, host: this.#host }, this)
  }

  /** The last fd of a namespace takes down what is in it: on a thread of the mounter. */
  #leaveNamespace(): void {
    if (this.#namespaceFd === undefined) return
    left.unregister(this)
    this.#host.discard({ fds: [this.#namespaceFd] })
    this.#namespaceFd = undefined
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
    if (this.#phase === 'detached') return Buffer.from(`/proc/self/fd/${this.#mountFd}`)
    if (this.#phase === 'gone') throw invalidState('the mount is unmounted')
    if (this.#place) return below(this.#place.mount.pathBytes, this.#place.path)
    if (this.#target === undefined) throw invalidState('the mount was released')
    return this.#target
  }

  /** Id of the mount: never reused from Linux 6.8 on (STATX_MNT_ID_UNIQUE), else as in mountinfo. */
  get mountId(): bigint {
    return this.#state.mountId
  }

  /** The rung it was made on; undefined if it came as an fd (`Rootfs.fromFd`). */
  get rung(): RungName | undefined {
    return this.#state.rung
  }

  /** What the rung could not promise: as in the plan. */
  get notes(): readonly string[] {
    return this.#notes
  }

  /** True while it is attached nowhere. */
  get detached(): boolean {
    return this.#phase === 'detached'
  }

  /** fd of the detached mount, which stays the handle's; undefined once it is attached. */
  get fd(): number | undefined {
    return this.#phase === 'detached' ? this.#mountFd : undefined
  }

  /**
   * fd of the mount namespace that it is attached in, if that is another than the caller's. It stays the handle's, and
   * keeps the namespace alive until the handle unmounts, is released or collected.
   */
  get namespaceFd(): number | undefined {
    return this.#namespaceFd
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
    if (isElsewhere(target)) return this.#exclusive(this.#attachElsewhere(target, options))
    const attachment = this.#parseAttach(target, options)
    const began = this.#host.here().namespace
    return holding(holders(this, attachment.spot), () => drive(this.#attachFlow(began, attachment)))
  }

  /** As `attach`; blocks. */
  attachSync(target: PathLike | Below | NamespaceTarget, options: AttachOptions = {}): void {
    if (isElsewhere(target)) {
      this.mustBeIdle()
      driveSync(this.#attachElsewhere(target, options))
      return
    }
    const attachment = this.#parseAttach(target, options)
    for (const mount of holders(this, attachment.spot)) mount.mustBeIdle()
    driveSync(this.#attachFlow(this.#host.here().namespace, attachment))
  }

  #parseAttach(target: PathLike | Below, options: AttachOptions): Attachment {
    const spot = parseTarget(target, 'target')
    const attachment = { ...parseAttach(options), spot, recursive: false }
    this.#mustBeDetached()
    return attachment
  }

  #mustBeDetached(): void {
    if (this.#phase === 'detached') return
    throw invalidState(`the mount is ${this.#phase}: it can be attached once`)
  }

  /** Where the attach was asked for: by the time that it is its turn, the same path may mean something else. */
  #hereStill(began: number): Here {
    const here = this.#host.here()
    if (here.namespace !== began) throw movedOn()
    return here
  }

  *#attachFlow(began: number, attachment: Attachment): Flow<void> {
    // what was under way before may have attached or unmounted it
    this.#mustBeDetached()
    const { namespace } = this.#hereStill(began)
    const spot = refreshed(attachment.spot)
    try {
      const to = { ...attachment, spot }
      const { target, notes } = yield* attachMount(
        this.#host,
        this.rung ?? 'attach',
        this.#spot(),
        to,
        this.kind,
      )
      this.#attached(target, namespace, notes)
    } catch (error) {
      if (!(isInside(spot) && isInDetached(spot.reach))) this.#attachFailed(error)
      throw error
    }
  }

  #attachElsewhere(to: NamespaceTarget, options: AttachOptions): Flow<void> {
    const { target, namespace } = parseNamespaceTarget(to, 'target')
    const { propagation, beneath } = parseAttach(options)
    if (beneath) {
      throw invalidArgValue('options.beneath', beneath, 'is for a target in the own mount namespace')
    }
    this.#mustBeDetached()
    const began = this.#host.here().namespace
    return this.#elsewhereFlow(began, target, insideOf(target, namespace!), propagation)
  }

  *#elsewhereFlow(
    began: number,
    path: Buffer,
    inside: InsideBytes,
    propagation: number | undefined,
  ): Flow<void> {
    this.#mustBeDetached()
    if (!this.#host.features.openat2)
      throw invalidState('openat2(2) is missing, without which no other mount namespace is entered')
    const { rung = 'attach', kind } = this.#state
    const plan = planAttachInside(inside, { rung, kind, mountFd: this.#mountFd!, propagation })
    let outcome: Outcome
    try {
      outcome = yield { plan, pool: this.#hereStill(began).visiting, abortable: false }
    } catch (error) {
      this.#attachFailed(error)
      throw diagnoseAttach(error)
    }
    this.#keepNamespace(outcome.outputs[0]!)
    this.#attached({ path }, this.#namespace, plan.notes)
  }

  /** It was attached and taken off again, and a mount that was unmounted cannot be attached any more. */
  #attachFailed(error: unknown): void {
    if (!(error instanceof MountError) || failedStep(error)?.subject?.option !== 'propagation') return
    dropped.unregister(this)
    binding.closeOwned(this.#mountFd!)
    binding.dropClaim(this.#state.claim)
    this.#gone()
  }

  #attached(target: Spot, namespace: number, notes: readonly string[]): void {
    this.#notes = [...this.#notes, ...notes]
    dropped.unregister(this)
    this.#namespace = namespace
    const { claim, mountId, dev } = this.#state
    const isHidden = isInside(target) && isInDetached(target.reach)
    // nobody could look for the mount in a namespace where it is not: the claim ends with the handle
    if (claim !== 0 && !isHidden) binding.settleClaim(claim, mountId, dev, namespace)
    // an fd of an attached mount keeps it busy; closing it unmounts nothing any more
    const fd = this.#mountFd!
    this.#mountFd = undefined
    this.#settle(target, namespace)
    binding.closeOwned(fd)
  }

  /** Where it is from now on. */
  #settle(target: Spot, namespace: number): void {
    this.#phase = 'attached'
    this.#leaveOuter()
    this.#group?.leave(this)
    this.#place = undefined
    this.#target = undefined
    this.#group = undefined
    this.#namespace = namespace
    if (isInside(target)) this.#enter(target)
    else {
      this.#target = target.path
      if (this.#namespaceFd === undefined) this.#group = joinGroup(this, namespace, target.path)
    }
  }

  #enter({ mount, path }: Place): void {
    this.#phase = 'attached'
    this.#place = { mount, path }
    mount.#inside ??= new Set()
    mount.#inside.add(this)
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
    return holding(holders(this, attachment.spot), () => drive(this.#moveFlow(attachment)))
  }

  /** As `moveTo`; blocks. */
  moveToSync(target: PathLike | Below, options: AttachOptions = {}): void {
    const attachment = this.#parseMove(target, options)
    for (const mount of holders(this, attachment.spot)) mount.mustBeIdle()
    driveSync(this.#moveFlow(attachment))
  }

  #parseMove(target: PathLike | Below, options: AttachOptions): Attachment {
    const attachment = { ...parseAttach(options), spot: parseTarget(target, 'target'), recursive: false }
    this.#mustBeMovable()
    return attachment
  }

  #mustBeMovable(): void {
    if (this.#phase === 'detached') throw invalidState('the mount is detached: attach puts it somewhere')
    mustBeChangeable(this.reach())
  }

  *#moveFlow(attachment: Attachment): Flow<void> {
    this.#mustBeMovable()
    const { namespace } = this.#host.here()
    const to = { ...attachment, spot: refreshed(attachment.spot) }
    const { target, notes } = yield* attachMount(this.#host, 'move', this.#spot(), to, this.kind)
    this.#notes = [...this.#notes, ...notes]
    this.#settle(target, namespace)
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
    const change = attributeChange(parseSomeChange(attributes, 'attributes'), parseRecursive(options))
    return this.#change(change)
  }

  /** As `setAttributes`; blocks. */
  setAttributesSync(attributes: MountAttributes, options: ChangeOptions = {}): void {
    this.#changeSync(attributeChange(parseSomeChange(attributes, 'attributes'), parseRecursive(options)))
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
    return this.#change(propagationChange(propagationOf(propagation), parseRecursive(options)))
  }

  /** As `setPropagation`; blocks. */
  setPropagationSync(propagation: Propagation, options: ChangeOptions = {}): void {
    this.#changeSync(propagationChange(propagationOf(propagation), parseRecursive(options)))
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
    return this.#change(superblockChange(parseReconfigure(options, this.kind)))
  }

  /** As `reconfigure`; blocks. */
  reconfigureSync(options: ReconfigureOptions): void {
    this.#changeSync(superblockChange(parseReconfigure(options, this.kind)))
  }

  #change(change: Change): Promise<void> {
    this.#mustBeChangeable(change)
    return this.#exclusive(this.#changeFlow(change))
  }

  #changeSync(change: Change): void {
    this.#mustBeChangeable(change)
    this.mustBeIdle()
    driveSync(this.#changeFlow(change))
  }

  #mustBeChangeable({ ofMount }: Change): void {
    const reach = this.reach()
    if (ofMount) mustBeChangeable(reach)
  }

  *#changeFlow(change: Change): Flow<void> {
    this.#mustBeChangeable(change)
    yield* changeMount(this.#host, this.#spot(), change)
  }

  /** @internal How plans get at it. */
  reach(): Reach {
    if (this.#phase === 'gone') throw invalidState('the mount is unmounted')
    if (this.#phase === 'released') throw released()
    if (this.#phase === 'detached') return { kind: 'detached', fd: this.#mountFd! }
    const { mountId, dev } = this.#state
    if (this.#place)
      return { kind: 'below', above: this.#place.mount.reach(), path: this.#place.path, mountId, dev }
    if (this.#namespaceFd !== undefined) {
      throw invalidState('the mount is in another mount namespace: from here it can only be unmounted')
    }
    if (this.#namespace !== this.#host.here().namespace) throw attachedElsewhere()
    return { kind: 'attached', target: this.#target!, mountId, dev }
  }

  #spot(): Inside {
    return { mount: this, reach: this.reach(), path: Buffer.alloc(0) }
  }

  /** @internal what it is attached inside */
  get outer(): Mount | undefined {
    return this.#place?.mount
  }

  /** @internal */
  get kind(): MountKind {
    return this.#state.kind
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
      if (this.#phase === 'gone') return Promise.resolve()
      if (way.early) {
        return traced('unmount', this.#target, (trace) => this.#alone(this.#unmountEarly(way), trace))
      }
      return traced('unmount', this.#target, (trace) => this.#unmountWhole(way, trace))
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /** As `unmount`; blocks. */
  unmountSync(options: UnmountOptions = {}): void {
    const way = parseWay(options)
    if (this.#phase === 'gone') return
    this.mustBeIdle()
    tracedSync('unmount', this.#target, (trace) => {
      const watcher = way.early ? undefined : this.#watcher()
      try {
        const watch = driveSync(this.#unmount({ ...way, inotify: watcher?.fd }), trace)
        watcher?.waitSync(watch)
      } finally {
        watcher?.release()
      }
    })
  }

  *#unmountEarly(way: UnmountWay): Flow<void> {
    yield* this.#unmount(way)
  }

  /** Until the superblock is gone, whoever holds it. */
  async #unmountWhole(way: UnmountWay, trace: Trace | undefined): Promise<void> {
    const watcher = this.#watcher()
    try {
      const watch = await this.#alone(this.#unmount({ ...way, inotify: watcher?.fd }), trace)
      await watcher?.wait(watch)
    } finally {
      watcher?.release()
    }
  }

  /** The superblock of a clone stays. */
  #watcher(): TeardownWatcher | undefined {
    return ownsSuperblock(this.#state.kind) ? TeardownWatcher.take() : undefined
  }

  *#unmount(way: UnmountWay): Flow<number | undefined> {
    if (this.#phase === 'released') throw released()
    if (this.#phase === 'gone') return undefined
    if (this.#place) return yield* this.#unmountInside(way)
    const namespace = this.#namespace
    const namespaceFd = this.#namespaceFd
    const pool = namespaceFd === undefined ? this.#host.reapingIn(namespace) : this.#host.here().visiting
    const { mountId, dev, kind, claim } = this.#state
    if (this.#phase === 'detached') {
      dropped.unregister(this)
      const fd = this.#mountFd!
      this.#gone()
      const closing = pool ?? this.#host.here().reaping
      return watchOf(yield { plan: planCloseMount(fd, claim, way), pool: closing, abortable: false })
    }
    if (pool === undefined) throw attachedElsewhere()
    const attached = { target: this.#target!, mountId, dev, kind, claim, namespace }
    let watch: number | undefined
    try {
      watch = yield* unmountAttached(this.#host, pool, attached, way, namespaceFd)
    } catch (error) {
      // its group may have been faster
      if (this.#group?.isLeaving) this.gone(new MountLook(this.#host.features.uniqueMountId))
      if (!this.#isGone()) throw error
    }
    this.#gone()
    return watch
  }

  *#unmountInside(way: UnmountWay): Flow<number | undefined> {
    const spot = this.#spot()
    mustBeChangeable(spot.reach)
    const watch = yield* unmountInside(this.#host, spot, this.kind, this.#state.claim, way)
    this.#gone()
    return watch
  }

  /** @internal its group was unmounted, and it with it, unless somebody has moved it out before */
  gone(look: MountLook): void {
    const { mountId, dev, claim } = this.#state
    if (this.#phase !== 'attached' || look.sees({ namespace: this.#namespace, mountId, dev })) return
    // an operation that is under way drops it when it has ended
    if (this.#operations === 0) binding.dropClaim(claim)
    this.#gone()
  }

  /** @internal number of what it has claimed */
  get claim(): number {
    return this.#state.claim
  }

  #isGone(): boolean {
    return this.#phase === 'gone'
  }

  #gone(): void {
    this.#phase = 'gone'
    this.#group?.leave(this)
    this.#leaveNamespace()
    this.#mountFd = undefined
    this.#leaveOuter()
    // what was inside it went with it
    if (this.#inside) for (const mount of this.#inside) mount.#outerGone()
    this.#inside = undefined
  }

  #left(mount: Mount): void {
    this.#inside?.delete(mount)
  }

  #leaveOuter(): void {
    if (this.#place) this.#place.mount.#left(this)
  }

  #outerGone(): void {
    if (this.#phase !== 'attached') return
    if (this.#operations === 0) binding.dropClaim(this.#state.claim)
    this.#gone()
  }

  /**
   * Lets go of the mount: it stays, and this handle does nothing more. A detached mount's fd becomes the
   * caller's, to be closed or passed on; its upper no longer counts as in use here.
   *
   * @returns the fd of a detached mount; undefined for an attached one
   */
  release(): number | undefined {
    this.mustBeIdle()
    const fd = this.#mountFd
    if (this.#phase === 'gone' || this.#phase === 'released') return undefined
    if (fd !== undefined) {
      dropped.unregister(this)
      binding.disown(fd)
      binding.dropClaim(this.#state.claim)
    }
    this.#phase = 'released'
    this.#group?.leave(this)
    this.#leaveNamespace()
    this.#leaveOuter()
    return fd
  }

  [Symbol.dispose](): void {
    if (this.#phase === 'detached' || this.#phase === 'attached') this.unmountSync()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#phase === 'detached' || this.#phase === 'attached') await this.unmount()
  }

  /**
   * What identifies the mount, in plain data: enough for another process, or this one after a restart, to find it and
   * to be sure that it is the same (`Rootfs.open`). Reads the id of the boot.
   */
  toJSON(): object {
    const { host, state } = { host: this.#host, state: this.#state }
    const inodes = state.claim === 0 ? [] : binding.claimedInodes(state.claim)
    return writeMount({
      rung: state.rung,
      kind: state.kind,
      phase: this.#phase,
      target: this.#target,
      mountId: state.mountId,
      unique: host.features.uniqueMountId,
      dev: state.dev,
      ino: state.ino,
      namespace: this.#namespace,
      mark: state.mark,
      uppers: inodes.flatMap((dev, i): Inode[] => (i % 2 === 0 ? [[dev, inodes[i + 1]!]] : [])),
    })
  }

  /** @internal */
  mustBeIdle(): void {
    if (this.#operations > 0) throw invalidState('another operation on this mount is under way')
  }

  /** One operation at a time, in the order of the calls. */
  #exclusive<T>(flow: Flow<T>, trace?: Trace): Promise<T> {
    const run = () => drive(this.#counted(flow), undefined, trace)
    const mine = this.#operations++ === 0 ? run() : this.#last!.then(run, run)
    this.#last = mine
    return mine
  }

  /** The same, and while the mounts that it is inside do nothing else. */
  #alone<T>(flow: Flow<T>, trace: Trace | undefined): Promise<T> {
    if (this.#place === undefined) return this.#exclusive(flow, trace)
    return holding(holders(this), () => drive(flow, undefined, trace))
  }

  *#counted<T>(flow: Flow<T>): Flow<T> {
    try {
      return yield* flow
    } finally {
      this.#ended()
    }
  }

  /** @internal Runs something as one operation of this mount. */
  hold<T>(run: () => Promise<T>): Promise<T> {
    const counted = async () => {
      try {
        return await run()
      } finally {
        this.#ended()
      }
    }
    const mine = this.#operations++ === 0 ? counted() : this.#last!.then(counted, counted)
    this.#last = mine
    return mine
  }

  #ended(): void {
    this.#operations--
    const { claim } = this.#state
    if (claim !== 0 && this.#operations === 0 && this.#phase === 'gone') binding.dropStaleClaim(claim)
  }
}

const isElsewhere = (target: unknown): target is NamespaceTarget =>
  typeof target === 'object' && target !== null && 'mountNamespace' in target

const released = () => invalidState('the mount was released: it is no longer this handle’s')
const attachedElsewhere = () =>
  invalidState('the mount was attached in another mount namespace than the caller is in now')

function propagationOf(value: Propagation): number {
  const parsed = parsePropagation(value, 'propagation')
  if (parsed === undefined) throw invalidArgType('propagation', 'string', value)
  return parsed
}
