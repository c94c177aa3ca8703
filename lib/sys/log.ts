/**
 * The log of a filesystem context: what the kernel has to say about a failing fsconfig(2) or fsmount(2).
 *
 * A read(2) takes one line out of it. There are at most 8, the oldest are dropped, so a line not read
 * after the failure may be gone after the next.
 */
import { binding } from '../binding.js'
import { errnoNumber } from '../errno.js'
import { invalidArgValue } from '../errors.js'
import { AT_FDCWD } from '../flags.js'
import { fdNotation } from '../notation.js'
import { cString } from '../path.js'
import { check, checkFd } from './call.js'

/** One line of the log. */
export interface LogLine {
  level: 'error' | 'warning' | 'info'
  /** without level and newline; it begins with the name of the filesystem: `overlay: …` */
  message: string
}

const levels: Readonly<Record<string, LogLine['level']>> = { e: 'error', w: 'warning', i: 'info' }
const ENODATA = errnoNumber('ENODATA') ?? 0
// a kernel before 6.17 throws away a line that does not fit
const bufferSize = 4096

/** One line as the kernel writes it, `e overlay: …` and a newline. */
export function parseLogLine(line: string): LogLine {
  const [, level = '', message = line] = /^([ewi]) (.*)$/s.exec(line) ?? []
  return { level: levels[level] ?? 'info', message: message.replace(/\n$/, '') }
}

/**
 * `read(fsFd, buffer, 4096)`, until there is no line left. Linux 5.2.
 *
 * Failing fsconfig and fsmount functions do this themselves: their SyscallError has the lines in `log`.
 * For warnings that a successful call left, and for contexts that came from elsewhere.
 *
 * @param fsFd a context of fsopen or fspick; a readable fd of another kind is refused, as reading it could
 *   take forever
 * @returns the lines, oldest first, at most 8; reading takes them out. Text that is not UTF-8 has U+FFFD in
 *   it
 * @throws SyscallError EBADF: not an open fd
 * @see fsopen(2), "Message retrieval interface"
 */
export function readLog(fsFd: number): LogLine[] {
  checkFd(fsFd, 'fsFd')
  if (isFsContext(fsFd) === false) {
    throw invalidArgValue('fsFd', fsFd, 'must be a filesystem context, of fsopen or fspick')
  }
  return drain(fsFd)
}

/** The messages for the error of a failed call; none if it may have failed because fsFd is no context. */
export function failureLog(fsFd: number): string[] {
  if (isFsContext(fsFd) !== true) return []
  try {
    return drain(fsFd).map((line) => line.message)
  } catch {
    // the error that is being made matters more
    return []
  }
}

function drain(fsFd: number): LogLine[] {
  const lines: LogLine[] = []
  const buffer = Buffer.alloc(bufferSize)
  for (;;) {
    const size = binding.read(fsFd, buffer)
    if (size === 0 || size === -ENODATA) return lines
    check(size, () => ({ syscall: 'read', args: [fdNotation(fsFd), '{...}', String(bufferSize)] }))
    lines.push(parseLogLine(buffer.toString('utf8', 0, size)))
  }
}

/**
 * undefined where it cannot be told: not open, or no /proc. By the addon, because Deno keeps node:fs out of
 * /proc unless everything is allowed.
 */
function isFsContext(fd: number): boolean | undefined {
  const target = Buffer.alloc(64)
  const size = binding.readlinkat(AT_FDCWD, cString(`/proc/self/fd/${fd}`, 'path'), target)
  return size < 0 ? undefined : target.toString('latin1', 0, size) === 'anon_inode:[fscontext]'
}
