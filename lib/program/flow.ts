/**
 * Flows: work that needs more than one program, written once for the promise and the Sync forms.
 *
 * A flow is a generator that yields plans and receives their outcomes; it does nothing else that waits.
 * A failing program is thrown into it at the yield, so that try and finally work as in any function.
 *
 *   function* open(…): Flow<Stack> {
 *     const { outputs } = yield compose(plan)
 *     …
 *   }
 */
import type { Plan } from './plan.js'
import type { Outcome, Pool } from './pool.js'

export interface Request {
  readonly plan: Plan
  readonly pool: Pool
  /** an abort of the whole flow stops this program too */
  readonly abortable: boolean
}

export type Flow<T> = Generator<Request, T, Outcome>

/** Drives a flow, awaiting each program. */
export async function drive<T>(flow: Flow<T>, signal?: AbortSignal): Promise<T> {
  let next = flow.next()
  while (!next.done) {
    const { plan, pool, abortable } = next.value
    let outcome: Outcome
    try {
      outcome = await pool.run(plan, abortable ? signal : undefined)
    } catch (error) {
      next = flow.throw(error)
      continue
    }
    next = flow.next(outcome)
  }
  return next.value
}

/** Drives a flow, blocking for each program. */
export function driveSync<T>(flow: Flow<T>): T {
  let next = flow.next()
  while (!next.done) {
    let outcome: Outcome
    try {
      outcome = next.value.pool.runSync(next.value.plan)
    } catch (error) {
      next = flow.throw(error)
      continue
    }
    next = flow.next(outcome)
  }
  return next.value
}
