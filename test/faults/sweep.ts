/**
 * The sweep: an operation is done once for every call that its programs make and every errno of that call's row, and
 * that call fails.
 *
 *   1  every call of a run without faults
 *   2  every call that only a run with a fault makes (what is undone then), the first fault being that one
 *
 * After each, nothing may be left, the error names the step, and the same mounter does the same again without a fault,
 * with the right contents. What an undo that fails must leave behind is told by `remains`.
 */
import { execFileSync } from 'node:child_process'
import { closeSync, readdirSync } from 'node:fs'
import { errnoName } from '../../lib/errno.js'
import {
  HandoverError,
  MountError,
  Mounter,
  type MounterOptions,
  RungError,
  type RungName,
} from '../../lib/index.js'
import { rungs } from '../../lib/overlay/choose.js'
import type { Plan } from '../../lib/program/plan.js'
import { fds, settled, threads } from '../support/counts.js'
import { mounts } from '../support/mountinfo.js'
import { errnosOf, fewErrnosOf, systemCalls } from './errnos.js'
import { forgetPrograms, handedOver, isGidMapRefused, type Site, sites } from './programs.js'
import { arm, closedLink, type Fault, report } from './supervised.js'

/** What an operation has made is given back by `close`, the last first. */
export type Keep = <T>(made: T, close: (made: T) => Promise<void> | void) => T

export interface Operation {
  readonly name: string
  readonly mounter: MounterOptions
  /** makes it, and sees that it is right */
  run(mounter: Mounter, keep: Keep): Promise<void>
  /** runs the programs of other operations in a way of its own: they are swept again, with a few errnos a call */
  readonly form?: string
  /** with `auto`: the rung that is taken where nothing fails */
  readonly first?: RungName
  /** what is left that should not be, besides fds, mounts and threads; and takes it away */
  left?(): string[]
}

export interface Swept {
  /** calls of steps that failed at least once */
  steps: number
  /** steps that take something back, of all plans that ran, and those of them that a fault has led to */
  readonly undo: { readonly all: Set<string>; readonly reached: Set<string> }
  /** runs with a fault */
  cases: number
  readonly problems: string[]
}

/** A step by its plan, for people and as a key. */
const nameOf = ({ plan, step, at, nth, phase, made }: Site): string => {
  const call = step?.call === made.call ? [made.call] : [step?.call, nth, made.call]
  return [`${plan?.title ?? made.thread}:`, phase, at, ...call].filter((part) => part !== undefined).join(' ')
}

interface Performed {
  readonly error: unknown
  /** something was made, and then given back */
  readonly hasMade: boolean
  readonly problems: string[]
}

interface Ended extends Performed {
  readonly sites: readonly Site[]
  /** plans of rungs, in the order in which they ran */
  readonly rungs: readonly string[]
}

/** The operation once, and what it has made given back. */
const perform = async (operation: Operation, mounter: Mounter): Promise<Performed> => {
  const closers: (() => Promise<void> | void)[] = []
  const problems: string[] = []
  let error: unknown
  try {
    await operation.run(mounter, (made, close) => {
      closers.push(() => close(made))
      return made
    })
  } catch (thrown) {
    error = thrown
  }
  // what is closed in the background has its place in the order too
  await mounter.idle()
  const hasMade = closers.length > 0
  for (const close of closers.reverse()) {
    try {
      await close()
    } catch (thrown) {
      error ??= thrown
      try {
        // as its owner would
        await close()
      } catch (again) {
        // it waits for the first one, and says the same
        if (again === thrown) continue
        problems.push(`a second try failed too: ${again}`)
      }
    }
  }
  return { error, hasMade, problems }
}

