/**
 * What the traced storms tell of the kernel: grace periods, waits for locks by lock, and by stack.
 */
import { format } from '../support/statistics.mjs'
import { sumBy } from './locks.mjs'

/** Rows that are shown, and functions of a stack; the JSON has more. */
const [LOCKS, STACKS, DEPTH] = [12, 4, 5]
const KEPT = 100

export const gracePeriods = ({ strategies, traces, layers, untraced }) => ({
  title: 'Grace periods',
  text:
    'What a container waits for is arithmetic: one grace period an umount or a closed detached tree, one a superblock. What passed was counted on the whole host ' +
    `(the work wait_rcu_exp_gp of the kernel), others' included; with many waiting at once they share.${
      untraced === undefined ? '' : ` **Not counted here: ${untraced}.**`
    }`,
  table: {
    columns: ['strategy', 'layers', 'waited for, a container', 'passed, a container', 'in flight'],
    rows: strategies.map((strategy) => {
      const trace = traces.find((each) => each.strategy === strategy)
      return [
        strategy.name,
        layers,
        format(strategy.waits(layers)),
        trace === undefined ? 'not counted' : format(trace.gracePeriods / started(trace)),
        trace === undefined ? '' : trace.size.concurrency,
      ]
    }),
  },
})

export const lockSections = (traces, size, untraced) =>
  traces.length > 0
    ? [lockWaits(traces, size), stacks(traces)]
    : [
        {
          title: 'Waits for locks',
          text: `Not seen here: ${untraced ?? 'no traced storm came to its end, see above'}.`,
        },
      ]

const lockWaits = (traces, { layers, concurrency }) => {
  const byLock = traces.map((trace) => new Map(sumBy(trace.waits, lockName).map((sum) => [sum.key, sum])))
  const most = sumBy(
    traces.flatMap(({ waits, ...trace }) =>
      waits.map((wait) => ({ ...wait, nanoseconds: wait.nanoseconds / started(trace) })),
    ),
    lockName,
  )
  const cell = (trace, sum) =>
    sum === undefined
      ? '–'
      : `${format(sum.nanoseconds / 1e3 / started(trace))} (${format(sum.count / started(trace))}×)`
  return {
    title: 'Waits for locks',
    text:
      `Microseconds that a container's calls waited for each lock, and how often, with ${layers} layers and ${concurrency} in flight. Locks have no names in a trace: they are told by the ` +
      'function that took them. Tracing makes short waits longer, above all those of spin locks: compare columns, not figures. The wait for a grace period itself is no lock and is not here.',
    table: {
      columns: ['lock', 'kind', ...traces.map(({ strategy }) => strategy.name)],
      rows: most.slice(0, LOCKS).map(({ key }) => {
        const [kind, lock] = key.split(': ')
        return [lock, kind, ...traces.map((trace, i) => cell(trace, byLock[i].get(key)))]
      }),
    },
  }
}

const stacks = (traces) => ({
  title: 'Where they wait',
  text: 'The stacks with the longest waits of each strategy, innermost function first, from the one that takes the lock on.',
  table: {
    columns: ['strategy', 'µs a container', 'waits a container', 'stack'],
    rows: traces.flatMap((trace) =>
      sumBy(trace.waits, ({ frames }) => frames.slice(0, DEPTH).join(' ← '))
        .slice(0, STACKS)
        .map(({ key, count, nanoseconds }) => [
          trace.strategy.name,
          format(nanoseconds / 1e3 / started(trace)),
          format(count / started(trace)),
          key,
        ]),
    ),
  },
})

/** For the JSON: locks, and the longest waits as folded stacks, outermost function first, which make a flame graph. */
export const rawTrace = ({ strategy, composes, placement, waits, ...rest }) => ({
  strategy: strategy.name,
  containers: composes.length,
  ...rest,
  locks: sumBy(waits, lockName),
  stacks: sumBy(waits, ({ frames, lock }) => [...frames.toReversed(), `[${lock}]`].join(';')).slice(0, KEPT),
})

const lockName = ({ kind, lock }) => `${kind}: ${lock}`
const started = ({ composes }) => Math.max(1, composes.length)
