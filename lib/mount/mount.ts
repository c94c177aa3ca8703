/**
 * The handle of a mount, whatever it is a mount of: where it is, how it is attached, and how it is taken down once
 * it has proved to be the one that was made.
 */
import { binding } from '../binding.js'
import { diagnoseAttach } from '../diagnose.js'
import { invalidState, MountError } from '../errors.js'
import { parsePropagation } from '../overlay/attributes.js'
import { checkKeys } from '../overlay/call-options.js'
import type { RungName } from '../overlay/choose.js'
import { type Group, joinGroup } from '../overlay/group-table.js'
import { type Inode, writeMount } from '../overlay/handover-json.js'
import type { Host } from '../overlay/host.js'
import { type InsideBytes, insideOf, type NamespaceTarget, parseTarget } from '../overlay/inside.js'
import { MountLook, numberOf } from '../overlay/presence.js'
import { type MountKind, ownsSuperblock, planCloseMount, type UnmountWay } from '../overlay/reap.js'
import { TeardownWatcher, watchOf } from '../overlay/teardown.js'
import { unmountAttached } from '../overlay/unmount.js'
import type { PathLike } from '../path.js'
import { drive, driveSync, type Flow } from '../program/flow.js'
import { failedStep, type Outcome } from '../program/outcome.js'
import type { Trace } from '../program/pool.js'
import { traced, tracedSync } from '../tracing.js'
import { type Attaching, planAttach, planAttachInside } from './attach.js'
import { type AttachOptions, parseWay, type UnmountOptions } from './options.js'

/** @internal */
export interface MountState {
  /** undefined of a mount that came as an fd */
  readonly rung: RungName | undefined
  readonly kind: MountKind
  readonly target: Buffer | undefined
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

