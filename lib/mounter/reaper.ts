/**
 * Collects what is to be closed, and closes it off the hot path.
 *
 * Used trees wait for others, because a tree closed alone costs a grace period and one closed in a batch 2 us.
 * Plain fds wait only until the call that drops them has ended.
 */
import type { Leftovers } from '../overlay/host.js'
import { planDiscard } from '../overlay/reap.js'
import type { Plan } from '../program/plan.js'

/** Trees closed together; how long the first waits for others; fds that no longer wait. */
const batch = { trees: 64, ms: 50, fds: 64 } as const
/** Fds in one program. */
const maxFds = 2000

export class Reaper {
  readonly #run: (plan: Plan) => void
  #fds: number[] = []
  #trees: number[] = []
  #timer: NodeJS.Timeout | undefined
  #soon = false

  /** `run` starts a plan and waits for nothing. */
  constructor(run: (plan: Plan) => void) {
    this.#run = run
  }

  get collected(): { readonly trees: number; readonly fds: number } {
    return { trees: this.#trees.length, fds: this.#fds.length }
  }

  /** True while something waits to be closed. */
  get waiting(): boolean {
    return this.#trees.length > 0 || this.#fds.length > 0
  }

  /** Takes fds over. */
  add({ fds = [], trees = [] }: Leftovers): void {
    this.#fds.push(...fds)
    this.#trees.push(...trees)
    if (this.#trees.length >= batch.trees) this.send()
    else if (this.#trees.length > 0 && this.#timer === undefined) {
      this.#timer = setTimeout(() => this.send(), batch.ms)
      this.#timer.unref()
    }
    if (this.#fds.length >= batch.fds) this.#sendFds()
    else if (this.#fds.length > 0 && !this.#soon) {
      this.#soon = true
      setImmediate(() => {
        this.#soon = false
        this.#sendFds()
      }).unref()
    }
  }

  /** Starts closing everything that waits. */
  send(): void {
    for (const plan of this.take()) this.#run(plan)
  }

  /** Plans that close everything that waits; it is the caller's to run them. */
  take(): Plan[] {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const trees = chunks(this.#trees, batch.trees).map((chunk) => planDiscard({ trees: chunk }))
    this.#trees = []
    return [...this.#takeFds(), ...trees]
  }

  #takeFds(): Plan[] {
    const plans = chunks(this.#fds, maxFds).map((chunk) => planDiscard({ fds: chunk }))
    this.#fds = []
    return plans
  }

  #sendFds(): void {
    for (const plan of this.#takeFds()) this.#run(plan)
  }
}

function chunks<T>(list: readonly T[], size: number): T[][] {
  const found: T[][] = []
  for (let i = 0; i < list.length; i += size) found.push(list.slice(i, i + size))
  return found
}
