/**
 * Diagnostics channels: what mounts and unmounts do, for whoever subscribes.
 *
 *   overlayfd:mount      LayerStack.mount and mountOverlay, and their Sync forms
 *   overlayfd:unmount    Rootfs.unmount and MountGroup.unmount, and their Sync forms
 *
 * Each is a tracing channel of node:diagnostics_channel: start, end, asyncStart, asyncEnd and error get one and the
 * same `OperationTrace`. Steps are timed by the addon, on the thread that makes the calls, and only while somebody
 * has subscribed: without that nothing is measured and nothing is made.
 */
import { type TracingChannel, tracingChannel } from 'node:diagnostics_channel'
import { renderCall } from './program/explain.js'
import { fillPlan } from './program/fill.js'
import type { Plan } from './program/plan.js'
import type { Trace } from './program/pool.js'
import type { Timing } from './program/result.js'
import type { Fill } from './program/step.js'

/** One system call that was made. */
export interface TracedStep {
  /** as strace prints it */
  readonly call: string
  /** on the thread that made it */
  readonly nanoseconds: number
}

/** One program that was run for an operation. Most operations need one; a retry, or opening layers, are more. */
export interface TracedProgram {
  /** with the paths of this run */
  readonly plan: Plan
  /** in the order in which they ran, to the one that failed; of an unmount, to the one that answers */
  readonly steps: readonly TracedStep[]
  /** of all steps */
  readonly nanoseconds: number
}

/** What subscribers of `overlayfd:mount` and `overlayfd:unmount` get. */
export interface OperationTrace {
  /** whose channel it is */
  readonly operation: 'mount' | 'unmount'
  /** where it is attached, or to be; undefined while detached */
  readonly target: string | undefined
  /** what was run so far */
  readonly programs: readonly TracedProgram[]
  /** set by asyncEnd, or end of a Sync form: the Rootfs of a mount */
  readonly result?: unknown
  /** set before the error event */
  readonly error?: unknown
}

class Operation implements OperationTrace, Trace {
  readonly operation: 'mount' | 'unmount'
  readonly target: string | undefined
  readonly #runs: { plan: Plan; fills: readonly Fill[]; timings: readonly Timing[] }[] = []

  constructor(operation: 'mount' | 'unmount', target: Uint8Array | undefined) {
    this.operation = operation
    this.target = target && Buffer.from(target).toString()
  }

  ran(plan: Plan, fills: readonly Fill[], timings: readonly Timing[]): void {
    this.#runs.push({ plan, fills, timings })
  }

  get programs(): TracedProgram[] {
    return this.#runs.map(({ plan: template, fills, timings }) => {
      const plan = fillPlan(template, fills)
      const steps = timings.map(({ step, nanoseconds }) => ({
        call: renderCall(plan.at(step)!),
        nanoseconds,
      }))
      return { plan, steps, nanoseconds: steps.reduce((sum, each) => sum + each.nanoseconds, 0) }
    })
  }
}

const channels: Readonly<Record<OperationTrace['operation'], TracingChannel<unknown, object>>> = {
  mount: tracingChannel('overlayfd:mount'),
  unmount: tracingChannel('overlayfd:unmount'),
}

/** Bun's tracing channels do not say it themselves. */
const isObserved = ({ start, end, asyncStart, asyncEnd, error }: TracingChannel<unknown, object>): boolean =>
  start.hasSubscribers ||
  end.hasSubscribers ||
  asyncStart.hasSubscribers ||
  asyncEnd.hasSubscribers ||
  error.hasSubscribers

/** Runs an operation that answers a promise; with a trace to be filled if somebody listens. */
export function traced<T>(
  operation: OperationTrace['operation'],
  target: Uint8Array | undefined,
  run: (trace: Trace | undefined) => Promise<T>,
): Promise<T> {
  const channel = channels[operation]
  if (!isObserved(channel)) return run(undefined)
  const trace = new Operation(operation, target)
  return channel.tracePromise(() => run(trace), trace)
}

/** The same for one that blocks. */
export function tracedSync<T>(
  operation: OperationTrace['operation'],
  target: Uint8Array | undefined,
  run: (trace: Trace | undefined) => T,
): T {
  const channel = channels[operation]
  if (!isObserved(channel)) return run(undefined)
  const trace = new Operation(operation, target)
  return channel.traceSync(() => run(trace), trace)
}
