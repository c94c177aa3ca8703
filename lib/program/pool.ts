/**
 * Runs plans on owned threads: the one place where a plan becomes a native call.
 *
 * A plan that is run with fills is sent to the addon once, and kept there as long as it is kept here; each run
 * crosses with what fills its holes and nothing else.
 */
import { binding } from '../binding.js'
import { SyscallError } from '../errors.js'
import { processLimit } from '../exhausted.js'
import { whenAborted } from './abort.js'
import { expect, giveBack, listen, nextJob, viewOf } from './delivery.js'
import { encode, encodeFills, encodeRuns } from './encode.js'
import { Lanes } from './lanes.js'
import { AbortedError, conclude, type Outcome } from './outcome.js'
import type { Plan } from './plan.js'
import { decodeResult, type Timing } from './result.js'
import type { Fill } from './step.js'

/** Told once how a program has ended: an outcome, or an error. */
export type Done = (error: unknown, outcome: Outcome | undefined) => void

/** Is told what ran and how long each step took; while there is one, steps are timed. */
export interface Trace {
  ran(plan: Plan, fills: readonly Fill[], timings: readonly Timing[]): void
}

/** What of a flow's request concerns the pool. */
type Runnable = { readonly plan: Plan; readonly fills?: readonly Fill[] | undefined }

export interface PoolOptions {
  /** name of the threads, at most 15 bytes */
  readonly name: string
  readonly threads: number
  /** CPUs that the threads may run on; empty for those of the JS thread */
  readonly cpus: readonly number[]
  /** default: enough to keep the threads busy */
  readonly lanes?: number
}

/** What a pool is doing, as the addon counts it. */
export interface PoolCounts {
  /** programs that wait for a thread */
  readonly queued: number
  /** flows that wait for a lane */
  readonly waiting: number
  /** programs that wait for directories whose last mount is still being taken down */
  readonly parked: number
  readonly running: number
  /** most that ever waited for a thread at a time */
  readonly mostQueued: number
  /** programs that have been run */
  readonly ran: number
}

/** Ends the threads of pools that nobody can reach any more; one with jobs is reached by them. */
const dropped = new FinalizationRegistry<number>((id) => {
  // what has answered may still be running
  const job = nextJob()
  expect(job, () => binding.closePool(id))
  binding.drain(id, job)
})

/** Plans that the addon keeps: a plan that is collected here goes there too. */
const kept = new WeakMap<Plan, number>()
const collected = new FinalizationRegistry<number>((program) => binding.dropProgram(program))

function keep(plan: Plan): number {
  let program = kept.get(plan)
  if (program === undefined) {
    program = binding.prepare(encode(plan))
    if (program === 0) throw new Error(`overlayfd: the addon refused the program of plan ${plan.title}`)
    kept.set(plan, program)
    collected.register(plan, program)
  }
  return program
}

/** By errno of pthread_create. */
const threadHints: Readonly<Record<number, string>> = {
  // EPERM: the C library takes clone where clone3 is ENOSYS
  1: 'a filter (seccomp) refuses clone3 (it has to answer ENOSYS) or clone',
  // EAGAIN
  11: processLimit,
}

export class Pool {
  readonly #id: number
  readonly threads: number
  /** for flows that hold fds between their programs */
  readonly lanes: Lanes
  #pending = 0
  #isSpoilt = false
  /** who waits until fewer than so many are pending */
  #waiters: { readonly fewerThan: number; readonly resolve: () => void }[] = []

  constructor({ name, threads, cpus, lanes = 2 * threads }: PoolOptions) {
    listen()
    const id = binding.createPool(name, threads, cpus)
    if (id < 0) {
      throw new SyscallError({
        errno: -id,
        syscall: 'pthread_create',
        call: `pthread_create(${name})`,
        hint: threadHints[-id],
      })
    }
    this.#id = id
    this.threads = threads
    this.lanes = new Lanes(this, lanes)
    dropped.register(this, id, this)
  }

  /**
   * Runs the plan on a thread of the pool.
   *
   * @param signal aborts it while it is queued, or before the step that makes something visible
   */
  run(plan: Plan, signal?: AbortSignal, fills?: readonly Fill[]): Promise<Outcome> {
    return new Promise((resolve, reject) => {
      const done: Done = (error, outcome) => (outcome === undefined ? reject(error) : resolve(outcome.copy()))
      this.start({ plan, fills }, done, signal)
    })
  }

  /**
   * As `run`; `done` is called from the event loop.
   *
   * @returns whether it was started; else `done` has been called, and the plan's inputs are still the caller's
   */
  start(request: Runnable, done: Done, signal?: AbortSignal, trace?: Trace): boolean {
    const job = nextJob()
    try {
      signal?.throwIfAborted()
      this.#submit(job, request, trace !== undefined)
    } catch (error) {
      giveBack(job)
      done(error, undefined)
      return false
    }
    this.#expect(job, request, done, signal, trace)
    return true
  }

