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
import { invalidArgType, invalidState, type MountError, outOfRange } from '../errors.js'
import { type Features, features } from '../host/features.js'
import type { Idmap } from '../idmap.js'
import { parseRung, type RungChoice } from '../overlay/choose.js'
import { FdBudget } from '../overlay/fd-budget.js'
import type { Here, Host, Leftovers } from '../overlay/host.js'
import { MappingCache, type MappingLease } from '../overlay/mappings.js'
import { uppersInUse } from '../overlay/uppers.js'
import type { Flow } from '../program/flow.js'
import type { Plan } from '../program/plan.js'
import { Pool } from '../program/pool.js'
import { Reaper } from './reaper.js'

/** Settings of a Mounter. */
export interface MounterOptions {
  /** forces a rung; the variable OVERLAYFD_RUNG does so for the process, and this option wins over it */
  rung?: RungChoice
  /** composing threads; default: one per two CPUs of the process, at least 2, at most 4 */
  threads?: number
  /** reaping threads; default 16 */
  reapers?: number
  /**
   * fds of layers that open stacks may keep, all together; default 8192. A stack that does not fit is mounted by
   * name: a statx a layer more, and a layer renamed after the stack was opened is ESTALE or ENOENT
   */
  maxLayerFds?: number
  /** CPUs that the composing threads may run on; default: those of the calling thread */
  cpus?: readonly number[]
}

function count(value: unknown, name: string, fallback: number, min = 1, max = 256): number {
  if (value === undefined) return fallback
  if (typeof value !== 'number') throw invalidArgType(name, 'number', value)
  if (!Number.isInteger(value) || value < min || value > max)
    throw outOfRange(name, `a whole number from ${min} to ${max}`, value)
  return value
}

/** What the C library's cpu_set_t holds. */
const maxCpu = 1023

function checkCpus(value: unknown): readonly number[] {
  if (value === undefined) return []
  if (!Array.isArray(value)) throw invalidArgType('options.cpus', 'an array of CPU numbers', value)
  for (const [i, cpu] of value.entries()) {
    if (typeof cpu !== 'number') throw invalidArgType(`options.cpus[${i}]`, 'number', cpu)
    if (!Number.isInteger(cpu) || cpu < 0 || cpu > maxCpu) {
      throw outOfRange(`options.cpus[${i}]`, `a whole number from 0 to ${maxCpu}`, cpu)
    }
  }
  return [...value]
}

export class MounterHost implements Host {
  readonly rung: RungChoice
  readonly uppers = uppersInUse
  readonly budget: FdBudget
  readonly mappings = new MappingCache((leftovers) => this.discard(leftovers))
  readonly #threads: number
  readonly #reapers: number
  readonly #cpus: readonly number[]
  readonly #pools = new Map<number, Here>()
  readonly #reaper = new Reaper((plan) => this.#closeLater(plan))
  #lacking: Partial<Record<keyof Features, string>> = {}

  constructor(options: MounterOptions) {
    this.rung = parseRung(
      options.rung === undefined ? process.env['OVERLAYFD_RUNG'] : options.rung,
      options.rung === undefined ? 'OVERLAYFD_RUNG' : 'options.rung',
    )
    this.#threads = count(
      options.threads,
      'options.threads',
      Math.min(4, Math.max(2, availableParallelism() >> 1)),
    )
    this.#reapers = count(options.reapers, 'options.reapers', 16)
    this.#cpus = checkCpus(options.cpus)
    this.budget = new FdBudget(count(options.maxLayerFds, 'options.maxLayerFds', 8192, 0, 1_000_000))
  }

  get features(): Features {
    const found = features()
    if (Object.keys(this.#lacking).length === 0) return found
    const absent = Object.fromEntries(Object.keys(this.#lacking).map((name) => [name, false]))
    return { ...found, ...absent, reasons: { ...found.reasons, ...this.#lacking } }
  }

  here(): Here {
    const namespace = binding.mountNamespace()
    if (namespace === 0)
      throw invalidState('/proc is not mounted: the mount namespace of the caller cannot be told')
    let here = this.#pools.get(namespace)
    if (here === undefined) {
      here = {
        namespace,
        composing: new Pool({ name: 'ofd-compose', threads: this.#threads, cpus: this.#cpus }),
        reaping: new Pool({ name: 'ofd-reap', threads: this.#reapers, cpus: [] }),
      }
      this.#pools.set(namespace, here)
    }
    return here
  }

  mapping(idmap: Idmap): MappingLease {
    return this.mappings.lease(idmap)
  }

  discard(leftovers: Leftovers): void {
    this.#reaper.add(leftovers)
  }

  *flush(): Flow<void> {
    const pool = this.here().reaping
    for (const plan of this.#reaper.take()) yield { plan, pool, abortable: false }
  }

  lacks(error: MountError): boolean {
    const feature = featureOf[error.syscall]
    if (error.code !== 'ENOSYS' || feature === undefined || this.#lacking[feature]) return false
    this.#lacking = { ...this.#lacking, [feature]: `ENOSYS at its first use: ${error.call}` }
    return true
  }

  async idle(): Promise<void> {
    let busy: boolean
    do {
      this.#reaper.send()
      const pools = poolsOf(this.#pools.values())
      const settled = await Promise.all(pools.map((pool) => pool.settle()))
      await nextTurn()
      busy =
        settled.includes(true) ||
        this.#reaper.waiting ||
        poolsOf(this.#pools.values()).some((pool) => pool.busy)
    } while (busy)
  }

  /**
   * Twice: a call that was under way may have left what the first round would have closed. Namespaces that the
   * caller has left go too: their threads would keep them alive.
   */
  async trim(): Promise<void> {
    for (let round = 0; round < 2; round++) {
      this.mappings.trim()
      await this.idle()
    }
    const { namespace } = this.here()
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
    for (const pool of poolsOf(ending)) {
      while ((await pool.settle()) || pool.busy) await nextTurn()
      pool.close()
    }
  }

  /** Nobody waits for it. What was not accepted, because no thread could be had, is closed here and now. */
  #closeLater(plan: Plan): void {
    const closeNow = () => {
      for (const [, fd] of plan.inputs) binding.closeOwned(fd)
    }
    try {
      this.here().reaping.run(plan).catch(closeNow)
    } catch {
      closeNow()
    }
  }
}

const poolsOf = (heres: Iterable<Here>): Pool[] =>
  [...heres].flatMap(({ composing, reaping }) => [composing, reaping])

/** What has ended may go on with another program: it has by then. */
const nextTurn = () => new Promise((resolve) => setImmediate(resolve))

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
