/**
 * A Mounter owns the threads and the caches; everything that mounts belongs to one.
 */
import { checkKeys } from './check.js'
import type { Features } from './host/features.js'
import type { Placement } from './host/topology/placement.js'
import { holders, holding, mustBeIdle } from './mount/hold.js'
import { makeBind, makeTmpfs } from './mount/make.js'
import { Mount, setDefaultMountOpener } from './mount/mount.js'
import {
  type BindOptions,
  parseBind,
  parseTmpfsMount,
  sourceSpot,
  type TmpfsMountOptions,
} from './mount/spec.js'
import { MounterHost, type MounterOptions, type MounterStats } from './mounter/host.js'
import { checkCall } from './overlay/call-options.js'
import { choose, isStaged, type RungChoice } from './overlay/choose.js'
import { compose } from './overlay/compose.js'
import type { Here } from './overlay/host.js'
import { baseOf, LayerStack, openDiagnosed, setDefaultOpener } from './overlay/layer-stack.js'
import { MountGroup, setDefaultGroupOpener } from './overlay/mount-group.js'
import { closeOpened } from './overlay/open.js'
import { checkHere } from './overlay/options.js'
import { needOf } from './overlay/plan-mount.js'
import { type Leftover, type ReconcileOptions, reconcileFlow } from './overlay/reconcile.js'
import { Rootfs, setDefaultRootfsOpener } from './overlay/rootfs.js'
import {
  type MountSpec,
  type OverlayMountOptions,
  parseOverlay,
  parseStack,
  type StackOptions,
  type StackSpec,
} from './overlay/spec.js'
import type { PathLike } from './path.js'
import { drive, driveSync, type Flow } from './program/flow.js'
import { traced, tracedSync } from './tracing.js'

export type { Placement } from './host/topology/placement.js'
export type { MounterOptions, MounterStats, ThreadStats } from './mounter/host.js'

const known = ['rung', 'threads', 'reapers', 'maxQueued', 'cpus', 'maxLayerFds'] as const

/**
 * Threads, caches and settings behind everything that mounts. `Mounter.default` is what the plain functions
 * use; make another one to force a rung or to choose threads.
 *
 * It never keeps the process alive on its own. Work that is under way does, as file I/O would.
 */
export class Mounter {
  static #default: Mounter | undefined

  readonly #host: MounterHost

  constructor(options: MounterOptions = {}) {
    this.#host = new MounterHost(checkKeys(options, 'options', known))
  }

  /** The one that is used where none is given; made at its first use. */
  static get default(): Mounter {
    Mounter.#default ??= new Mounter()
    return Mounter.#default
  }

  /** The rung that was asked for. */
  get rung(): RungChoice {
    return this.#host.rung
  }

  /** What the kernel was found to do; calls that failed as missing at their first use are false. */
  get features(): Features {
    return this.#host.features
  }

  /**
   * On which CPUs the composing threads run, how many there are, and why, in words. Mounts take locks that there are
   * once in the kernel: passing them on is cheap within one L3 domain, and with more threads they get slower. Set
   * `threads` and `cpus` to have it another way.
   */
  get placement(): Placement {
    return this.#host.placement
  }

  /** What is queued, running and collected at this moment. */
  get stats(): MounterStats {
    return this.#host.stats
  }

  /**
   * Resolves when a mount that is started now finds a thread soon: when fewer than twice as many mounts are under way
   * as there are composing threads. Who starts many awaits it before each, so that they do not pile up here; or
   * gives them to `stack.mountMany` in batches.
   *
   * @throws the signal's reason
   */
  async ready(call: { signal?: AbortSignal } = {}): Promise<void> {
    const { signal } = checkCall(call, ['signal'])
    return this.#host.ready(signal)
  }

  /** @see mountOverlay */
  async mount(options: OverlayMountOptions, call: { signal?: AbortSignal } = {}): Promise<Rootfs> {
    const { signal } = checkCall(call, ['signal'])
    const { stack, mount } = parseOverlay(options)
    signal?.throwIfAborted()
    return traced('mount', mount.target, async (trace) => {
      const here = this.#admit(stack, mount)
      const { lanes } = mount.inside ? here.visiting : here.composing
      return lanes.drive(this.#once(here, stack, mount), signal, trace)
    })
  }

  /** @see mountOverlaySync */
  mountSync(options: OverlayMountOptions): Rootfs {
    const { stack, mount } = parseOverlay(options)
    return tracedSync('mount', mount.target, (trace) =>
      driveSync(this.#once(this.#admit(stack, mount), stack, mount), trace),
    )
  }

  /** What is refused whatever the directories are is refused at the call, and the namespace is the caller's of then. */
  #admit(stack: StackSpec, mount: MountSpec): Here {
    const host = this.#host
    choose(needOf(stack, mount), host.features, host.rung)
    checkHere(mount.options, host.features, 'options.options')
    const here = host.here()
    host.admit(here)
    return here
  }

  *#once(here: Here, stack: StackSpec, mount: MountSpec): Flow<Rootfs> {
    const host = this.#host
    const need = needOf(stack, mount)
    const { rung } = choose(need, host.features, host.rung)
    const stage = isStaged(rung) ? yield* host.stage(here, need) : undefined
    if (isStaged(rung) && stage === undefined) return yield* this.#once(here, stack, mount)
    const opened = yield* openDiagnosed(host, stack, { here, grouped: false, byName: false, stage }, rung)
    try {
      return yield* compose(host, here, baseOf(stack, opened), mount)
    } finally {
      closeOpened(host, opened, true)
    }
  }

