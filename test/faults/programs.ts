/**
 * Which step made which call: the programs that were handed to the addon, laid beside the calls that their threads made.
 *
 * What crosses the seam is looked at (which plan, to which pool), nothing is changed. The pools have one thread
 * each, so that the calls of a thread are those of its programs, one after the other, in the order in which they were
 * handed over. A program's calls follow from its plan and from what failed; where the two differ, that is an error here.
 */
import { binding } from '../../lib/binding.js'
import { renderCall } from '../../lib/program/explain.js'
import type { Plan } from '../../lib/program/plan.js'
import { Pool } from '../../lib/program/pool.js'
import { type Arg, isSlot, type Slot, type Step } from '../../lib/program/step.js'
import { type SystemCall, systemCalls } from './errnos.js'
import type { Made } from './supervised.js'

export interface Program {
  readonly plan: Plan
  readonly thread: string
}

/** A call, and what it was made for. */
export interface Site {
  readonly made: Made
  /** how many calls the threads of this name had made before */
  readonly index: number
  /** undefined while a thread gets ready */
  readonly plan?: Plan
  /** undefined when what is left open is closed at the end */
  readonly step?: Step
  readonly at?: number
  /** of the step's own calls, from 0: a step may be several */
  readonly nth?: number
  /** unknown: after a step failed by itself, which cannot be told from here, the rest of a thread is not followed */
  readonly phase: 'thread' | 'main' | 'undo' | 'always' | 'end' | 'unknown'
}

const names = new Map<number, string>()
let programs: Program[] = []
let handed: Plan | undefined
let handedTogether: readonly Plan[] = []

/** What the calling thread is called while it runs a program. */
const callingThread = 'ofd-caller'

/** Steps that change something of their thread: a program with one of them never runs on the calling one. */
const changing = new Set(
  'fchdir chdir mkdirat assume_fsids restore_fsids setns unshare pivot_root chroot userns'.split(' '),
)
const leavesThreadAlone = ({ steps }: Plan): boolean =>
  steps.every(({ call, answers }) => !changing.has(call) && !answers)

/** Looks on from here on. */
const observe = (): void => {
  const { createPool, submit, submitAll, runSync } = binding
  const ran = (pool: number, plan = handed): void => {
    if (plan !== undefined) programs.push({ plan, thread: names.get(pool) ?? '' })
  }
  Object.assign(binding, {
    createPool(...args: Parameters<typeof createPool>) {
      const id = createPool(...args)
      names.set(id, args[0])
      return id
    },
    submit(...args: Parameters<typeof submit>) {
      ran(args[0])
      return submit(...args)
    },
    submitAll(...args: Parameters<typeof submitAll>) {
      for (const plan of handedTogether) ran(args[0], plan)
      return submitAll(...args)
    },
    runSync(...args: Parameters<typeof runSync>) {
      if (handed === undefined || !leavesThreadAlone(handed)) {
        ran(args[0])
        return runSync(...args)
      }
      programs.push({ plan: handed, thread: callingThread })
      const name = process.title
      process.title = callingThread
      try {
        return runSync(...args)
      } finally {
        process.title = name
      }
    },
  })
  const pool = Pool.prototype
  const { start, startAll, runSync: runPoolSync } = pool
  pool.startAll = function (requests, ...rest) {
    handedTogether = requests.flatMap(({ plan, fills }) => (fills === undefined ? [] : [plan]))
    return startAll.call(this, requests, ...rest)
  }
  pool.start = function (request, ...rest) {
    handed = request.plan
    return start.call(this, request, ...rest)
  }
  pool.runSync = function (plan, ...rest) {
    handed = plan
    return runPoolSync.call(this, plan, ...rest)
  }
}
observe()

/** Forgets what was handed over before. */
export const forgetPrograms = (): void => {
  programs = []
}

/** What was handed over since, in order. */
export const handedOver = (): readonly Program[] => programs

const slotsOf = (arg: Arg): Slot[] => {
  if (arg.kind === 'fd') return isSlot(arg.fd) ? [arg.fd] : []
  if (arg.kind === 'mount_attr') return arg.attr.userns && isSlot(arg.attr.userns) ? [arg.attr.userns] : []
  if (arg.kind !== 'text' || !Array.isArray(arg.text)) return []
  return arg.text.filter((part): part is Slot => typeof part === 'object' && 'slot' in part)
}

/** Calls of a thread get their steps. */
class Thread {
  readonly sites: Site[] = []
  readonly #calls: readonly Made[]

  constructor(calls: readonly Made[]) {
    this.#calls = calls
  }

  get #next(): Made | undefined {
    return this.#calls[this.sites.length]
  }

  isNext(call: SystemCall | undefined): boolean {
    return call !== undefined && this.#next?.call === call
  }

  /** How many of these calls come next. */
  matching(calls: readonly SystemCall[]): number {
    const at = calls.findIndex((call, i) => this.#calls[this.sites.length + i]?.call !== call)
    return at < 0 ? calls.length : at
  }

  take(rest: Omit<Site, 'made' | 'index'>): Made {
    const made = this.#next as Made
    this.sites.push({ made, index: this.sites.length, ...rest })
    return made
  }

  get isDone(): boolean {
    return this.#next === undefined
  }

  /** What threads do before they take programs: no program begins so. */
  start(): void {
    while (this.isNext('unshare') || this.isNext('chdir')) this.take({ phase: 'thread' })
  }
}

/** Whether steps that may be tolerated did their work, by their plan and call. */
const wasDone = new Map<string, boolean>()

