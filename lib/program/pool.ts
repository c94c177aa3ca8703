/**
 * Runs plans on owned threads: the one place where a plan becomes a native call.
 *
 * A failure becomes a MountError here, with the failing call printed from the plan's own step. What a
 * caller may want to know of an expectation that was not met is in `UnexpectedError`.
 */
import { binding } from '../binding.js'
import { MountError, SyscallError } from '../errors.js'
import { whenAborted } from './abort.js'
import { encode } from './encode.js'
import { renderCall, shownInErrors } from './explain.js'
import type { Plan } from './plan.js'
import { decodeResult, type ProgramResult } from './result.js'
import type { Step } from './step.js'

/** A program that ran to its end. */
export interface Outcome {
  readonly plan: Plan
  /** fds in the order of the plan's outputs */
  readonly outputs: readonly number[]
  /** what a `report` step filled */
  report(step: Step): Buffer | undefined
}

/** A step found something else than its plan expected: a swapped directory, a mount that is not ours. */
export class UnexpectedError extends Error {
  readonly plan: Plan
  readonly step: Step
  /** the statx or statfs buffer that differed */
  readonly found: Buffer

  constructor(plan: Plan, step: Step, found: Buffer) {
    super(`unexpected result of ${renderCall(step)}`)
    this.plan = plan
    this.step = step
    this.found = found
  }
}

/** The failing step of a MountError, for diagnose.ts; errors are for users, steps are not. */
const failedSteps = new WeakMap<MountError, Step>()
export const failedStep = (error: MountError): Step | undefined => failedSteps.get(error)

interface Waiting {
  readonly plan: Plan
  resolve(outcome: Outcome): void
  reject(error: unknown): void
}

const waiting = new Map<number, Waiting>()
let lastJob = 0
let dispatching = false

function dispatch(job: number, bytes: Buffer): void {
  const entry = waiting.get(job)
  if (entry === undefined) return
  waiting.delete(job)
  try {
    entry.resolve(conclude(entry.plan, decodeResult(bytes)))
  } catch (error) {
    entry.reject(error)
  }
}

export interface PoolOptions {
  /** name of the threads, at most 15 bytes */
  readonly name: string
  readonly threads: number
  /** CPUs that the threads may run on; empty for those of the JS thread */
  readonly cpus: readonly number[]
}

/** Ends the threads of pools that nobody can reach any more; one with jobs is reached by them. */
const dropped = new FinalizationRegistry<number>((id) => binding.closePool(id))

export class Pool {
  readonly #id: number
  readonly #pending = new Set<Promise<Outcome>>()

  constructor({ name, threads, cpus }: PoolOptions) {
    if (!dispatching) {
      binding.setDispatcher(dispatch)
      dispatching = true
    }
    const id = binding.createPool(name, threads, cpus)
    if (id < 0) {
      throw new SyscallError({ errno: -id, syscall: 'pthread_create', call: `pthread_create(${name})` })
    }
    this.#id = id
    dropped.register(this, id, this)
  }

  /**
   * Runs the plan on a thread of the pool.
   *
   * @param signal aborts it while it is queued, or before the step that makes something visible
   */
  run(plan: Plan, signal?: AbortSignal): Promise<Outcome> {
    if (signal?.aborted) return Promise.reject(signal.reason)
    const running = this.#submit(plan, signal)
    this.#pending.add(running)
    const done = () => this.#pending.delete(running)
    running.then(done, done)
    return running
  }

  get busy(): boolean {
    return this.#pending.size > 0
  }

  /** Resolves when what runs now has ended; true if there was anything. */
  async settle(): Promise<boolean> {
    if (this.#pending.size === 0) return false
    await Promise.allSettled(this.#pending)
    return true
  }

  #submit(plan: Plan, signal: AbortSignal | undefined): Promise<Outcome> {
    const job = nextJob()
    return new Promise<Outcome>((resolve, reject) => {
      let forget = () => {}
      waiting.set(job, {
        plan,
        resolve(outcome) {
          forget()
          resolve(outcome)
        },
        reject(error) {
          forget()
          reject(error instanceof AbortedError ? signal?.reason : error)
        },
      })
      try {
        binding.submit(this.#id, job, encode(plan))
      } catch (error) {
        waiting.delete(job)
        throw error
      }
      if (signal) forget = whenAborted(signal, () => binding.abort(this.#id, job))
    })
  }

  /** Runs the plan on a thread of the pool while the caller blocks. */
  runSync(plan: Plan): Outcome {
    return conclude(plan, decodeResult(binding.runSync(this.#id, encode(plan))))
  }

  /** Ends the threads. Only when nothing is pending. */
  close(): void {
    binding.closePool(this.#id)
    dropped.unregister(this)
  }
}

class AbortedError extends Error {}

/** Numbers are reused after 2^32, long after their jobs are gone. */
function nextJob(): number {
  do lastJob = (lastJob + 1) >>> 0
  while (waiting.has(lastJob))
  return lastJob
}

function conclude(plan: Plan, result: ProgramResult): Outcome {
  switch (result.status) {
    case 'done': {
      const { outputs, reports } = result
      return {
        plan,
        outputs,
        report(step) {
          return reports.size === 0 ? undefined : reports.get(plan.indexOf(step))
        },
      }
    }
    case 'aborted':
      throw new AbortedError('aborted')
    case 'malformed':
      throw new Error(`overlayfd: the addon refused the program of plan ${plan.title}`)
  }
  const step = plan.at(result.step)!
  const found = result.reports.get(result.step)
  if (result.status === 'unexpected' && found) throw new UnexpectedError(plan, step, found)
  throw failure(plan, step, result)
}

function failure(_plan: Plan, step: Step, result: ProgramResult): MountError {
  const { path } = step.subject ?? {}
  const error = new MountError({
    errno: result.errno,
    syscall: step.call,
    call: renderCall(step, shownInErrors),
    path,
    log: result.log,
    step: result.step,
  })
  failedSteps.set(error, step)
  return error
}
