/**
 * Flows: work that needs more than one program, written once for the promise and the Sync forms.
 *
 * A flow is a generator that yields plans and receives their outcomes; it does nothing else that waits.
 * A failing program is thrown into it at the yield, so that try and finally work as in any function. An outcome's
 * reports are valid until the next yield.
 *
 *   function* open(…): Flow<Stack> {
 *     const { outputs } = yield compose(plan)
 *     …
 *   }
 */

import type { Outcome } from './outcome.js'
import type { Plan } from './plan.js'
import type { Done, Pool, Trace } from './pool.js'
import type { Fill } from './step.js'

export interface Request {
  readonly plan: Plan
  /** what the plan's holes are filled with */
  readonly fills?: readonly Fill[] | undefined
  readonly pool: Pool
  /** an abort of the whole flow stops this program too */
  readonly abortable: boolean
}

export type Flow<T> = Generator<Request, T, Outcome>

/** Drives a flow, awaiting each program. */
export function drive<T>(flow: Flow<T>, signal?: AbortSignal, trace?: Trace): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const first = flow.next()
    if (first.done) return resolve(first.value)
    const go = driver(flow, resolve, reject, signal, trace)
    first.value.pool.start(first.value, go, first.value.abortable ? signal : undefined, trace)
  })
}

/** Called with the end of each program, it goes on at once: a flow has one promise, whatever it runs. */
function driver<T>(
  flow: Flow<T>,
  resolve: (value: T) => void,
  reject: (error: unknown) => void,
  signal: AbortSignal | undefined,
  trace: Trace | undefined,
): Done {
  const go: Done = (error, outcome) => {
    try {
      const next = outcome === undefined ? flow.throw(error) : flow.next(outcome)
      if (next.done) resolve(next.value)
      else next.value.pool.start(next.value, go, next.value.abortable ? signal : undefined, trace)
    } catch (thrown) {
      reject(thrown)
    }
  }
  return go
}

/** Drives several flows; the first programs of all of them cross to the addon together. */
export function driveAll<T>(
  flows: readonly Flow<T>[],
  signal?: AbortSignal,
): Promise<PromiseSettledResult<T>[]> {
  const starts = new Map<Pool, { request: Request; go: Done }[]>()
  const ends = flows.map(
    (flow) =>
      new Promise<T>((resolve, reject) => {
        const first = flow.next()
        if (first.done) return resolve(first.value)
        const { pool } = first.value
        const start = { request: first.value, go: driver(flow, resolve, reject, signal, undefined) }
        const others = starts.get(pool)
        if (others === undefined) starts.set(pool, [start])
        else others.push(start)
      }),
  )
  for (const [pool, all] of starts) {
    const requests = all.map(({ request }) => request)
    pool.startAll(requests, (i, error, outcome) => all[i]!.go(error, outcome), signal)
  }
  return Promise.allSettled(ends)
}

/** Drives a flow, blocking for each program. */
export function driveSync<T>(flow: Flow<T>, trace?: Trace): T {
  let next = flow.next()
  while (!next.done) {
    let outcome: Outcome
    try {
      outcome = next.value.pool.runSync(next.value.plan, next.value.fills, trace)
    } catch (error) {
      next = flow.throw(error)
      continue
    }
    next = flow.next(outcome)
  }
  return next.value
}
