/**
 * What stands behind a Mounter: pools per mount namespace, caches, the reaper, and what was found missing.
 *
 * Composing threads are few, because contended locks get slower with more; reaping threads are more,
 * because they wait for RCU grace periods, which waiters share. Both are made by the calling JS thread when
 * they are first needed, one pair of pools per mount namespace: a caller who moved to another namespace
 * never mounts in the old one.
 */
import { availableParallelism } from 'node:os'
import { binding } from '../binding.js'
import { invalidArgType, invalidState, MountError, movedOn, outOfRange, queueFull } from '../errors.js'
import { type Features, features, withChanges } from '../host/features.js'
import { type Placement, type PlacementOptions, placeComposers } from '../host/topology/placement.js'
import { topology } from '../host/topology.js'
import type { Idmap } from '../idmap.js'
import { choose, type Need, parseRung, type RungChoice } from '../overlay/choose.js'
import { FdBudget } from '../overlay/fd-budget.js'
import type { Here, Host, Leftovers, StageLease } from '../overlay/host.js'
import { ImageCache } from '../overlay/image-cache.js'
import { MappingCache, type MappingLease } from '../overlay/mappings.js'
import { ownMark } from '../overlay/owner-mark.js'
import type { Flow } from '../program/flow.js'
import type { Plan } from '../program/plan.js'
import { Pool } from '../program/pool.js'
import { Reaper } from './reaper.js'
import { Stage } from './stage.js'

/** Settings of a Mounter. */
export interface MounterOptions {
  /** forces a rung; the variable OVERLAYFD_RUNG does so for the process, and this option wins over it */
  rung?: RungChoice
  /** composing threads, 1 to 256; default: one a physical core of one L3 domain, at most 4 (`mounter.placement`) */
  threads?: number
  /** reaping threads; default: 4 for each CPU of the process, at least 8, at most 16 */
  reapers?: number
  /**
   * how many mounts may wait for a thread; default 16384. One more is refused with ERR_OVERLAYFD_QUEUE_FULL, and
   * `mounter.ready()` says when there is room
   */
  maxQueued?: number
  /**
   * fds of layers that open stacks may keep, all together; default 8192. A stack that does not fit is mounted by
   * name: a statx a layer more, and a layer renamed after the stack was opened is ESTALE or ENOENT
   */
  maxLayerFds?: number
  /** CPUs that the composing threads may run on, of those that the process may use; default: `mounter.placement` */
  cpus?: readonly number[]
}

/** What the threads of a mounter are doing. */
export interface ThreadStats {
  /** how many there are, once they have been started */
  readonly threads: number
  /** programs that wait for a thread */
  readonly queued: number
  /** mounts that wait before they open their layers */
  readonly waiting: number
  /** mounts that wait for an upper whose last mount is still being taken down */
  readonly parked: number
  /** programs that are being run */
  readonly running: number
  /** most programs that ever waited for a thread at a time */
  readonly mostQueued: number
  /** programs that have been run */
  readonly ran: number
}

/** What a mounter is doing: `mounter.stats`. */
export interface MounterStats {
  /** threads that mount */
  readonly composing: ThreadStats
  /** threads that unmount and close */
  readonly reaping: ThreadStats
  /** threads that mount and unmount inside other mount namespaces; made when there is something to do there */
  readonly visiting: ThreadStats
  /** what is collected, to be closed together */
  readonly collected: { readonly trees: number; readonly fds: number }
}

function count(value: unknown, name: string, fallback: number, min = 1, max = 256): number {
  if (value === undefined) return fallback
  if (typeof value !== 'number') throw invalidArgType(name, 'number', value)
  if (!Number.isInteger(value) || value < min || value > max)
    throw outOfRange(name, `a whole number from ${min} to ${max}`, value)
  return value
}

/** They mostly wait, for grace periods that they share; on 2 CPUs 16 of them cost more in switches than they share. */
const defaultReapers = (): number => Math.min(16, Math.max(8, 4 * availableParallelism()))

