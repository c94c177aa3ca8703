/**
 * What has run out: fds, memory, processes. Such an error tells of this moment and not of the kernel or of the caller's
 * paths, so nothing is concluded from it: no feature is missing because of one, and nothing is kept that was made without
 * what could not be read. A leaf.
 */
import { readFileSync } from 'node:fs'
import { errnoName, errnoNumber } from './errno.js'
import { SyscallError } from './errors.js'
import { callNotation, stringNotation } from './notation.js'

const codes = ['EMFILE', 'ENFILE', 'ENOMEM'] as const

/** Whether something had run out when this errno was answered. */
export const hasRunOut = (code: string): boolean => (codes as readonly string[]).includes(code)

/** What limits it, for a hint; undefined where the errno does not tell. */
export function limitHint(code: string): string | undefined {
  if (code === 'EMFILE') {
    const limit = /^Max open files +(\d+)/m.exec(textOf('/proc/self/limits') ?? '')?.[1]
    const which = limit === undefined ? 'ulimit -n' : `ulimit -n, ${limit}`
    return `too many open files in this process: a stack keeps an fd of every layer (${which})`
  }
  if (code === 'ENFILE') {
    return `too many open files in this machine (fs.file-max, ${textOf('/proc/sys/fs/file-max')?.trim() ?? 'unknown'})`
  }
  return undefined
}

/** Of a process or a thread that could not be made (EAGAIN). */
export const processLimit =
  'the limit of processes and threads is reached (ulimit -u, pids.max of a cgroup, kernel.threads-max)'

/** A limit that cannot be read is left out: reading it takes an fd too. */
function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return undefined
  }
}

/**
 * Throws if a call that was to find something out had no room for it.
 *
 * @param result what the addon answered
 * @param call as it is to be named, in full
 */
export function mustHaveRoom(result: number, syscall: string, call: string): void {
  const code = result < 0 ? errnoName(-result) : ''
  if (hasRunOut(code)) throw new SyscallError({ errno: -result, syscall, call, hint: limitHint(code) })
}

/** Reads something by node:fs; for want of room a SyscallError, and what it throws as it is else. */
export function reading<T>(path: string, read: () => T): T {
  try {
    return read()
  } catch (cause) {
    const { code = '' } = cause as NodeJS.ErrnoException
    if (!hasRunOut(code)) throw cause
    const errno = errnoNumber(code)!
    const call = callNotation('open', stringNotation(Buffer.from(path)))
    throw new SyscallError({ errno, syscall: 'open', call, path, hint: limitHint(code), cause })
  }
}

/** The same for what need not be there: undefined if it cannot be read, but for want of room. */
export function readingIfThere<T>(path: string, read: () => T): T | undefined {
  try {
    return reading(path, read)
  } catch (error) {
    if (error instanceof SyscallError) throw error
    return undefined
  }
}
