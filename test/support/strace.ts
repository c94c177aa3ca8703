/**
 * Runs a script under strace(1) and gives what it saw as objects: which thread made which call, in order.
 *
 * The oracle of a plan's cost. Owned threads have names (`ofd-compose`, `ofd-reap`). strace writes a name beside
 * the thread's id, but 6.1 goes on with the old one after some threads renamed themselves, so the call that names a
 * thread is traced always and wins. A thread has the name that it had last, for all of its calls.
 * To count only a part of a script, let it make a call that stands out before and after
 * (`mark` in the script, `between` here): order across threads is the order of strace's one output file.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Ended, run } from './child.js'

export interface Syscall {
  readonly tid: number
  /** of the thread, as it was last seen */
  readonly thread: string
  readonly name: string
  /** as strace prints them, without the parentheses */
  readonly args: string
  /** as strace prints it: `3`, `-1 EINVAL (Invalid argument)`, `?` */
  readonly result: string
  /** its place in the list of all calls */
  readonly begun: number
  /** the place of the call that began next after its end */
  readonly ended: number
}

const LINE = /^(\d+)(?:<(.*?)>)? +(.*)$/
/** younger than strace 6.1, which gives their numbers */
const unnamed: Readonly<Record<string, string>> = { syscall_0x1d3: 'open_tree_attr' }
const CALL = /^(\w+)\((.*)\)\s+= (.*)$/
const BEGUN = /^(\w+)\((.*?)\s*<unfinished \.\.\.>$/
const RESUMED = /^<\.\.\. (\w+) resumed>(.*)$/

/** A call that was interrupted in the output is placed where it began; one that never ended has the result `?`. */
export const parseStrace = (text: string): Syscall[] => {
  const names = new Map<number, string>()
  const renamed = new Map<number, string>()
  const calls: Omit<Syscall, 'thread'>[] = []
  const pending = new Map<number, number>()
  for (const line of text.split('\n')) {
    const [, id, thread, what] = LINE.exec(line) ?? []
    if (id === undefined || what === undefined) continue
    const tid = Number(id)
    if (thread !== undefined) names.set(tid, thread)
    const begun = BEGUN.exec(what)
    if (begun) {
      const at = calls.length
      pending.set(tid, at)
      const never = Number.POSITIVE_INFINITY
      calls.push({
        tid,
        name: begun[1] as string,
        args: begun[2] as string,
        result: '?',
        begun: at,
        ended: never,
      })
      continue
    }
    const resumed = RESUMED.exec(what)
    const index = resumed ? pending.get(tid) : undefined
    const first = index === undefined ? undefined : calls[index]
    const whole = resumed && first ? `${first.name}(${first.args}${resumed[2]}` : what
    const [, name, args, result] = CALL.exec(whole) ?? []
    if (name === undefined || args === undefined || result === undefined) continue
    const at = index ?? calls.length
    const ended = Math.max(calls.length, at + 1)
    const call = { tid, name: unnamed[name] ?? name, args, result, begun: at, ended }
    const rename = name === 'prctl' ? /^PR_SET_NAME, "(.*)"/.exec(args)?.[1] : undefined
    if (rename !== undefined) renamed.set(tid, rename)
    calls[at] = call
    pending.delete(tid)
  }
  return calls.map((call) => ({ ...call, thread: renamed.get(call.tid) ?? names.get(call.tid) ?? '' }))
}

const MARK = '/overlayfd-mark/'

/** Source text, for the script that is traced, of a function `mark(name)`. */
export const markSource = `const mark = (name) => process.getBuiltinModule('node:fs').existsSync('${MARK}' + name)`

/** The calls of all threads after one mark and before another. */
export const between = (calls: readonly Syscall[], begin: string, end: string): Syscall[] => {
  const at = (name: string): number => {
    const index = calls.findIndex(({ args }) => args.includes(`"${MARK}${name}"`))
    if (index === -1) throw new Error(`strace saw no mark '${name}'`)
    return index
  }
  return calls.slice(at(begin) + 1, at(end))
}

export const ofThread = (calls: readonly Syscall[], thread: string): Syscall[] =>
  calls.filter((call) => call.thread === thread)

const WAKE = '"\\1\\0\\0\\0\\0\\0\\0\\0", 8'
/** What threads do besides: waiting, waking the event loop, memory. */
const besides = new Set([
  'futex',
  'mmap',
  'munmap',
  'mprotect',
  'madvise',
  'brk',
  'sched_yield',
  'restart_syscall',
])

/** Whether a call is of a plan that an owned thread ran. */
export const isOfPlan = ({ thread, name, args }: Syscall): boolean =>
  thread.startsWith('ofd-') && !besides.has(name) && !(name === 'write' && args.includes(WAKE))

/** How often each call was made. */
export const tally = (calls: readonly Syscall[]): Record<string, number> => {
  const counted: Record<string, number> = {}
  for (const { name } of calls) counted[name] = (counted[name] ?? 0) + 1
  return counted
}

export interface StraceOptions {
  /** what to trace, as `-e trace=` takes it; all unless told. Fewer calls are much faster: `--seccomp-bpf`. */
  readonly trace?: string
  /** further arguments of strace, such as `--inject=fsmount:error=ENOMEM:when=3` */
  readonly strace?: readonly string[]
  readonly timeout?: number
  readonly env?: NodeJS.ProcessEnv
}

export interface Traced extends Ended {
  readonly calls: Syscall[]
}

/**
 * For the environment of a program whose calls are counted. When threads first want memory at the same time, malloc(3) asks
 * how many CPUs there are (openat, read, close), in one run and not in the next; not if it is told how many arenas it may have.
 */
export const steadyMalloc = { MALLOC_ARENA_MAX: '64' } as const

/** Runs a program and all its threads and children under strace. */
export const straceProgram = async (
  program: string,
  args: readonly string[],
  { trace, strace = [], timeout = 90_000, env }: StraceOptions = {},
): Promise<Traced> => {
  const dir = mkdtempSync(join(tmpdir(), 'overlayfd-strace-'))
  const file = join(dir, 'out')
  // the thread's name is printed by --decode-pids, whole strings by -s; -qq keeps attach and exit lines out
  const own = ['-f', '-qq', '-s', '4096', '--signal=none', '--decode-pids=comm', '-o', file]
  const filter = trace === undefined ? [] : ['--seccomp-bpf', '-e', `trace=${trace},prctl`]
  try {
    const ended = await run('strace', [...own, ...filter, ...strace, program, ...args], {
      timeout,
      env: { ...steadyMalloc, ...env },
    })
    return { ...ended, calls: parseStrace(readFileSync(file, 'utf8')) }
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

/** Runs an ES module given as text in this Node; `mark(name)` is defined in it. */
export const straceModule = (text: string, options: StraceOptions = {}): Promise<Traced> =>
  straceProgram(process.execPath, ['--input-type=module', '--eval', `${markSource}\n${text}`], options)
