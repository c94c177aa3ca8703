/**
 * The staging namespace of one mount namespace: made when a rung first needs it, gone when none has for a second.
 *
 * It holds nothing of the caller's but the idmapped trees of mappings in use, which leave with their mapping as
 * detached ones do (mappings.ts): a device below them is free again after `close()` of the stack, after
 * `mounter.trim()`, or a second after a call that had no stack.
 *
 *   lease      a stack, or a call, that may be in it
 *   under way  programs that take trees out of it; its fds outlive both
 */
import { binding } from '../binding.js'
import { diagnoseAttach } from '../diagnose.js'
import { movedOn } from '../errors.js'
import type { Leftovers, StageLease } from '../overlay/host.js'
import { MappingCache } from '../overlay/mappings.js'
import { chrooted, planStaging, planUnstage, type Staging, stagingOf } from '../overlay/staging.js'
import type { Flow } from '../program/flow.js'
import { UnexpectedError } from '../program/outcome.js'
import type { Plan } from '../program/plan.js'
import { Pool } from '../program/pool.js'

const lingerMs = 1000
const EINVAL = 22

/** What a stage needs of the mounter. */
export interface StageOwner {
  discard(leftovers: Leftovers): void
  /** a pool for closing, and whether it is in the stage's own mount namespace */
  reapingFor(namespace: number): { readonly pool: Pool; readonly isHome: boolean }
  /** who needs one next makes another */
  forgetStage(namespace: number, stage: Stage): void
}

export class Stage {
  readonly #namespace: number
  readonly #owner: StageOwner
  readonly #mappings = new MappingCache((leftovers) => this.#discard(leftovers), lingerMs)
  #staging: Staging | undefined
  #leases = 0
  #underWay = 0
  #trees: number[] = []
  #timer: NodeJS.Timeout | undefined
  #soon = false

  /** `namespace`: number of the mount namespace that it is made from */
  constructor(namespace: number, owner: StageOwner) {
    this.#namespace = namespace
    this.#owner = owner
  }

  /** The namespace, made if it is not there. */
  *enter(): Flow<StageLease> {
    this.#leases++
    clearTimeout(this.#timer)
    this.#timer = undefined
    try {
      if (this.#staging === undefined) {
        const made = yield* setUp(this.#namespace)
        // another call may have made one meanwhile
        if (this.#staging === undefined) this.#staging = stagingOf(made)
        else this.#owner.discard({ fds: made })
      }
    } catch (error) {
      this.#release()
      throw error
    }
    return this.#lease(this.#staging)
  }

  #lease(staging: Staging): StageLease {
    let held = true
    return {
      staging,
      mapping: (idmap) => this.#mappings.lease(idmap),
      takeDown: (trees) => this.#discard({ trees }),
      release: () => {
        if (held) this.#release()
        held = false
      },
    }
  }

  #release(): void {
    if (--this.#leases > 0) return
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.trim(), lingerMs).unref()
  }

  /** True while something waits to be closed. */
  get waiting(): boolean {
    return this.#trees.length > 0 || this.#underWay > 0
  }

  #discard({ fds = [], trees = [] }: Leftovers): void {
    if (fds.length > 0) this.#owner.discard({ fds })
    this.#trees.push(...trees)
    if (trees.length === 0 || this.#soon) return
    this.#soon = true
    setImmediate(() => {
      this.#soon = false
      this.send()
    }).unref()
  }

  /** Starts taking down what waits for it. */
  send(): void {
    const taken = this.#take()
    if (taken === undefined) return
    const ended = () => this.#ended()
    try {
      if (taken.pool.start({ plan: taken.plan }, ended)) return
    } catch {
      ended()
    }
    for (const [, fd] of taken.plan.inputs) binding.closeOwned(fd)
  }

  /** Takes it down as the flow goes on. */
  *flush(): Flow<void> {
    const taken = this.#take()
    if (taken === undefined) return
    try {
      yield { ...taken, abortable: false }
    } finally {
      this.#ended()
    }
  }

  #take(): { plan: Plan; pool: Pool } | undefined {
    if (this.#trees.length === 0) return undefined
    const { pool, isHome } = this.#owner.reapingFor(this.#namespace)
    const plan = planUnstage(this.#staging!, this.#trees, isHome)
    this.#trees = []
    this.#underWay++
    return { plan, pool }
  }

  #ended(): void {
    this.#underWay--
    if (this.#leases === 0 && this.#timer === undefined) this.#end()
  }

  /** Drops what no lease holds: trees, and then the namespace. */
  trim(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#mappings.trim()
    if (this.#leases > 0) return
    this.send()
    this.#end()
  }

  #end(): void {
    if (this.waiting) return
    if (this.#staging !== undefined) {
      const { home, inside, outside, root, proc } = this.#staging
      this.#staging = undefined
      this.#owner.discard({ fds: [home, inside, outside, root, proc].map(({ fd }) => fd) })
    }
    this.#owner.forgetStage(this.#namespace, this)
  }
}

/** On a thread of its own, which ends with it: what fails on the way is gone then too. */
function* setUp(namespace: number): Flow<readonly number[]> {
  // its thread begins where the caller is
  if (binding.mountNamespace() !== namespace) throw movedOn()
  const pool = new Pool({ name: 'ofd-stage', threads: 1, cpus: [] })
  try {
    const { outputs } = yield { plan: planStaging(), pool, abortable: false }
    return outputs
  } catch (error) {
    if (!(error instanceof UnexpectedError)) throw diagnoseAttach(error)
    throw error.toMountError({ errno: EINVAL, hint: chrooted })
  } finally {
    pool.close()
  }
}
