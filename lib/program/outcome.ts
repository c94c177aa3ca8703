/**
 * What a program that has run means: an outcome, or an error.
 *
 * A failure becomes a MountError here, with the failing call printed from the plan's own step. What a caller may want to
 * know of an expectation that was not met is in `UnexpectedError`.
 */
import { errnoName } from '../errno.js'
import { invalidState, MountError } from '../errors.js'
import { limitHint } from '../exhausted.js'
import { renderCall, shownInErrors } from './explain.js'
import { fillStep } from './fill.js'
import type { Plan } from './plan.js'
import type { ProgramResult } from './result.js'
import type { Fill, Step } from './step.js'

/** A program that ran to its end, or to the step that answers. */
export interface Outcome {
  readonly plan: Plan
  /** fds in the order of the plan's outputs */
  readonly outputs: readonly number[]
  /** number of what it has claimed; 0 if that is nothing */
  readonly claim: number
  /** what a `report` step filled; to be read before another program is waited for */
  report(step: Step): Buffer | undefined
  /** the same, to be kept for longer */
  copy(): Outcome
}

/** A step found something else than its plan expected: a swapped directory, a mount that is not ours. */
export class UnexpectedError extends Error {
  readonly plan: Plan
  /** index of it, and itself with the holes filled */
  readonly index: number
  readonly step: Step
  /** the statx or statfs buffer that differed */
  readonly found: Buffer

  constructor(plan: Plan, index: number, step: Step, found: Buffer) {
    super(`unexpected result of ${renderCall(step)}`)
    this.plan = plan
    this.index = index
    this.step = step
    this.found = found
  }

  /** For the user: the call as it was made, and what it means that it found something else. */
  toMountError({ errno, hint, rung, path }: Meaning): MountError {
    return new MountError({
      errno,
      syscall: this.step.call,
      call: renderCall(this.step, shownInErrors),
      path: path ?? (this.step.subject?.path as Uint8Array | string | undefined),
      hint,
      step: this.index,
      rung,
    })
  }
}

interface Meaning {
  readonly errno: number
  readonly hint: string
  readonly rung?: string | undefined
  /** the step's own unless told */
  readonly path?: Uint8Array | string | undefined
}

/** What of a failed program is for diagnose.ts and compose.ts: errors are for users, steps are not. */
interface Failure {
  readonly step: Step
  readonly claim: number
}
const failures = new WeakMap<MountError, Failure>()
/** The failing step of a MountError. */
export const failedStep = (error: MountError): Step | undefined => failures.get(error)?.step
/** The claim that was in the way of a step that failed with EBUSY. */
export const claimInTheWay = (error: MountError): number => failures.get(error)?.claim ?? 0

/** It was aborted: what the caller is told is his signal's reason. */
export class AbortedError extends Error {}

class Finished implements Outcome {
  readonly plan: Plan
  readonly outputs: readonly number[]
  readonly #result: ProgramResult

  constructor(plan: Plan, result: ProgramResult) {
    this.plan = plan
    this.outputs = result.outputs
    this.#result = result
  }

  get claim(): number {
    return this.#result.claim
  }

  report(step: Step): Buffer | undefined {
    return this.#result.hasReports ? this.#result.report(this.plan.indexOf(step)) : undefined
  }

  copy(): Outcome {
    return new Finished(this.plan, this.#result.copy())
  }
}

/** Throws what the result of a failed program means. */
export function conclude(plan: Plan, fills: readonly Fill[] | undefined, result: ProgramResult): Outcome {
  switch (result.status) {
    case 'done':
      return new Finished(plan, result)
    case 'aborted':
      throw new AbortedError('aborted')
    case 'malformed':
      throw new Error(`overlayfd: the addon refused the program of plan ${plan.title}`)
    case 'refused':
      throw invalidState(
        'no thread is left that could be brought back from another mount namespace: try again',
      )
  }
  const step = fillStep(plan.at(result.step)!, fills ?? [])
  const found = result.report(result.step)
  if (result.status === 'unexpected' && found) {
    throw new UnexpectedError(plan, result.step, step, Buffer.from(found))
  }
  throw failure(step, result)
}

function failure(step: Step, result: ProgramResult): MountError {
  const { path } = step.subject ?? {}
  const error = new MountError({
    errno: result.errno,
    syscall: step.call,
    call: renderCall(step, shownInErrors),
    path: path as Uint8Array | string | undefined,
    log: result.log,
    hint: limitHint(errnoName(result.errno)),
    step: result.step,
  })
  failures.set(error, { step, claim: result.claim })
  return error
}
