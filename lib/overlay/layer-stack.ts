/**
 * A stack of layers that is opened once and mounted many times.
 *
 * It keeps an fd of every layer (and, with an idmap, the tree they lie below), so a mount costs no look at
 * any path of theirs: a layer that is renamed after the stack was opened is still the one that is mounted.
 */

import { existsSync } from 'node:fs'
import { nameOf } from '../diagnose/causes.js'
import { diagnose } from '../diagnose.js'
import { invalidArgType, invalidState, MountError, refine, SyscallError } from '../errors.js'
import { drive, driveAll, driveSync, type Flow } from '../program/flow.js'
import { lgetxattr, llistxattr } from '../sys/file.js'
import { traced, tracedSync } from '../tracing.js'
import { checkCall } from './call-options.js'
import { planCheckUpper } from './check-upper.js'
import { choose, isStaged, type RungName, serves } from './choose.js'
import { compose } from './compose.js'
import { Explanation } from './explanation.js'
import type { Here, Host } from './host.js'
import type { TopAttributes } from './layers.js'
import { closeOpened, type Opened, type OpenOptions, openLayers } from './open.js'
import { checkHere } from './options.js'
import { type Base, nothingKept, planMount } from './plan-mount.js'
import type { Rootfs } from './rootfs.js'
import {
  imageCount,
  type MountSpec,
  parseMount,
  type StackMountOptions,
  type StackOptions,
  type StackSpec,
} from './spec.js'
import { assumedStage } from './staging.js'

/** What opens stacks: a Mounter. An interface, because the arrow points the other way. */
export interface StackOpener {
  open(options: StackOptions, call?: { signal?: AbortSignal }): Promise<LayerStack>
  openSync(options: StackOptions): LayerStack
}

let defaultOpener: (() => StackOpener) | undefined

/** mounter.ts says here what opens a stack where no mounter is given. */
export function setDefaultOpener(opener: () => StackOpener): void {
  defaultOpener = opener
}

/** What a stack that is dropped without close() leaves behind: no reference to the stack itself. */
interface Holdings {
  readonly host: Host
  readonly opened: Opened
  readonly budgeted: number
}

const dropped = new FinalizationRegistry<Holdings>(({ host, opened, budgeted }) => {
  host.budget.giveBack(budgeted)
  closeOpened(host, opened, false)
  process.emitWarning('a LayerStack was garbage collected without close()', {
    code: 'OVERLAYFD_STACK_DROPPED',
  })
})

/** Extended attributes that belong to the layer, not to the directory that it shows. */
const ownXattrs = /^(trusted|user)\.overlay\.|^security\.(evm|ima)$/

function readTop({ top, topFd }: Opened): TopAttributes {
  // the directory itself: an l-call on the name of an fd would look at the symbolic link
  const path = `/proc/self/fd/${topFd}/.`
  const names = llistxattr(path).filter((name) => !ownXattrs.test(name.toString('latin1')))
  return { ...top, xattrs: names.map((name) => [name, lgetxattr(path, name)] as const) }
}

function topFailure(error: SyscallError, { layers }: Opened): MountError {
  const { errno, syscall, call } = error
  const { subject } = layers.list[0]!
  const hint = existsSync('/proc/self/fd')
    ? `create takes over the extended attributes of ${nameOf(subject)}, which cannot be read`
    : 'fds are named through /proc, which is not mounted here'
  return new MountError({ errno: -errno, syscall, call, path: subject.path, hint, cause: error })
}

/** What every mount from these layers starts with. */
export function baseOf(spec: StackSpec, opened: Opened): Base {
  let top: TopAttributes | undefined
  const topFor = (upperdir: Uint8Array): TopAttributes => {
    try {
      top ??= readTop(opened)
      return top
    } catch (error) {
      // an upper that is there takes nothing over
      if (existsSync(Buffer.from(upperdir))) return { ...opened.top, xattrs: [] }
      throw error instanceof SyscallError ? topFailure(error, opened) : error
    }
  }
  return { spec, layers: opened.layers, top: topFor, kept: nothingKept(), stage: opened.stage }
}

/** Opens layers, for a rung if that is known by now; a failure is diagnosed. */
export function* openDiagnosed(
  host: Host,
  spec: StackSpec,
  options: OpenOptions,
  rung?: RungName,
): Flow<Opened> {
  try {
    return yield* openLayers(host, spec, options)
  } catch (error) {
    options.stage?.release()
    throw error instanceof MountError ? refine(diagnose(error, spec, undefined), { rung }) : error
  }
}