/** The same with some calls failing, and everything that is closed in the background. */
const attempt = async (operation: Operation, mounter: Mounter, faults: readonly Fault[]): Promise<Ended> => {
  forgetPrograms()
  arm(faults)
  const { error, hasMade, problems } = await perform(operation, mounter)
  await mounter.trim()
  const made = report()
  const hit = made.filter(({ errno }) => errno !== 0)
  if (hit.length !== faults.length) problems.push(`${hit.length} of ${faults.length} faults happened`)
  for (const { call, errno, argument, thread } of hit) {
    if (call !== 'close' || errno === 0) continue
    const closes = made.filter((each) => each.call === 'close' && each.argument === argument)
    const after = closes.slice(closes.findIndex((each) => each.errno !== 0) + 1)
    if (after.length > 0)
      problems.push(`fd ${argument} was closed again by ${after[0]?.thread} after ${thread}`)
  }
  const found = sites(made, handedOver())
  const strange = faults.length === 0 ? found.filter(({ phase }) => phase === 'unknown') : []
  if (strange.length > 0) problems.push(`calls that no step explains: ${strange.map(nameOf).join(', ')}`)
  const ran = handedOver().map(({ plan }) => plan.title)
  return { error, hasMade, problems, sites: found, rungs: ran.filter((title) => isRung(title)) }
}

const isRung = (title: string): boolean => rungs.some((rung) => rung === title)

/** Fds that Node opens when it likes. */
const ofNode = /^(anon_inode:\[(eventpoll|eventfd|io_uring|pidfd)\]|pipe:|socket:)/

const opened = (): Set<string> => {
  const links = [...fds()].filter(([, link]) => !ofNode.test(link))
  return new Set(links.map(([fd, link]) => `fd ${fd} ${link}`))
}
const tasks = () => readdirSync('/proc/self/task')

/** Fds, mounts and owned threads that come from now on; as left.ts, with few calls, since each is asked about. */
const watch = (): (() => Promise<string[]>) => {
  const [before, known] = [opened(), new Set(tasks())]
  const table = new Set(mounts().map(({ id }) => id))
  const left = (): string[] => {
    const found = [...opened()].filter((each) => !before.has(each))
    const mounted = mounts().filter(({ id }) => !table.has(id))
    found.push(...mounted.map(({ type, target }) => `${type} at ${target}`))
    if (tasks().every((tid) => known.has(tid))) return found
    const owned = [...threads()].filter(([tid, name]) => name.startsWith('ofd-') && !known.has(String(tid)))
    return [...found, ...owned.map(([, name]) => `thread ${name}`)]
  }
  return () => settled(left, (found) => found.length === 0)
}

/** Takes away what stands for fds whose close was made to fail. */
const closeStandIns = (): number => {
  const found = [...fds()].filter(([, link]) => link === closedLink)
  for (const [fd] of found) closeSync(fd)
  return found.length
}

/** Calls that a rung can do without, by another rung; their ENOSYS before anything is visible is a feature's, no fault. */
const features = new Set([
  ...[
    'fsopen',
    'fsconfig',
    'fsmount',
    'move_mount',
    'open_tree',
    'open_tree_attr',
    'mount_setattr',
    'openat2',
  ],
])

const wasVisible = ({ plan, at = 0 }: Site): boolean =>
  plan!.steps.slice(0, at).some(({ commits }) => commits)

/** Whether `auto` goes on to another rung. */
const fallsBack = (operation: Operation, site: Site, errno: number): boolean =>
  operation.first !== undefined &&
  site.phase === 'main' &&
  site.plan?.title === operation.first &&
  features.has(site.step!.call) &&
  errnoName(errno) === 'ENOSYS' &&
  !wasVisible(site)

/** What is wrong with the rungs that were tried. */
const wrongRungs = (
  operation: Operation,
  { error, rungs, hasMade }: Ended,
  [site, errno]: [Site, number],
) => {
  const { first } = operation
  if (first === undefined) return undefined
  const others = rungs.filter((rung) => rung !== first)
  if (!fallsBack(operation, site, errno)) {
    return others.length > 0 ? `no feature is missing, and ${others} was tried` : undefined
  }
  if (hasMade) return undefined
  // none can do without it
  const isNamed =
    error instanceof RungError && error.message.includes(`ENOSYS at its first use: ${site.made.call}(`)
  return isNamed ? undefined : `neither another way nor a RungError that names the call: ${error}`
}