/** More than compose, because a container may hold one for as long as it likes. */
const visitingThreads = 8

/** The pools of one mount namespace. */
class Pools implements Here {
  readonly namespace: number
  readonly composing: Pool
  readonly reaping: Pool
  visitors: Pool | undefined

  constructor(namespace: number, { threads, cpus }: Placement, reapers: number) {
    this.namespace = namespace
    this.composing = new Pool({ name: 'ofd-compose', threads, cpus })
    try {
      this.reaping = new Pool({ name: 'ofd-reap', threads: reapers, cpus: [] })
    } catch (error) {
      // where threads are few, it must not keep those that nobody has
      this.composing.close()
      throw error
    }
  }

  get visiting(): Pool {
    if (this.visitors === undefined) {
      // its threads begin where the caller is
      if (binding.mountNamespace() !== this.namespace) throw movedOn()
      const threads = visitingThreads
      // they are many already, and such a mount has up to 29 fds
      this.visitors = new Pool({ name: 'ofd-visit', threads, cpus: [], lanes: threads })
    }
    return this.visitors
  }

  get mounting(): number {
    return this.composing.pending + (this.visitors?.pending ?? 0)
  }

  /** True once a thread could not be brought back from another namespace. */
  get isSpoilt(): boolean {
    return this.composing.isSpoilt || this.reaping.isSpoilt || this.visitors?.isSpoilt === true
  }
}

export class MounterHost implements Host {
  readonly rung: RungChoice
  readonly budget: FdBudget
  readonly mappings = new MappingCache((leftovers) => this.discard(leftovers))
  readonly images = new ImageCache((leftovers) => this.discard(leftovers))
  readonly #reapers: number
  readonly #maxQueued: number
  readonly #asked: PlacementOptions
  #placement: Placement | undefined
  readonly #pools = new Map<number, Pools>()
  readonly #reaper = new Reaper((plan) => this.later(plan))
  /** by mount namespace */
  readonly #stages = new Map<number, Stage>()
  #lacking: Partial<Record<keyof Features, string>> = {}
  #reduced: { readonly from: Features; readonly features: Features } | undefined