/**
 * Opened layers, ready to be mounted. Make one with `LayerStack.open`, and close it.
 *
 * The layers' file system stays busy until `close()`. Mounts made from a stack do not depend on it: it may
 * be closed while they are in use. A layer that is deleted meanwhile is not noticed: later mounts show it empty.
 */
export class LayerStack {
  readonly #host: Host
  readonly #base: Base
  readonly #opened: Opened
  readonly #namespace: number
  readonly #budgeted: number
  #mounting = 0
  #closing: Promise<void> | undefined
  #closed = false
  #drained: (() => void) | undefined

  /** @internal */
  constructor(host: Host, { namespace }: Here, spec: StackSpec, opened: Opened, budgeted: number) {
    this.#host = host
    this.#budgeted = budgeted
    this.#base = baseOf(spec, opened)
    this.#opened = opened
    this.#namespace = namespace
    dropped.register(this, { host, opened, budgeted }, this)
  }

  /** @internal */
  static *openFlow(host: Host, spec: StackSpec): Flow<LayerStack> {
    // fail before anything is opened if no rung will do; a target is not known yet
    const { features, rung, budget } = host
    const images = imageCount(spec)
    const need = { detached: false, images: images > 0 }
    const plain = rung === 'detached-tree' ? undefined : choose({ idmap: false, ...need }, features, rung)
    const mapped =
      spec.idmap || (need.images && !plain) ? choose({ idmap: true, ...need }, features, rung) : undefined
    const mayMap =
      features.openat2 && serves({ idmap: true, ...need, detached: true }, features, rung) !== undefined
    const own = (spec.idmap ? mapped : plain)?.rung
    // the data of mount(2) have no room for names
    const needsFds = !features.openat2 || own === 'classic' || own === 'staged-classic'
    // the root of an image is kept beside its idmapped clone, and has no name to go by
    const imageFds = spec.idmap ? 2 * images : images
    const fds = spec.layers.length - images + imageFds
    const kept = budget.take(fds)
    const byName = !kept && !needsFds
    if (!kept) budget.exceed(imageFds)
    const budgeted = kept ? fds : imageFds
    try {
      const here = host.here()
      const stage = isStaged(own)
        ? yield* host.stage(here, { idmap: spec.idmap !== undefined, ...need })
        : undefined
      if (isStaged(own) && stage === undefined) {
        budget.giveBack(budgeted)
        return yield* LayerStack.openFlow(host, spec)
      }
      const grouped = mayMap || byName
      const opened = yield* openDiagnosed(host, spec, { here, grouped, byName, stage }, mapped?.rung)
      return new LayerStack(host, here, spec, opened, budgeted)
    } catch (error) {
      budget.giveBack(budgeted)
      throw error
    }
  }

  /**
   * Opens layers, checks them, and makes their idmapped tree.
   *
   * Calls openat(2) and statx(2) for each layer and, with an idmap, open_tree_attr(2) once per directory that
   * holds layers and openat2(2) for each layer below it. Costs a grace period at close, none now.
   *
   * @param call whose threads and caches; a signal aborts while layers are opened
   * @throws MountError naming the layer (`lowerdir[3]`): ENOENT, ENOTDIR, EACCES; EINVAL: its file system cannot be
   *   idmapped · RungError if an idmap is asked for and no rung can do it here · TypeError, RangeError
   * @see openat2(2) (Linux 5.6), open_tree(2), mount_setattr(2); open_tree_attr is of Linux 6.15
   */
  static async open(
    options: StackOptions,
    call: { mounter?: StackOpener; signal?: AbortSignal } = {},
  ): Promise<LayerStack> {
    const { mounter = defaultOpener!(), signal } = checkCall(call, ['mounter', 'signal'])
    return mounter.open(options, { signal })
  }

  /** As `open`; blocks. */
  static openSync(options: StackOptions, call: { mounter?: StackOpener } = {}): LayerStack {
    const { mounter = defaultOpener!() } = checkCall(call, ['mounter'])
    return mounter.openSync(options)
  }

  /** How many layers it has, data-only ones included. */
  get layers(): number {
    return this.#base.spec.layers.length
  }