  /** @internal */
  constructor(host: Host, state: MountState) {
    this.#host = host
    this.#state = state
    this.#target = state.target
    this.#notes = state.notes
    this.#namespace = state.namespace
    this.#mountFd = state.mountFd
    this.#phase = state.target === undefined ? 'detached' : 'attached'
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
    if (this.#target === undefined || this.#phase === 'gone') throw invalidState('the mount is unmounted')
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
   * Attaches a detached mount: `move_mount(fd, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH)`.
   *
   * Once; a second attach is ERR_INVALID_STATE. A symbolic link at the end of `target` is not followed (EINVAL).
   * If it fails, it is still detached.
   *
   * @param target an existing directory; `{ path, mountNamespace }` for one in another mount namespace: the thread goes
   *   there by `setns` and opens the path with `openat2(RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS)`
   * @throws MountError ENOENT: there is nothing · EINVAL: a symbolic link, or no directory · EPERM: also no right over
   *   the user namespace that owns that mount namespace · ELOOP: a symbolic link on the way, in another namespace
   * @see move_mount(2), Linux 5.2; setns(2)
   */
  async attach(target: PathLike | NamespaceTarget, options: AttachOptions = {}): Promise<void> {
    return this.#exclusive(this.#attach(target, options))
  }

  /** As `attach`; blocks. */
  attachSync(target: PathLike | NamespaceTarget, options: AttachOptions = {}): void {
    this.#alone()
    driveSync(this.#attach(target, options))
  }

  #attach(to: PathLike | NamespaceTarget, options: AttachOptions): Flow<void> {
    const { target, namespace } = parseTarget(to, 'target')
    checkKeys(options, 'options', ['propagation'])
    const propagation = parsePropagation(options.propagation, 'options.propagation')
    this.#mustBeDetached()
    return namespace === undefined
      ? this.#attachFlow(target, propagation)
      : this.#attachInside(target, insideOf(target, namespace), propagation)
  }

  *#attachInside(path: Buffer, inside: InsideBytes, propagation: number | undefined): Flow<void> {
    this.#mustBeDetached()
    if (!this.#host.features.openat2)
      throw invalidState('openat2(2) is missing, without which no other mount namespace is entered')
    const plan = planAttachInside(inside, this.#attaching(propagation))
    let outcome: Outcome
    try {
      outcome = yield { plan, pool: this.#host.here().visiting, abortable: false }
    } catch (error) {
      this.#attachFailed(error)
      throw diagnoseAttach(error)
    }
    this.#keepNamespace(outcome.outputs[0]!)
    this.#attached(path, this.#namespace, plan.notes)
  }

  #mustBeDetached(): void {
    if (this.#phase === 'detached') return
    throw invalidState(`the mount is ${this.#phase}: it can be attached once`)
  }

  *#attachFlow(path: Buffer, propagation: number | undefined): Flow<void> {
    // what was under way before may have attached or unmounted it
    this.#mustBeDetached()
    const { composing, namespace } = this.#host.here()
    const plan = planAttach(path, this.#attaching(propagation))
    try {
      yield { plan, pool: composing, abortable: false }
    } catch (error) {
      this.#attachFailed(error)
      throw diagnoseAttach(error)
    }
    this.#attached(path, namespace, plan.notes)
    this.#group = joinGroup(this, namespace, path)
  }

  #attaching(propagation: number | undefined): Attaching {
    const { rung = 'attach', kind } = this.#state
    return { rung, kind, mountFd: this.#mountFd!, propagation }
  }

  /** It was attached and taken off again, and a mount that was unmounted cannot be attached any more. */
  #attachFailed(error: unknown): void {
    if (!(error instanceof MountError) || failedStep(error)?.subject?.option !== 'propagation') return
    dropped.unregister(this)
    binding.closeOwned(this.#mountFd!)
    binding.dropClaim(this.#state.claim)
    this.#gone()
  }

  #attached(path: Buffer, namespace: number, notes: readonly string[]): void {
    this.#notes = [...this.#notes, ...notes]
    dropped.unregister(this)
    this.#target = path
    this.#namespace = namespace
    const { claim, mountId, dev } = this.#state
    if (claim !== 0) binding.settleClaim(claim, mountId, dev, namespace)
    this.#phase = 'attached'
    // an fd of an attached mount keeps it busy; closing it unmounts nothing any more
    binding.closeOwned(this.#mountFd!)
    this.#mountFd = undefined
  }

  /**
   * Unmounts it, once it has made sure that what is at the target is still this mount: `openat2` of the
   * directory above, `statx` of the name, `umount2(name, MNT_DETACH | UMOUNT_NOFOLLOW)` from there. A detached
   * one is closed. Resolves when the mount has left the namespace; what is unmounted already resolves too, at once.
   *
   * @throws MountError EINVAL: it is not mounted there any more · EBUSY: another mount covers it, or, with
   *   `lazy: false`, it is in use. Nothing has been unmounted then
   * @see umount2(2), openat2(2) (Linux 5.6), statx(2)
   */
  unmount(options: UnmountOptions = {}): Promise<void> {
    try {
      const way = parseWay(options)
      if (this.#phase === 'gone') return Promise.resolve()
      if (way.early) {
        return traced('unmount', this.#target, (trace) => this.#exclusive(this.#unmountEarly(way), trace))
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
    this.#alone()
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
      const watch = await this.#exclusive(this.#unmount({ ...way, inotify: watcher?.fd }), trace)
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
    if (this.#phase === 'released')
      throw invalidState('the mount was released: it is no longer this handle’s')
    if (this.#phase === 'gone') return undefined
    const here = this.#host.here()
    const namespaceFd = this.#namespaceFd
    const pool = namespaceFd === undefined ? here.reaping : here.visiting
    const { mountId, dev, kind, claim } = this.#state
    if (this.#phase === 'detached') {
      dropped.unregister(this)
      const fd = this.#mountFd!
      this.#gone()
      return watchOf(yield { plan: planCloseMount(fd, claim, way), pool, abortable: false })
    }
    if (namespaceFd === undefined && this.#namespace !== here.namespace) {
      throw invalidState('the mount was attached in another mount namespace than the caller is in now')
    }
    const attached = { target: this.#target!, mountId, dev, kind, claim }
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
  }

  /**
   * Lets go of the mount: it stays, and this handle does nothing more. A detached mount's fd becomes the
   * caller's, to be closed or passed on; its upper no longer counts as in use here.
   *
   * @returns the fd of a detached mount; undefined for an attached one
   */
  release(): number | undefined {
    this.#alone()
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

  #alone(): void {
    if (this.#operations > 0) throw invalidState('another operation on this mount is under way')
  }

  /** One operation at a time, in the order of the calls. */
  #exclusive<T>(flow: Flow<T>, trace?: Trace): Promise<T> {
    const run = () => drive(this.#counted(flow), undefined, trace)
    const mine = this.#operations++ === 0 ? run() : this.#last!.then(run, run)
    this.#last = mine
    return mine
  }

  *#counted<T>(flow: Flow<T>): Flow<T> {
    try {
      return yield* flow
    } finally {
      this.#operations--
      const { claim } = this.#state
      if (claim !== 0 && this.#operations === 0 && this.#phase === 'gone') binding.dropStaleClaim(claim)
    }
  }
}
