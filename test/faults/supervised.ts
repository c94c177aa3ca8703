/**
 * Test files that run under the supervisor (supervisor.c): they start themselves again below it, and ask it over the
 * socket that it gave them.
 *
 *   if (isSupervised(import.meta.url)) { …the tests, which import tap }
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { SystemCall } from './errnos.js'

const socket = Number(process.env['OVERLAYFD_FAULTS'] ?? -1)

/** Makes the program, in a directory; its path. */
export const compileSupervisor = (dir: string): string => {
  const supervisor = join(dir, 'supervisor')
  const source = fileURLToPath(new URL('supervisor.c', import.meta.url))
  execFileSync('gcc', ['-O2', '-Wall', '-Wextra', '-Werror', '-o', supervisor, source])
  return supervisor
}

/**
 * True below the supervisor. Elsewhere the file is run again below it, its output being this process's own, and then
 * there is nothing left to do.
 */
export const isSupervised = (url: string): boolean => {
  if (socket >= 0) return true
  const dir = mkdtempSync(join(tmpdir(), 'overlayfd-faults-'))
  try {
    const supervisor = compileSupervisor(dir)
    const args = [process.execPath, ...process.execArgv, fileURLToPath(url)]
    // one arena: where malloc(3) shrinks another, it reads a file of /proc first, once in a process
    const env = { ...process.env, MALLOC_ARENA_MAX: '1' }
    const { status, error } = spawnSync(supervisor, args, { stdio: 'inherit', env })
    if (error) throw error
    process.exitCode = status ?? 1
  } finally {
    rmSync(dir, { recursive: true })
  }
  return false
}

/** The `index`-th call, from 0, that threads of this name make fails with `errno` if it is a `call`. */
export interface Fault {
  readonly thread: string
  readonly index: number
  readonly call: SystemCall
  readonly errno: number
}

/** A call that an owned thread made. */
export interface Made {
  readonly thread: string
  readonly tid: number
  readonly call: SystemCall
  /** the first one, as an int: of close(2) the fd */
  readonly argument: number
  /** what the supervisor let it answer; 0 if it let it through */
  readonly errno: number
}

const answer = Buffer.alloc(1 << 20)

const ask = (text: string): string[] => {
  writeSync(socket, text)
  return answer
    .toString('latin1', 0, readSync(socket, answer))
    .split('\n')
    .filter((line) => line !== '')
}

/** From now on calls of owned threads are written down, and those of the list fail. */
export const arm = (faults: readonly Fault[]): void => {
  const words = faults.flatMap(({ thread, index, call, errno }) => [thread, index, call, errno])
  const [said] = ask(['arm', ...words].join(' '))
  if (said !== 'armed') throw new Error(`supervisor: ${said}`)
}

/** What was written down, in order; nothing fails any more. */
export const report = (): Made[] =>
  ask('report').map((line) => {
    const [thread, tid, call, argument, errno] = line.split(' ') as [
      string,
      string,
      SystemCall,
      string,
      string,
    ]
    return { thread, tid: Number(tid), call, argument: Number(argument), errno: Number(errno) }
  })

/** The calls that the supervisor is asked about. */
export const supervisedCalls = (): string[] => ask('calls')

/** Link of the fd that stands where one was closed by a close that was made to fail. */
export const closedLink = '/memfd:closed (deleted)'
