/**
 * Who made an overlay, in the mount itself: its source, which mountinfo, findmnt(8) and statmount(2) show.
 *
 *   overlayfd:4026531836/4711@8215
 *             |          |    start of the process, in ticks of 1/100 s since boot (/proc/PID/stat)
 *             |          its pid
 *             the pid namespace that counts it so (inode of /proc/PID/ns/pid)
 *
 * The kernel sets it together with the mount, and it goes with the mount: after a crash there is no file that could be
 * wrong, missing or left over. The text is the same for all mounts of a process, so it is part of a plan
 * that is made once.
 *
 * A pid alone would be another process's sooner or later; with its start it is this process's for as long as the
 * machine is up.
 */
import { readFileSync, readlinkSync } from 'node:fs'
import { readingIfThere } from '../exhausted.js'

/** A process, as the mark in a mount names it. */
export interface Owner {
  /** inode of its pid namespace */
  readonly pidNamespace: number
  readonly pid: number
  /** ticks of 1/100 s since boot */
  readonly startTime: number
}

/** What every mark begins with. */
export const markPrefix = 'overlayfd:'

/** What `explain` prints for it, which plans for no process in particular. */
export const markShape = `${markPrefix}PIDNS/PID@START`

export const markOf = ({ pidNamespace, pid, startTime }: Owner): string =>
  `${markPrefix}${pidNamespace}/${pid}@${startTime}`

/** The owner that a mount's source names; undefined if it is no mark, or not as `markOf` writes it. */
export function parseMark(source: string): Owner | undefined {
  const numbers = /^overlayfd:([1-9]\d{0,9})\/([1-9]\d{0,9})@(0|[1-9]\d{0,15})$/.exec(source)
  if (numbers === null) return undefined
  const [pidNamespace, pid, startTime] = numbers.slice(1).map(Number) as [number, number, number]
  return Number.isSafeInteger(startTime) ? { pidNamespace, pid, startTime } : undefined
}

/** What of the system the judgement needs: tests replace it. */
export interface ProcessTable {
  /** the caller's own pid */
  readonly self: number
  /** text of a file below /proc; undefined where it cannot be read */
  read(file: string): string | undefined
  /** target of a link below /proc */
  link(file: string): string | undefined
  /** kill(pid, 0) */
  exists(pid: number): boolean
}

/** State and start of a process, from the text of /proc/PID/stat: its name may hold anything, `)` too. */
function statOf(text: string | undefined): { state: string; startTime: number } | undefined {
  const fields = text?.slice(text.lastIndexOf(')') + 2).split(' ')
  const [state, start] = [fields?.[0], Number(fields?.[19])]
  return state !== undefined && Number.isSafeInteger(start) ? { state, startTime: start } : undefined
}

/** Starts are shown as the reader's time namespace counts; this is what it adds. */
function bootOffset(table: ProcessTable): number {
  const [, seconds = '0', nanoseconds = '0'] =
    /^boottime\s+(-?\d+)\s+(\d+)/m.exec(table.read('self/timens_offsets') ?? '') ?? []
  return Number(seconds) * 100 + Math.floor(Number(nanoseconds) / 10_000_000)
}

/** Pid namespace of the caller, if /proc counts pids as it does. */
function namespaceOf(table: ProcessTable): number | undefined {
  if (table.link('self') !== String(table.self)) return undefined
  const inode = Number(/^pid:\[(\d+)\]$/.exec(table.link('self/ns/pid') ?? '')?.[1])
  return Number.isSafeInteger(inode) ? inode : undefined
}

/** The calling process; undefined where /proc does not tell. */
export function ownOwner(table: ProcessTable = procTable): Owner | undefined {
  const pidNamespace = namespaceOf(table)
  const stat = statOf(table.read('self/stat'))
  if (pidNamespace === undefined || stat === undefined) return undefined
  const startTime = stat.startTime - bootOffset(table)
  return startTime < 0 ? undefined : { pidNamespace, pid: table.self, startTime }
}

/**
 * Whether an owner is alive; undefined where that cannot be told from here: it belongs to another pid namespace, or
 * /proc hides it. A zombie holds no mount, and is dead.
 */
export function isAlive(owner: Owner, table: ProcessTable = procTable): boolean | undefined {
  if (namespaceOf(table) !== owner.pidNamespace) return undefined
  if (!table.exists(owner.pid)) return false
  const stat = statOf(table.read(`${owner.pid}/stat`))
  // it may have ended since
  if (stat === undefined) return table.exists(owner.pid) ? undefined : false
  if (stat.state === 'Z' || stat.state === 'X') return false
  // two roundings
  return Math.abs(stat.startTime - bootOffset(table) - owner.startTime) <= 1
}

const procTable: ProcessTable = {
  self: process.pid,
  // undefined: gone, hidden, or no /proc
  read: (file) => readingIfThere(`/proc/${file}`, () => readFileSync(`/proc/${file}`, 'latin1')),
  link: (file) => readingIfThere(`/proc/${file}`, () => readlinkSync(`/proc/${file}`)),
  exists: (pid) => {
    try {
      return process.kill(pid, 0)
    } catch (error) {
      return (error as NodeJS.ErrnoException).code !== 'ESRCH'
    }
  },
}

let own: { readonly mark: string | undefined } | undefined

/**
 * The mark of this process, looked up once.
 *
 * @throws SyscallError EMFILE, ENFILE, ENOMEM: no room to look. A mount without a mark would not be found by `reconcile`
 */
export function ownMark(): string | undefined {
  if (own === undefined) {
    const owner = ownOwner()
    own = { mark: owner && markOf(owner) }
  }
  return own.mark
}