const backgroundPlans = new Set(['discard', 'unstage'])

/** What may come of a fault besides an error that names the step. */
type Result = 'error' | 'success' | 'either'

/** A directory, or a file, that is to be there afterwards. */
const isMaking = (step: Site['step']): boolean =>
  step?.call === 'mkdirat' ||
  (step?.call === 'openat' && step.tolerate?.some((errno) => errnoName(errno) === 'EEXIST') === true)

/** Steps whose failure has another way out. */
const recoveries: readonly { readonly why: string; is(site: Site, errno: string): boolean }[] = [
  {
    why: 'symbolic links on the way are resolved, and then it is looked up again',
    is: ({ step }, errno) => step?.call === 'openat2' && errno === 'ELOOP',
  },
  {
    why: 'a directory above the one to be made is made too, though it was there',
    is: ({ step }, errno) =>
      errno === 'ENOENT' && (isMaking(step) || step?.subject?.option === 'target.path'),
  },
  {
    why: 'a layer whose name leads elsewhere gets a tree of its own; an upper is looked up without symbolic links',
    is: ({ step }, errno) =>
      ['openat2', 'statx', 'fsconfig'].includes(step!.call) &&
      /^(lower|upper|work)dir$/.test(step?.subject?.option ?? '') &&
      ['ENOENT', 'ENOTDIR', 'ELOOP', 'EXDEV', 'EAGAIN'].includes(errno),
  },
]

const resultOf = (site: Site, errno: number): Result => {
  const { step, phase, plan, made } = site
  if (phase === 'thread') return 'either'
  // `close()` of a stack waits for it, and says that its trees are still attached; in the background nobody is told
  if (phase === 'main' && plan!.title === 'unstage' && made.call !== 'close') return 'either'
  if (phase !== 'main' || backgroundPlans.has(plan!.title)) return 'success'
  if (step!.tolerate?.includes(errno)) return isUntrue(site, errno) ? 'either' : 'success'
  if (step!.call === 'userns' && isGidMapRefused(site.nth, errno)) return 'success'
  if (made.call !== step!.call && ['close', 'wait4'].includes(made.call)) return 'success'
  return recoveries.some(({ is }) => is(site, errnoName(errno))) ? 'either' : 'error'
}

/** Tolerated because there is nothing to do then, though here there is: what comes next may fail by itself. */
const isUntrue = ({ step }: Site, errno: number): boolean =>
  step?.tolerate?.includes(errno) === true && (step.call === 'unlinkat' || isMaking(step))

/** To `Rootfs.fromFd` it says that the mount is the root of another mount namespace. */
const isForeignRoot = ({ plan, step }: Site, errno: number): boolean =>
  plan?.title === 'take rootfs' && step?.call === 'mount_setattr' && errnoName(errno) === 'EINVAL'

/** To `Mount.open`, these say that the mount is not there. */
const isAnswer = ({ plan }: Site, errno: number): boolean =>
  plan?.title === 'open mount' && ['ENOENT', 'ENOTDIR', 'ELOOP'].includes(errnoName(errno))

/** What the set-up of the staging namespace says of the staged rungs: gone for good, or for this mount. */
const rungLoss: Readonly<Record<string, string>> = { ENOSYS: 'at its first use', EPERM: 'this time' }

const lossAt = ({ plan, phase }: Site, errno: number): string | undefined =>
  phase === 'main' && plan?.title === 'set up staging' ? rungLoss[errnoName(errno)] : undefined

const isMissingRung = (error: unknown, site: Site, errno: number): boolean => {
  const loss = lossAt(site, errno)
  const words = `${errnoName(errno)} ${loss}: ${site.made.call}(`
  return loss !== undefined && error instanceof RungError && error.message.includes(words)
}

