/**
 * Kills a process at each of its system calls, from outside: a life (lives.mjs) is led once under strace, which tells
 * the calls of its threads; then once for each of them, by a process that strace kills as it enters that call.
 *
 *   record   the calls of the owned threads, what the JS thread does to files of the place, and its last call: the points
 *   kill     the same with `--inject=CALL:signal=KILL:when=N`; a call that is entered with SIGKILL pending is
 *            not made (Linux 6.18), so the process ends after the call before
 *   proof    strace's own report: the thread's last call is the one meant, has no result, and SIGKILL ended it
 *
 * strace joins a process that is ready, rather than starting it: it counts each thread's calls from then on, and
 * node's own beginning, thousands of calls, is neither counted nor slowed down. It counts them thread by thread, but
 * injects into all that it traces: so it joins the threads that are meant alone. One that is made later cannot be
 * joined so; with it all are traced, and a point of it that another thread would meet first is left out. A new call of
 * a plan joins the sweep by itself.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { createInterface } from 'node:readline'
import { environment } from '../support/child.js'
import { isOfPlan, parseStrace, type Syscall, steadyMalloc } from '../support/strace.js'
import type { Place } from './lives.mjs'

/** The n-th call of that name of a thread. */
export interface Point {
  readonly thread: string
  readonly call: string
  readonly nth: number
  /** as it was recorded, for people */
  readonly args: string
  /** of a thread that is made on the way */
  readonly isYoung: boolean
}

export interface Life {
  readonly name: string
  readonly place: Place
  /** for temporary files */
  readonly tmp: string
  /** program.mjs and all that it loads */
  readonly program: string
}

export interface Led {
  readonly pid: number
  readonly status: number | null
  readonly signal: NodeJS.Signals | null
  /** what it said after `ready`: handles */
  readonly said: readonly string[]
  readonly stderr: string
  readonly calls: readonly Syscall[]
  /** ids of the threads that were there when it was ready */
  readonly threads: ReadonlySet<number>
  /** thread ids that strace reports as killed */
  readonly killed: ReadonlySet<number>
}

/** Marks a process and what it starts, in its environment. */
export const markName = 'OVERLAYFD_KILL_SWEEP'

const KILLED = /^(\d+)(?:<.*?>)? +\+\+\+ killed by SIGKILL/gm
/** nothing here takes longer than a moment; this is for what hangs */
const patience = 60_000

/** Ids of the threads of a process that have a name. */
const threadsOf = (pid: number, thread: string): string[] =>
  readdirSync(`/proc/${pid}/task`).filter(
    (tid) => readFileSync(`/proc/${pid}/task/${tid}/comm`, 'utf8').trim() === thread,
  )

/** The JS thread, which has the process's id; others of that name are V8's. */
const js = basename(process.execPath)

const tidsOf = (pid: number, thread: string): string[] =>
  (thread === js ? [String(pid)] : threadsOf(pid, thread)).flatMap((tid) => ['-p', tid])