/** Follows one program on its thread. */
class Follower {
  readonly #thread: Thread
  readonly #plan: Plan
  readonly #filled = new Set<number>()
  readonly #done = new Set<Step>()
  #failed = false

  constructor(thread: Thread, plan: Plan) {
    this.#thread = thread
    this.#plan = plan
    for (const [slot] of plan.inputs) this.#filled.add(slot.slot)
  }

  run(): void {
    const steps = [...this.#plan.steps.entries()]
    for (const [at, step] of steps) {
      if ((step.when ?? 'main') !== 'main') continue
      if (step.ifDone && !this.#isDone(step, step.ifDone)) continue
      if (!this.#perform(step, at, 'main')) {
        this.#failed = true
        break
      }
    }
    for (const [at, step] of steps) {
      if (step.when !== 'undo' && step.when !== 'always') continue
      if (step.ifDone && !this.#done.has(step.ifDone)) continue
      if (step.when === 'undo' && !this.#failed) continue
      if (step.args.flatMap(slotsOf).some(({ slot }) => !this.#filled.has(slot))) continue
      this.#perform(step, at, step.when)
    }
    const kept = new Set(this.#failed ? [] : this.#plan.outputs.map(({ slot }) => slot))
    for (const slot of this.#filled) {
      if (kept.has(slot) || !this.#thread.isNext('close')) continue
      this.#thread.take({ plan: this.#plan, phase: 'end' })
    }
  }

  /**
   * What was tolerated by itself, a directory that was there, shows in that nothing is done about it: in the calls that
   * follow. Where they say the same, as in a run that ends soon, it is as it was in the last one that told.
   */
  #isDone(step: Step, first: Step): boolean {
    if (!this.#done.has(first)) return false
    const key = `${this.#plan.title} ${renderCall(first)}`
    // several directories are mostly there together
    const others = [...this.#done].filter(({ call, tolerate }) => call === first.call && tolerate)
    const done = this.#matching(step, [])
    const notDone = Math.max(this.#matching(step, [first]), this.#matching(step, [first, ...others]))
    if (done !== notDone) wasDone.set(key, done > notDone)
    if (!(wasDone.get(key) ?? true)) this.#done.delete(first)
    return this.#done.has(first)
  }

  /** How many of the next calls are those of the main steps from this one on, if some before were not done. */
  #matching(from: Step, notDone: readonly Step[]): number {
    const main = this.#plan.steps.filter(({ when }) => (when ?? 'main') === 'main')
    const done = new Set(this.#done)
    for (const step of notDone) done.delete(step)
    const expected: SystemCall[] = []
    for (const step of main.slice(main.indexOf(from))) {
      if (step.ifDone && !done.has(step.ifDone)) continue
      done.add(step)
      expected.push(...systemCalls[step.call])
    }
    return this.#thread.matching(expected)
  }

  /** False if the program ends with it. */
  #perform(step: Step, at: number, phase: 'main' | 'undo' | 'always'): boolean {
    const errno = this.#calls(step, { plan: this.#plan, step, at, phase })
    const [arg] = step.args
    if (step.call === 'close' && arg) for (const { slot } of slotsOf(arg)) this.#filled.delete(slot)
    // it ended without a call of this step: on one that found something else than it expected
    if (errno === undefined) return false
    if (errno !== 0) return step.tolerate?.includes(errno) ?? false
    this.#done.add(step)
    if (step.out) {
      if (this.#filled.has(step.out.slot) && this.#thread.isNext('close')) {
        this.#thread.take({ plan: this.#plan, phase: 'end' })
      }
      this.#filled.add(step.out.slot)
    }
    return true
  }

  /** The step's errno; undefined if it was not made. */
  #calls(step: Step, site: Omit<Site, 'made' | 'index'>): number | undefined {
    const expected = systemCalls[step.call]
    if (expected.length === 0) return 0
    if (!this.#thread.isNext(expected[0])) return undefined
    if (step.call === 'userns') return this.#userns(site)
    for (const [nth, call] of expected.entries()) {
      if (!this.#thread.isNext(call)) return undefined
      const { errno } = this.#thread.take({ ...site, nth })
      if (errno !== 0) return errno
    }
    return 0
  }

  /** Up to the wait for the child; the first error is the step's. */
  #userns(site: Omit<Site, 'made' | 'index'>): number {
    let failed = 0
    for (let nth = 0; !this.#thread.isDone; nth++) {
      const { call, errno } = this.#thread.take({ ...site, nth })
      if (call === 'wait4' && errno === 0) break
      const isFailure = errno !== 0 && call !== 'close' && call !== 'wait4' && !isGidMapRefused(nth, errno)
      if (isFailure && failed === 0) failed = errno
      // there is no child
      if (failed !== 0 && nth < 2) break
    }
    return failed
  }
}

const EPERM = 1

/** Of `userns`: without CAP_SETGID the map of groups is written after setgroups(2) was given up. */
export const isGidMapRefused = (nth: number | undefined, errno: number): boolean =>
  errno === EPERM && (nth === 5 || nth === 6)

/** Every call with what it was made for, by the name of its thread. */
export const sites = (made: readonly Made[], ran: readonly Program[]): Site[] => {
  const found: Site[] = []
  for (const name of new Set(made.map(({ thread }) => thread))) {
    const thread = new Thread(made.filter((each) => each.thread === name))
    for (const { plan } of ran.filter((each) => each.thread === name)) {
      // of a pool that takes the place of one whose thread was lost, too
      thread.start()
      new Follower(thread, plan).run()
    }
    thread.start()
    while (!thread.isDone) thread.take({ phase: 'unknown' })
    found.push(...thread.sites)
  }
  return found
}