  constructor(options: MounterOptions) {
    this.rung = parseRung(
      options.rung === undefined ? process.env['OVERLAYFD_RUNG'] : options.rung,
      options.rung === undefined ? 'OVERLAYFD_RUNG' : 'options.rung',
    )
    const { threads, cpus } = options
    this.#asked = {
      ...(threads !== undefined && { threads }),
      ...(cpus !== undefined && { cpus }),
    }
    // what was asked for must be possible; what is chosen can wait until it is needed
    if (threads !== undefined || cpus !== undefined) this.#placement = placeComposers(topology(), this.#asked)
    this.#reapers = count(options.reapers, 'options.reapers', defaultReapers())
    this.#maxQueued = count(options.maxQueued, 'options.maxQueued', 16_384, 1, 1_000_000)
    this.budget = new FdBudget(count(options.maxLayerFds, 'options.maxLayerFds', 8192, 0, 1_000_000))
  }

  get mark(): string | undefined {
    return ownMark()
  }

  get placement(): Placement {
    this.#placement ??= placeComposers(topology(), this.#asked)
    return this.#placement
  }

  get features(): Features {
    const found = features()
    if (this.#reduced === undefined) return found
    // one object for as long as it says the same: plans are kept by it
    if (this.#reduced.from !== found) this.#reduced = { from: found, features: this.#reduce(found) }
    return this.#reduced.features
  }

  #reduce(found: Features): Features {
    const absent = Object.fromEntries(Object.keys(this.#lacking).map((name) => [name, false]))
    return withChanges(found, { ...absent, reasons: { ...found.reasons, ...this.#lacking } })
  }

  get stats(): MounterStats {
    const heres = [...this.#pools.values()]
    return {
      composing: statsOf(
        heres.map(({ composing }) => composing),
        this.placement.threads,
      ),
      reaping: statsOf(
        heres.map(({ reaping }) => reaping),
        this.#reapers,
      ),
      visiting: statsOf(
        heres.flatMap(({ visitors }) => visitors ?? []),
        visitingThreads,
      ),
      collected: this.#reaper.collected,
    }
  }

  /** Throws if too many mounts wait already. */
  admit({ composing, mounting }: Here, mounts = 1): void {
    const free = this.#maxQueued + composing.threads - mounting
    if (mounts > free) throw queueFull(mounts, Math.max(0, free), this.#maxQueued)
  }

  ready(signal: AbortSignal | undefined): Promise<void> {
    const { composing } = this.here()
    return composing.fewerThan(composing.threads + Math.min(composing.threads, this.#maxQueued), signal)
  }

  here(): Here {
    const namespace = binding.mountNamespace()
    if (namespace === 0)
      throw invalidState('/proc is not mounted: the mount namespace of the caller cannot be told')
    const kept = this.#pools.get(namespace)
    if (kept !== undefined && !kept.isSpoilt) return kept
    const here = new Pools(namespace, this.placement, this.#reapers)
    this.#pools.set(namespace, here)
    if (kept !== undefined) void this.#retire([kept])
    return here
  }

  reapingIn(namespace: number): Pool | undefined {
    const kept = this.#pools.get(namespace)
    if (kept !== undefined && !kept.isSpoilt) return kept.reaping
    const here = this.here()
    return here.namespace === namespace ? here.reaping : undefined
  }

  mapping(idmap: Idmap): MappingLease {
    return this.mappings.lease(idmap)
  }

  *stage(here: Here, need: Need): Flow<StageLease | undefined> {
    let stage = this.#stages.get(here.namespace)
    if (stage === undefined) {
      stage = new Stage(here.namespace, this)
      this.#stages.set(here.namespace, stage)
    }
    // it is made on a thread of its own, and what comes next on one of these
    const release = here.composing.hold()
    try {
      return yield* stage.enter()
    } catch (error) {
      const means = error instanceof MountError ? refusals[error.code] : undefined
      if (means === undefined) throw error
      const { code, call } = error as MountError
      if (means === 'missing') {
        this.#without('mountNamespaces', error as MountError)
        return undefined
      }
      const reasons = { ...this.features.reasons, mountNamespaces: `${code} this time: ${call}` }
      choose(need, withChanges(this.features, { mountNamespaces: false, reasons }), this.rung)
      // another rung would do: who had that choice did not ask for a staging namespace
      throw error
    } finally {
      release()
    }
  }

  forgetStage(namespace: number, stage: Stage): void {
    if (this.#stages.get(namespace) === stage) this.#stages.delete(namespace)
  }

  reapingFor(namespace: number): { pool: Pool; isHome: boolean } {
    const home = this.#pools.get(namespace)
    return { pool: (home ?? this.here()).reaping, isHome: home !== undefined }
  }

  discard(leftovers: Leftovers): void {
    this.#reaper.add(leftovers)
  }

  *flush(): Flow<void> {
    const pool = this.here().reaping
    for (const stage of this.#stages.values()) yield* stage.flush()
    for (const plan of this.#reaper.take()) yield { plan, pool, abortable: false }
  }

  lacks(error: MountError): boolean {
    const feature = featureOf[error.syscall]
    if (error.code !== 'ENOSYS' || feature === undefined || this.#lacking[feature]) return false
    this.#without(feature, error)
    return true
  }

  #without(feature: keyof Features, { code, call }: MountError): void {
    this.#lacking = { ...this.#lacking, [feature]: `${code} at its first use: ${call}` }
    const from = features()
    this.#reduced = { from, features: this.#reduce(from) }
  }

  async idle(): Promise<void> {
    let busy: boolean
    do {
      for (const stage of this.#stages.values()) stage.send()
      this.#reaper.send()
      busy =
        (await wereBusy(this.#pools)) ||
        this.#reaper.waiting ||
        [...this.#stages.values()].some((stage) => stage.waiting)
    } while (busy)
  }

  /**
   * Twice: a call that was under way may have left what the first round would have closed. Namespaces that the
   * caller has left go too: their threads would keep them alive.
   */
  async trim(): Promise<void> {
    for (let round = 0; round < 2; round++) {
      this.mappings.trim()
      this.images.trim()
      for (const stage of this.#stages.values()) stage.trim()
      await this.idle()
    }
    const namespace = binding.mountNamespace()
    await this.#end((here) => here.namespace !== namespace)
  }

  async close(): Promise<void> {
    await this.trim()
    await this.#end(() => true)
  }

  /** Ends pools. They are taken away first, so that what starts meanwhile gets new ones. */
  async #end(which: (here: Here) => boolean): Promise<void> {
    const ending = [...this.#pools.values()].filter(which)
    for (const { namespace } of ending) this.#pools.delete(namespace)
    await this.#retire(ending)
  }

  /** Ends pools, some of whose threads may be lost, when they have done what was queued: a mount goes from one to another. */
  async #retire(ending: readonly Pools[]): Promise<void> {
    while (await wereBusy(ending));
    for (const pool of poolsOf(ending)) pool.close()
  }

  /** Nobody waits for it. What was not accepted is closed here and now. */
  later(plan: Plan): void {
    let isAccepted = false
    try {
      isAccepted = this.here().reaping.start({ plan }, () => {})
    } catch {
      // no thread could be had
    }
    if (!isAccepted) for (const [, fd] of plan.inputs) binding.closeOwned(fd)
  }
}

function statsOf(pools: readonly Pool[], threads: number): ThreadStats {
  const total = { threads, queued: 0, waiting: 0, parked: 0, running: 0, mostQueued: 0, ran: 0 }
  for (const { counts } of pools) {
    total.queued += counts.queued
    total.waiting += counts.waiting
    total.parked += counts.parked
    total.running += counts.running
    total.mostQueued = Math.max(total.mostQueued, counts.mostQueued)
    total.ran += counts.ran
  }
  return total
}

const poolsOf = (heres: Iterable<Pools>): Pool[] =>
  [...heres].flatMap(({ composing, reaping, visitors }) =>
    visitors ? [composing, reaping, visitors] : [composing, reaping],
  )

/** Waits until nothing of them is under way; false if nothing was. */
async function wereBusy(heres: { values(): Iterable<Pools> }): Promise<boolean> {
  const settled = await Promise.all(poolsOf(heres.values()).map((pool) => pool.settle()))
  await nextTurn()
  return settled.includes(true) || poolsOf(heres.values()).some((pool) => pool.pending > 0)
}

/** What has ended may go on with another program: it has by then. */
const nextTurn = () => new Promise((resolve) => setImmediate(resolve))

/**
 * What an errno says when the staging namespace is set up. The right to mount was there when it was asked for.
 *
 *   ENOSYS   a call is not there, and will not be: a filter that hides it stays. The mounter does without from now on
 *   EPERM    a filter, which would stay; or a security module, or a right that the process has not got at the moment,
 *            which may pass. This mount is refused, and the next one tries again
 *   others   the machine is short of something: the error is this mount's
 */
const refusals: Readonly<Record<string, 'missing' | 'refused'>> = { ENOSYS: 'missing', EPERM: 'refused' }

/** Which feature a call that is not there takes away. */
const featureOf: Readonly<Record<string, keyof Features>> = {
  fsopen: 'fsContext',
  fsconfig: 'fsContext',
  fsmount: 'fsContext',
  move_mount: 'fsContext',
  open_tree: 'openTree',
  open_tree_attr: 'openTreeAttr',
  mount_setattr: 'mountSetattr',
  openat2: 'openat2',
}