/** Leads a life under strace, with arguments for it; `thread`: of these threads alone. */
export const lead = async (
  { name, place, tmp, program }: Life,
  inject: readonly string[] = [],
  thread?: string,
): Promise<Led> => {
  const dir = mkdtempSync(join(tmpdir(), 'overlayfd-kill-'))
  const log = join(dir, 'strace')
  const child = spawn(
    'env',
    ['--unset=NODE_OPTIONS', process.execPath, program, name, JSON.stringify(place)],
    {
      env: environment({ ...steadyMalloc, [markName]: String(process.pid), TMPDIR: tmp }),
      stdio: ['pipe', 'pipe', 'pipe'],
    },
  )
  const pid = child.pid as number
  const ended = once(child, 'close')
  const timer = setTimeout(() => child.kill('SIGKILL'), patience)
  const err: Buffer[] = []
  child.stderr.on('data', (chunk: Buffer) => err.push(chunk))
  child.stdin.on('error', () => undefined)
  const stderr = () => Buffer.concat(err).toString()
  try {
    const said: string[] = []
    let isReady: () => void
    const ready = new Promise<void>((resolve) => {
      isReady = resolve
    })
    createInterface({ input: child.stdout }).on('line', (line) =>
      line === 'ready' ? isReady() : said.push(line),
    )
    const early = ended.then(() => {
      throw new Error(`${name} ended before it was ready: ${stderr()}`)
    })
    await Promise.race([ready, early])
    early.catch(() => undefined)
    const own = ['-s', '4096', '--signal=kill', '--decode-pids=comm', '-o', log, ...inject]
    const joined = thread === undefined ? ['-f', '-p', String(pid)] : tidsOf(pid, thread)
    const strace = spawn('strace', [...own, ...joined], { stdio: ['ignore', 'ignore', 'pipe'] })
    const straceEnded = once(strace, 'close')
    let report = ''
    const attached = new Promise<void>((resolve, reject) => {
      strace.stderr.on('data', (chunk: Buffer) => {
        report += chunk
        if (report.split(' attached').length > joined.filter((each) => each === '-p').length) resolve()
      })
      straceEnded.then(() => reject(new Error(`strace ended: ${report}`)), reject)
    })
    await attached
    const threads = new Set(readdirSync(`/proc/${pid}/task`).map(Number))
    child.stdin.end('.')
    const [status, signal] = (await ended) as [number | null, NodeJS.Signals | null]
    await straceEnded
    // it names the thread only where there may be more than one
    const whose = joined.length === 2 ? `${joined[1]}<${thread}> ` : ''
    const text = readFileSync(log, 'utf8').replaceAll(/^(?=.)/gm, whose)
    const killed = new Set(Array.from(text.matchAll(KILLED), ([, tid]) => Number(tid)))
    return { pid, status, signal, said, stderr: stderr(), calls: parseStrace(text), threads, killed }
  } finally {
    clearTimeout(timer)
    child.kill('SIGKILL')
    rmSync(dir, { recursive: true, force: true })
  }
}

/** What the JS thread does to files of the place is swept too. */
const isOfPlace = ({ args }: Syscall, base: string): boolean => args.includes(base)

/** Of the end of a thread, and of a process; the first has no order, the second is the last of all. */
const endings = new Set(['exit', 'rt_sigprocmask', 'rseq', 'set_robust_list'])

/** strace 6.1 cannot inject what it has no name for; the kill at the next call is the one after it. */
const unnamed = new Set(['open_tree_attr'])

/** Points that cannot be told apart from an earlier one, or not be met, besides those that can. */
export interface Found {
  readonly points: readonly Point[]
  readonly shadowed: readonly Point[]
}

/** The points of a life that was led to its end, in the order of their calls. */
export const pointsOf = ({ pid, calls, threads }: Led, base: string): Found => {
  const counted = new Map<string, number>()
  const met = new Set<string>()
  const points: Point[] = []
  const shadowed: Point[] = []
  // what it started is another process
  const children = new Set(
    calls.filter(({ name }) => name === 'clone').map(({ result }) => Number.parseInt(result, 10)),
  )
  for (const syscall of calls) {
    const { tid, thread, name, args } = syscall
    const nth = (counted.get(`${tid} ${name}`) ?? 0) + 1
    counted.set(`${tid} ${name}`, nth)
    const isFirst = !met.has(`${name} ${nth}`)
    met.add(`${name} ${nth}`)
    const isMeant =
      (isOfPlan(syscall) && !endings.has(name) && !children.has(tid)) ||
      (tid === pid && (isOfPlace(syscall, base) || name === 'exit_group'))
    if (!isMeant) continue
    const point = { thread, call: name, nth, args, isYoung: !threads.has(tid) }
    if ((point.isYoung && !isFirst) || unnamed.has(name)) shadowed.push(point)
    else points.push(point)
  }
  return { points, shadowed }
}

export const killAt = (life: Life, { call, nth, thread, isYoung }: Point): Promise<Led> =>
  lead(life, [`--inject=${call}:signal=KILL:when=${nth}`], isYoung ? undefined : thread)

/** What is wrong with the proof that a process was killed at a point; nothing if it was. */
export const disproof = (led: Led, { thread, call, nth }: Point): string | undefined => {
  if (led.signal !== 'SIGKILL') return `ended with ${led.status ?? led.signal}: ${led.stderr}`
  const found = led.calls.filter((each) => each.name === call && each.result.startsWith('?'))
  for (const each of found) {
    const own = led.calls.filter(({ tid }) => tid === each.tid)
    const number = own.filter(({ name }) => name === call).length
    if (own.at(-1) === each && number === nth && each.thread === thread && led.killed.has(each.tid))
      return undefined
  }
  return `strace did not report that ${thread} was killed at its ${call} number ${nth}`
}
