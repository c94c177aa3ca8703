/**
 * What a process has open, and what the kernel keeps for it: for tests that nothing is left.
 *
 * Everything is read from /proc by synchronous calls, which themselves open one fd and no thread. What is
 * collected in the background (fds by owned threads, superblocks by the kernel) needs a moment: `settled`
 * waits for it instead of sleeping for a fixed time.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

export type ProcessId = number | 'self'

const missing = (error: unknown): boolean =>
  ['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')

/** Each name's value; a name that is gone by the time it is read is left out, as the fd of the listing is. */
const each = <T>(names: readonly string[], value: (name: string) => T): [string, T][] =>
  names.flatMap((name): [string, T][] => {
    try {
      return [[name, value(name)]]
    } catch (error) {
      if (missing(error)) return []
      throw error
    }
  })

/** fd → what it refers to, as /proc has it: a path, `anon_inode:[fscontext]`, `pipe:[4711]`, … */
export const fds = (pid: ProcessId = 'self'): Map<number, string> => {
  const links = each(readdirSync(`/proc/${pid}/fd`), (fd) => readlinkSync(`/proc/${pid}/fd/${fd}`))
  return new Map(links.map(([fd, link]) => [Number(fd), link]))
}

/** Thread id → name. */
export const threads = (pid: ProcessId = 'self'): Map<number, string> => {
  const names = each(readdirSync(`/proc/${pid}/task`), (tid) =>
    readFileSync(`/proc/${pid}/task/${tid}/comm`, 'utf8').trimEnd(),
  )
  return new Map(names.map(([tid, name]) => [Number(tid), name]))
}

export const mountCount = (pid: ProcessId = 'self'): number =>
  readFileSync(`/proc/${pid}/mountinfo`, 'latin1').split('\n').length - 1

const kilobytes = (file: string, field: string): number => {
  const value = new RegExp(`^${field}:\\s*(\\d+) kB$`, 'm').exec(readFileSync(file, 'utf8'))?.[1]
  if (value === undefined) throw new Error(`${file} has no ${field}`)
  return Number(value)
}

/** Resident memory of a process, in KiB. */
export const residentKilobytes = (pid: ProcessId = 'self'): number =>
  kilobytes(`/proc/${pid}/status`, 'VmRSS')

/** What the kernel keeps in slabs, of the whole machine, in KiB; `unreclaimable` is what no cache explains. */
export const slabKilobytes = (): { total: number; unreclaimable: number } => ({
  total: kilobytes('/proc/meminfo', 'Slab'),
  unreclaimable: kilobytes('/proc/meminfo', 'SUnreclaim'),
})

export interface Counts {
  readonly fds: number
  readonly threads: number
  readonly mounts: number
}

export const counts = (pid: ProcessId = 'self'): Counts => ({
  fds: fds(pid).size,
  threads: threads(pid).size,
  mounts: mountCount(pid),
})

/** Reads again until `isWanted` holds or the time is over; the last value read either way. */
export const settled = async <T>(
  value: () => T,
  isWanted: (value: T) => boolean,
  milliseconds = 3000,
): Promise<T> => {
  const end = performance.now() + milliseconds
  for (;;) {
    const now = value()
    if (isWanted(now) || performance.now() > end) return now
    await sleep(10)
  }
}