/** What is wrong with the error of a step that was made to fail. */
const misnamed = (error: unknown, site: Site, errno: number): string | undefined => {
  if (error instanceof HandoverError && isAnswer(site, errno)) return undefined
  if (error instanceof TypeError && isForeignRoot(site, errno)) return undefined
  if (isMissingRung(error, site, errno)) return undefined
  if (!(error instanceof MountError)) return `not a MountError: ${error}`
  const { step, at } = site
  const wanted = `${errnoName(errno)} ${step?.call} ${at}`
  const found = `${errnoName(-error.errno)} ${error.syscall} ${error.step}`
  return wanted === found ? undefined : `named as ${found}: ${error.message}`
}

/** Undo steps without which what they were to take away stays. */
const mayRemain = ({ phase, made }: Site): boolean =>
  phase === 'undo' &&
  ['umount2', 'unlinkat', 'openat', 'statx', 'setns', 'fchdir', 'chroot'].includes(made.call)

const faultAt = ({ made, index }: Site, errno: number): Fault => ({
  thread: made.thread,
  index,
  call: made.call,
  errno,
})

/** Mounts that were not there before; with `remove` they go. */
const newMounts = (before: ReadonlySet<number>): string[] =>
  mounts()
    .filter(({ id }) => !before.has(id))
    .map(({ type, target }) => {
      execFileSync('umount', ['-l', target.toString()])
      return `${type} at ${target}`
    })

interface Case {
  /** a fault has not happened, or happened to another step */
  readonly isMissed: boolean
  readonly problems: string[]
  readonly sites: readonly Site[]
}

/** One run with faults on a mounter of its own, and one more without. */
const runCase = async (
  operation: Operation,
  faults: readonly (readonly [site: Site, errno: number])[],
): Promise<Case> => {
  const left = watch()
  const before = new Set(mounts().map(({ id }) => id))
  const mounter = new Mounter({ threads: 1, reapers: 1, ...operation.mounter })
  const ended = await attempt(
    operation,
    mounter,
    faults.map(([site, errno]) => faultAt(site, errno)),
  )
  const { problems } = ended
  const [first] = faults
  if (first === undefined) {
    if (ended.error) problems.push(`${ended.error}`)
  } else {
    const isFeature = fallsBack(operation, ...first)
    const wanted = isFeature ? 'either' : resultOf(...first)
    const strange = wrongRungs(operation, ended, [...first])
    if (strange !== undefined) problems.push(strange)
    if (wanted === 'success' && ended.error) problems.push(`no success: ${ended.error}`)
    if (wanted === 'error' && !ended.error) problems.push('no error')
    const isNamed = wanted !== 'success' && first[0].phase !== 'thread' && !isUntrue(...first) && !isFeature
    if (isNamed && ended.error) {
      const wrong = misnamed(ended.error, ...first)
      if (wrong !== undefined) problems.push(wrong)
    }
  }
  const remains = faults.slice(1).some(([site]) => mayRemain(site))
  const found = newMounts(before)
  // what was made stays what it is: directories
  const made = operation.left?.() ?? []
  if (!ended.hasMade) found.push(...made)
  if (!remains) problems.push(...found.map((each) => `after the fault: ${each}`))
  closeStandIns()
  const again = await perform(operation, mounter)
  const isOver = first !== undefined && lossAt(...first) === rungLoss['ENOSYS']
  if (first !== undefined && fallsBack(operation, ...first)) {
    if (String(again.error) !== String(ended.error)) problems.push(`and then: ${again.error}`)
  } else if (isOver !== (first !== undefined && isMissingRung(again.error, ...first)))
    problems.push(`the rung is ${isOver ? 'still there' : 'gone'}: ${again.error}`)
  else if (again.error && !isOver) problems.push(`and then: ${again.error}`)
  operation.left?.()
  await mounter.close()
  problems.push(...(await left()).map((each) => `left: ${each}`))
  newMounts(before)
  const hit = ended.sites.filter(({ made }) => made.errno !== 0).map(nameOf)
  const isMissed =
    hit.sort().join() !==
    faults
      .map(([site]) => nameOf(site))
      .sort()
      .join()
  return { problems, sites: ended.sites, isMissed }
}

