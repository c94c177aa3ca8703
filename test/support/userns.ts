/**
 * User namespaces, and what a container's root sees: the other side of an idmapped mount.
 *
 * A child that only waits keeps the namespace alive; its maps are written from here, as root. Commands run in
 * it through nsenter(1), as its root, in the mount namespace of the test: so a path means the same.
 */
import { execFileSync, type StdioOptions, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import type { IdExtent } from '../../lib/index.js'
import { isPrivileged } from './needs.js'
import type { Teardown } from './scratch.js'

/** `inside` 0 and up are `outside` and up, for users and groups. */
export const mapping = (outside = 100_000, length = 65_536) => {
  const range: IdExtent[] = [{ inside: 0, outside, length }]
  return { uid: range, gid: range }
}

export interface UserNamespace {
  readonly pid: number
  /** `/proc/PID/ns/user` */
  readonly path: string
  /**
   * Runs a script of sh as its root and gives what it printed.
   *
   * @param fds of this process, which the script has as 3, 4, …
   */
  sh(script: string, ...fds: number[]): string
  /** what find(1) says of each name below a directory: `name type mode uid:gid`, as seen from inside */
  owners(dir: string, ...fds: number[]): string[]
  /** earlier than at the end of the test */
  stop(): Promise<void>
}

const mapText = (extents: readonly IdExtent[]): string =>
  extents.map(({ inside, outside, length }) => `${inside} ${outside} ${length}\n`).join('')

export const userNamespace = async (
  t: Teardown,
  { uid, gid }: { uid: readonly IdExtent[]; gid: readonly IdExtent[] },
): Promise<UserNamespace> => {
  if (!isPrivileged) throw new Error('userNamespace: only in a test that needs `privileged` (needs.ts)')
  const child = spawn('unshare', ['--user', 'sh', '-c', 'echo ready; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const ended = once(child, 'exit')
  const stop = async (): Promise<void> => {
    child.kill('SIGKILL')
    await ended
  }
  t.teardown(stop)
  await Promise.race([
    once(child.stdout, 'data'),
    ended.then(() => Promise.reject(new Error('unshare ended'))),
  ])
  const pid = child.pid as number
  writeFileSync(`/proc/${pid}/uid_map`, mapText(uid))
  writeFileSync(`/proc/${pid}/gid_map`, mapText(gid))
  const sh = (script: string, ...fds: number[]): string => {
    const stdio: StdioOptions = ['ignore', 'pipe', 'pipe', ...fds]
    const args = ['--target', String(pid), '--user', '--setuid', '0', '--setgid', '0', 'sh', '-ec', script]
    return execFileSync('nsenter', args, { stdio, encoding: 'utf8' })
  }
  return {
    pid,
    path: `/proc/${pid}/ns/user`,
    sh,
    owners: (dir, ...fds) =>
      sh(`cd '${dir}' && find . -mindepth 1 -printf '%P %y %m %U:%G\\n' | sort`, ...fds)
        .split('\n')
        .filter((line) => line !== ''),
    stop,
  }
}