  /** @see LayerStack.open */
  async open(options: StackOptions, call: { signal?: AbortSignal } = {}): Promise<LayerStack> {
    const { signal } = checkCall(call, ['signal'])
    const spec = parseStack(options)
    signal?.throwIfAborted()
    return drive(LayerStack.openFlow(this.#host, spec), signal)
  }

  /** @see LayerStack.openSync */
  openSync(options: StackOptions): LayerStack {
    return driveSync(LayerStack.openFlow(this.#host, parseStack(options)))
  }

  /** @see MountGroup.open */
  async openGroup(target: PathLike, call: { signal?: AbortSignal } = {}): Promise<MountGroup> {
    const { signal } = checkCall(call, ['signal'])
    const flow = MountGroup.openFlow(this.#host, target)
    signal?.throwIfAborted()
    return drive(flow, signal)
  }

  /** @see MountGroup.openSync */
  openGroupSync(target: PathLike): MountGroup {
    return driveSync(MountGroup.openFlow(this.#host, target))
  }

  /** @see Mount.open */
  async openMount(json: unknown, call: { signal?: AbortSignal } = {}): Promise<Mount> {
    const { signal } = checkCall(call, ['signal'])
    const flow = Mount.openFlow(this.#host, json)
    signal?.throwIfAborted()
    return drive(flow, signal)
  }

  /** @see Mount.openSync */
  openMountSync(json: unknown): Mount {
    return driveSync(Mount.openFlow(this.#host, json))
  }

  /** @see Rootfs.open */
  async openRootfs(json: unknown, call: { signal?: AbortSignal } = {}): Promise<Rootfs> {
    const { signal } = checkCall(call, ['signal'])
    const flow = Rootfs.openFlow(this.#host, json)
    signal?.throwIfAborted()
    return drive(flow, signal)
  }

  /** @see Rootfs.openSync */
  openRootfsSync(json: unknown): Rootfs {
    return driveSync(Rootfs.openFlow(this.#host, json))
  }

  /** @see Rootfs.fromFd */
  async takeRootfs(fd: number, call: { signal?: AbortSignal } = {}): Promise<Rootfs> {
    const { signal } = checkCall(call, ['signal'])
    const flow = Rootfs.takeFlow(this.#host, fd)
    signal?.throwIfAborted()
    return drive(flow, signal)
  }

  /** @see Rootfs.fromFdSync */
  takeRootfsSync(fd: number): Rootfs {
    return driveSync(Rootfs.takeFlow(this.#host, fd))
  }

  /** @see reconcile */
  async reconcile(
    dir: PathLike,
    options: ReconcileOptions = {},
    call: { signal?: AbortSignal } = {},
  ): Promise<Leftover[]> {
    const { signal } = checkCall(call, ['signal'])
    const flow = reconcileFlow(this.#host, dir, options)
    signal?.throwIfAborted()
    return drive(flow, signal)
  }

  /** @see reconcileSync */
  reconcileSync(dir: PathLike, options: ReconcileOptions = {}): Leftover[] {
    return driveSync(reconcileFlow(this.#host, dir, options))
  }

  /** @see mountBind */
  async mountBind(options: BindOptions, call: { signal?: AbortSignal } = {}): Promise<Mount> {
    const { signal } = checkCall(call, ['signal'])
    const spec = parseBind(options)
    signal?.throwIfAborted()
    const mounts = holders(undefined, sourceSpot(spec), spec.target)
    return traced('mount', spec.target?.path, (trace) =>
      holding(mounts, () => drive(makeBind(this.#host, spec), signal, trace)),
    )
  }

  /** @see mountBindSync */
  mountBindSync(options: BindOptions): Mount {
    const spec = parseBind(options)
    mustBeIdle(holders(undefined, sourceSpot(spec), spec.target))
    return tracedSync('mount', spec.target?.path, (trace) => driveSync(makeBind(this.#host, spec), trace))
  }

  /** @see mountTmpfs */
  async mountTmpfs(options: TmpfsMountOptions = {}, call: { signal?: AbortSignal } = {}): Promise<Mount> {
    const { signal } = checkCall(call, ['signal'])
    const spec = parseTmpfsMount(options)
    signal?.throwIfAborted()
    const mounts = holders(undefined, spec.target)
    return traced('mount', spec.target?.path, (trace) =>
      holding(mounts, () => drive(makeTmpfs(this.#host, spec), signal, trace)),
    )
  }

  /** @see mountTmpfsSync */
  mountTmpfsSync(options: TmpfsMountOptions = {}): Mount {
    const spec = parseTmpfsMount(options)
    mustBeIdle(holders(undefined, spec.target))
    return tracedSync('mount', spec.target?.path, (trace) => driveSync(makeTmpfs(this.#host, spec), trace))
  }

  /**
   * Resolves when nothing of this mounter is under way: no mount, no unmount, no close that waits for a grace
   * period. Superblocks of mounts that were unmounted are gone then, unless something still uses them.
   */
  idle(): Promise<void> {
    return this.#host.idle()
  }

  /** Closes what is kept for the next call: trees of mappings and images that no open stack uses. Resolves when they are closed. */
  trim(): Promise<void> {
    return this.#host.trim()
  }

  /**
   * Waits as `idle` does and ends the threads. Stacks that are open stay so, and a later call starts threads
   * again; a mounter that is dropped is closed when it is collected.
   */
  close(): Promise<void> {
    return this.#host.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

setDefaultOpener(() => Mounter.default)
setDefaultGroupOpener(() => Mounter.default)
setDefaultMountOpener(() => Mounter.default)
setDefaultRootfsOpener(() => Mounter.default)