const callsOf = ({ title, steps }: Plan): string =>
  `${title}: ${steps.map(({ call, when = '' }) => call + when).join()}`

/** A step of a program that makes the same calls, whatever operation it is part of, but for its form. */
const keyOf = (site: Site, { form = '' }: Operation): string =>
  `${form} ${site.plan && callsOf(site.plan)} ${nameOf(site)}`

/**
 * A step that takes something back, by what that is: a directory that was there is not removed by one operation, and
 * one that was made is by another.
 */
const undoName = ({ title, steps }: Plan, at: number): string => {
  const { call, ifDone } = steps[at]!
  const done = ifDone && `${ifDone.call} ${ifDone.subject?.option ?? ''} ${ifDone.when ?? ''}`
  return `${title}: ${call} after ${done ?? 'any failure'}`
}

/** The steps that take something back, of plans that ran, and those of them that have made their calls. */
const countUndo = ({ all, reached }: Swept['undo'], sites: readonly Site[]): void => {
  for (const { plan } of handedOver()) {
    for (const [at, { when, call }] of plan.steps.entries())
      if (when === 'undo' && systemCalls[call].length > 0) all.add(undoName(plan, at))
  }
  markUndone({ reached }, sites)
}

const markUndone = ({ reached }: Pick<Swept['undo'], 'reached'>, sites: readonly Site[]): void => {
  for (const { plan, phase, step, at } of sites)
    if (plan && step && phase === 'undo') reached.add(undoName(plan, at!))
}

/**
 * Sweeps an operation. Problems are in words, with the faults that led to them.
 *
 * @param seen what other operations have had failing already: programs of the same calls are swept once
 */
export const sweep = async (operation: Operation, seen: Set<string>): Promise<Swept> => {
  const swept: Swept = { steps: 0, undo: { all: new Set(), reached: new Set() }, cases: 0, problems: [] }
  const errnosFor = operation.form === undefined ? errnosOf : fewErrnosOf
  const key = (site: Site): string => keyOf(site, operation)
  const run = async (...faults: [site: Site, errno: number][]): Promise<readonly Site[]> => {
    let { problems, sites, isMissed } = await runCase(operation, faults)
    // what is collected in the background may be closed in another order
    for (let tries = 0; isMissed && tries < 3; tries++) {
      ;({ problems, sites, isMissed } = await runCase(operation, faults))
    }
    const what = faults.map(([site, errno]) => `${errnoName(errno)} at ${nameOf(site)}`).join(', then ')
    swept.problems.push(...problems.map((problem) => `${operation.name}: ${what || 'no fault'}: ${problem}`))
    // of `auto` the first rung alone is swept: where none fails
    if (operation.first === undefined || faults.length === 0) countUndo(swept.undo, sites)
    else markUndone(swept.undo, sites)
    if (faults.length > 0) swept.cases++
    return sites
  }
  const known = await run()
  if (swept.problems.length > 0) return swept
  // what is made to fail anyway is no news of a run with a fault
  const usual = new Set(known.map(key))
  for (const site of known) {
    // several threads get ready at once: whose call is whose cannot be told
    if (seen.has(key(site)) || (site.phase === 'thread' && site.made.thread === 'ofd-visit')) continue
    seen.add(key(site))
    swept.steps++
    for (const [nth, errno] of errnosFor(site.made.call).entries()) {
      const after = await run([site, errno])
      if (nth > 0 || resultOf(site, errno) !== 'error') continue
      for (const undone of after) {
        const name = key(undone)
        if (!['undo', 'always', 'end'].includes(undone.phase) || undone.made.errno !== 0) continue
        if (usual.has(name) || seen.has(name)) continue
        seen.add(name)
        swept.steps++
        for (const second of errnosFor(undone.made.call)) await run([site, errno], [undone, second])
      }
    }
  }
  return swept
}
