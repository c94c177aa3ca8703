/**
 * Folds what `perf script --ns -F comm,pid,tid,time,event,trace,ip,sym` prints: for each event a line
 * and then its stack, the innermost frame first, up to an empty line:
 *
 *   node 4711/4714 12137.934921123: lock:contention_begin: 0xffff888627c2ba40 (flags=SPIN)
 *           ffffffff8220171b _raw_spin_lock
 *
 * Three ways to weigh: each sample of cpu-clock counts 1; of sched_switch, the microseconds until the same
 * thread is switched to; of contention_begin, the microseconds until the same thread has the same lock.
 */
import { add } from './folded.mjs'

/**
 * @typedef {object} Event
 * @property {string} comm
 * @property {number} pid
 * @property {number} tid
 * @property {number} microseconds
 * @property {string} name
 * @property {string} detail
 * @property {string[]} stack the outermost frame first
 */

const HEAD = /^\s*(.*?)\s+(\d+)\/(\d+)\s+(\d+)\.(\d{9}):\s+([\w:-]+):\s*(.*)$/
const FRAME = /^\s+[\da-f]+ (.*)$/

/** @typedef {Iterable<Event> | AsyncIterable<Event>} Events */

/**
 * @param {Iterable<string> | AsyncIterable<string>} lines of perf script
 * @returns {AsyncGenerator<Event>}
 */
export async function* events(lines) {
  /** @type {Event | undefined} */
  let event
  for await (const line of lines) {
    const head = HEAD.exec(line)
    if (head) {
      if (event) yield event
      const [, comm = '', pid, tid, seconds, nanoseconds, name = '', detail = ''] = head
      const microseconds = Number(seconds) * 1e6 + Number(nanoseconds) / 1e3
      event = { comm, pid: Number(pid), tid: Number(tid), microseconds, name, detail, stack: [] }
    } else {
      const symbol = FRAME.exec(line)?.[1]
      if (symbol !== undefined) event?.stack.unshift(symbol)
    }
  }
  if (event) yield event
}

/**
 * One for each sample. The idle task (pid 0) is nobody's work.
 * @param {Events} all
 * @param {number} [pid] of the process to be kept; all unless told
 */
export const foldSamples = async (all, pid) => {
  /** @type {Map<string, number>} */
  const sums = new Map()
  for await (const event of all) {
    if (event.pid !== 0 && event.pid === (pid ?? event.pid)) add(sums, [event.comm, ...event.stack], 1)
  }
  return sums
}

/** @type {Readonly<Record<string, string>>} what the letters of prev_state say */
const STATES = { R: 'runnable', S: 'interruptible', D: 'uninterruptible', I: 'idle' }
const SWITCH = / prev_pid=(\d+) prev_prio=\d+ prev_state=(\w)\S* ==> .* next_pid=(\d+) next_prio=/

/**
 * Microseconds from leaving a CPU until being switched to, by who left and in which state.
 * @param {Events} all
 * @param {number} [pid]
 */
export const foldOffCpu = async (all, pid) => {
  /** @type {Map<string, number>} */
  const sums = new Map()
  /** @type {Map<string, { event: Event, state: string }>} */
  const away = new Map()
  for await (const event of all) {
    const [, previous = '0', letter = '', next = ''] = SWITCH.exec(event.detail) ?? []
    const left = away.get(next)
    if (left) {
      const { comm, stack, microseconds } = left.event
      add(sums, [comm, left.state, ...stack], event.microseconds - microseconds)
      away.delete(next)
    }
    if (previous !== '0' && event.pid === (pid ?? event.pid)) {
      away.set(previous, { event, state: STATES[letter] ?? letter })
    }
  }
  return sums
}

/**
 * Microseconds from the begin of a wait for a lock to its end.
 * @param {Events} all
 * @param {number} [pid]
 */
export const foldLocks = async (all, pid) => {
  /** @type {Map<string, number>} */
  const sums = new Map()
  /** @type {Map<string, Event>} */
  const waiting = new Map()
  for await (const event of all) {
    const key = `${event.tid} ${event.detail.split(' ')[0]}`
    const begin = waiting.get(key)
    if (event.name === 'lock:contention_end' && begin) {
      add(sums, [begin.comm, ...begin.stack], event.microseconds - begin.microseconds)
      waiting.delete(key)
    } else if (event.name === 'lock:contention_begin' && event.pid === (pid ?? event.pid)) {
      waiting.set(key, event)
    }
  }
  return sums
}