  /**
   * Starts several at once: those with fills, whose plans the addon keeps, cross to it together.
   *
   * @param done told of each, by its index
   */
  startAll(
    requests: readonly Runnable[],
    done: (index: number, error: unknown, outcome: Outcome | undefined) => void,
    signal?: AbortSignal,
  ): void {
    const together: [job: number, index: number][] = []
    for (const [i, request] of requests.entries()) {
      if (request.fills !== undefined && !signal?.aborted) together.push([nextJob(), i])
      else this.start(request, (error, outcome) => done(i, error, outcome), signal)
    }
    if (together.length === 0) return
    try {
      const runs = together.map(([job, i]) => {
        const { plan, fills } = requests[i]!
        return { job, program: keep(plan), fills: fills! }
      })
      const { memory, words } = encodeRuns(runs)
      binding.submitAll(this.#id, memory, words)
    } catch (error) {
      for (const [job, i] of together) {
        giveBack(job)
        done(i, error, undefined)
      }
      return
    }
    for (const [job, i] of together) {
      this.#expect(job, requests[i]!, (error, outcome) => done(i, error, outcome), signal, undefined)
    }
  }

  #submit(job: number, { plan, fills }: Runnable, timed: boolean): void {
    const program = fills ? keep(plan) : encode(plan)
    const { memory, words } = fills ? encodeFills(fills) : { memory: undefined, words: 0 }
    binding.submit(this.#id, job, program, memory, words, timed)
  }

  #expect(
    job: number,
    { plan, fills }: Runnable,
    done: Done,
    signal: AbortSignal | undefined,
    trace: Trace | undefined,
  ): void {
    const forget = signal && whenAborted(signal, () => binding.abort(this.#id, job))
    this.#pending++
    expect(job, (result) => {
      forget?.()
      this.#ended()
      if (result.isStranded) this.#isSpoilt = true
      trace?.ran(plan, fills ?? [], result.timings)
      let outcome: Outcome
      try {
        outcome = conclude(plan, fills, result)
      } catch (error) {
        done(error instanceof AbortedError ? signal?.reason : error, undefined)
        return
      }
      done(undefined, outcome)
    })
  }

  #ended(): void {
    this.#pending--
    if (this.#waiters.length === 0) return
    const due = this.#waiters.filter(({ fewerThan }) => this.#pending < fewerThan)
    if (due.length === 0) return
    this.#waiters = this.#waiters.filter((waiter) => !due.includes(waiter))
    for (const { resolve } of due) resolve()
  }

  /** Resolves when fewer than so many of its programs are waited for; rejects with the signal's reason. */
  fewerThan(fewerThan: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.reject(signal.reason)
    if (this.#pending < fewerThan) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const waiter = {
        fewerThan,
        resolve() {
          forget?.()
          resolve()
        },
      }
      const forget =
        signal &&
        whenAborted(signal, () => {
          this.#waiters = this.#waiters.filter((other) => other !== waiter)
          reject(signal.reason)
        })
      this.#waiters.push(waiter)
    })
  }

  /** True once a thread of it could not be brought back from another namespace: another pool is to be made. */
  get isSpoilt(): boolean {
    return this.#isSpoilt
  }

  /** Counts as a pending program until what it returns is called: somebody will come with one. */
  hold(): () => void {
    this.#pending++
    return () => this.#ended()
  }

  /** How many programs somebody waits for. */
  get pending(): number {
    return this.#pending
  }

  /** Resolves when nothing of it is queued or runs, and nothing of what has answered; true if there was anything. */
  async settle(): Promise<boolean> {
    const { queued, parked, running } = this.counts
    if (this.#pending === 0 && queued + parked + running === 0) return false
    await this.fewerThan(1)
    await this.#drain()
    return true
  }

  #drain(): Promise<void> {
    return new Promise((resolve) => {
      const job = nextJob()
      this.#pending++
      expect(job, () => {
        this.#ended()
        resolve()
      })
      binding.drain(this.#id, job)
    })
  }

  get counts(): PoolCounts {
    const [queued, parked, running, mostQueued, ran] = binding.poolCounts(this.#id)
    const { waiting } = this.lanes
    return {
      queued: queued!,
      waiting,
      parked: parked!,
      running: running!,
      mostQueued: mostQueued!,
      ran: ran!,
    }
  }

  /** Runs the plan on a thread of the pool while the caller blocks. */
  runSync(plan: Plan, fills?: readonly Fill[], trace?: Trace): Outcome {
    const program = fills ? keep(plan) : encode(plan)
    const timed = trace !== undefined
    const { memory, words } = fills ? encodeFills(fills) : { memory: undefined, words: 0 }
    const bytes = binding.runSync(this.#id, program, memory, words, timed)
    const result = decodeResult(viewOf(bytes))
    if (result.isStranded) this.#isSpoilt = true
    trace?.ran(plan, fills ?? [], result.timings)
    return conclude(plan, fills, result)
  }

  /** Ends the threads. Only when nothing is pending. */
  close(): void {
    binding.closePool(this.#id)
    dropped.unregister(this)
  }
}