  /**
   * Mounts the stack: one native call on a thread of the mounter.
   *
   * @param options without a target the rootfs stays detached
   * @param signal aborts it before the attach, never after: then nothing is mounted
   * @throws MountError with the failing call · RungError if no rung can do it here · TypeError, RangeError ·
   *   Error ERR_INVALID_STATE after close(), or in another mount namespace than it was opened in
   */
  mount(options: StackMountOptions, call: { signal?: AbortSignal } = {}): Promise<Rootfs> {
    try {
      const { signal } = checkCall(call, ['signal'])
      const spec = parseMount(options, this.#base.spec)
      signal?.throwIfAborted()
      const here = this.#check()
      this.#host.admit(here)
      return traced('mount', spec.target, (trace) => drive(this.#mount(spec, here), signal, trace))
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /** As `mount`; blocks. Calls that change nothing of a thread are made on the calling one. */
  mountSync(options: StackMountOptions): Rootfs {
    const spec = parseMount(options, this.#base.spec)
    const here = this.#check()
    return tracedSync('mount', spec.target, (trace) => driveSync(this.#mount(spec, here), trace))
  }

  /**
   * Mounts it many times: all mounts cross to the addon together, and the composing threads share them. All or
   * none: if one fails, those that were made are unmounted again before the promise rejects.
   *
   * @param options of each mount, as `mount` takes them
   * @returns the handles in the order of `options`
   * @throws what `mount` throws: of several failures the one with the lowest index, and arguments are named
   *   `options[3].target`
   */
  async mountMany(
    options: readonly StackMountOptions[],
    call: { signal?: AbortSignal } = {},
  ): Promise<Rootfs[]> {
    const { signal } = checkCall(call, ['signal'])
    const specs = this.#parseMany(options)
    signal?.throwIfAborted()
    const here = this.#check()
    this.#host.admit(here, specs.length)
    const results = await driveAll(
      specs.map((spec) => this.#mount(spec, here)),
      signal,
    )
    const failed = results.find(({ status }) => status === 'rejected')
    const made = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
    if (failed === undefined) return made
    await Promise.allSettled(made.map((rootfs) => rootfs.unmount()))
    throw (failed as PromiseRejectedResult).reason
  }

  /** As `mountMany`, one after the other; blocks. */
  mountManySync(options: readonly StackMountOptions[]): Rootfs[] {
    const specs = this.#parseMany(options)
    const here = this.#check()
    const made: Rootfs[] = []
    try {
      for (const spec of specs) made.push(driveSync(this.#mount(spec, here)))
      return made
    } catch (error) {
      for (const rootfs of made) {
        try {
          rootfs.unmountSync()
        } catch {
          // it must not keep the others up, and the caller is told of the mount that failed
        }
      }
      throw error
    }
  }

  #parseMany(options: readonly StackMountOptions[]): MountSpec[] {
    if (!Array.isArray(options)) throw invalidArgType('options', 'an array of mount options', options)
    const { features } = this.#host
    return Array.from(options, (each, i) => {
      const spec = parseMount(each, this.#base.spec, `options[${i}]`)
      checkHere(spec.options, features, `options[${i}].options`)
      return spec
    })
  }

  *#mount(spec: MountSpec, here: Here): Flow<Rootfs> {
    this.#mounting++
    try {
      return yield* compose(this.#host, here, this.#base, spec)
    } finally {
      if (--this.#mounting === 0) this.#drained?.()
    }
  }

  /** The plan of such a mount, with what it costs. Nothing is done. */
  explain(options: StackMountOptions): Explanation {
    const spec: MountSpec = parseMount(options, this.#base.spec)
    this.#check()
    const stage = this.#base.stage.lease ? this.#base.stage : { lease: assumedStage }
    const { rung, composition } = planMount(this.#host, { ...this.#base, stage }, spec)
    const { checkUpper } = spec
    const plans = checkUpper ? [planCheckUpper(spec, this.#host.features)] : []
    return new Explanation(rung, [...plans, composition.plan])
  }

  /**
   * Closes the layers' fds and their trees, after the mounts that are being made. Resolves when they are
   * closed: the device below can be unmounted then. Once; later calls wait for the first.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  /** As `close`; blocks. ERR_INVALID_STATE while mounts are being made. */
  closeSync(): void {
    if (this.#closing) return
    if (this.#mounting > 0) throw invalidState('mounts of this stack are being made: close() waits for them')
    this.#closing = Promise.resolve()
    driveSync(this.#release())
  }

  async #close(): Promise<void> {
    this.#closed = true
    if (this.#mounting > 0) await new Promise<void>((resolve) => (this.#drained = resolve))
    await drive(this.#release())
  }

  *#release(): Flow<void> {
    this.#closed = true
    dropped.unregister(this)
    this.#host.budget.giveBack(this.#budgeted)
    closeOpened(this.#host, this.#opened, false)
    yield* this.#host.flush()
  }

  [Symbol.dispose](): void {
    this.closeSync()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #check(): Here {
    if (this.#closed) throw invalidState('the stack is closed')
    const here = this.#host.here()
    if (this.#namespace !== here.namespace) {
      throw invalidState('the stack was opened in another mount namespace than the caller is in now')
    }
    return here
  }
}
