/**
 * Other mount namespaces that look on while a test mounts: a peer and a slave of the test's own.
 *
 * The usual host has `/` shared (systemd makes it so): what is mounted below it is copied into every peer
 * and slave namespace, and what the library does meanwhile must not be seen there, nor stay. A child that only
 * waits keeps each namespace alive. It waits for the end of its standard input, so that it ends with the
 * test however that ends.
 *
 *   own    mount --make-rshared /            undone by --make-rprivate /
 *   peer   unshare --propagation unchanged   same peer group: copies both ways
 *   slave  unshare --propagation slave       copies from here only
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { isBelow, type Mount, mounts } from './mountinfo.js'
import { isPrivileged } from './needs.js'
import type { Teardown } from './scratch.js'

export type Propagation = 'private' | 'shared'
export const propagations: readonly Propagation[] = ['private', 'shared']

const kinds = { peer: 'unchanged', slave: 'slave' } as const
export type Kind = keyof typeof kinds

export interface Peers {
  /** all mounts that are seen there, or those at and below a directory */
  mounts(kind: Kind, dir?: string): Mount[]
  pid(kind: Kind): number
  /** ends both and makes `/` private again; doing it twice is doing it once */
  stop(): Promise<void>
}

const waiting = async (propagation: string): Promise<ChildProcess> => {
  const script = 'echo ready; exec cat'
  const child = spawn('unshare', ['-m', '--propagation', propagation, 'sh', '-c', script], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const ended = once(child, 'exit').then(([status]) => {
    throw new Error(`unshare -m --propagation ${propagation} ended with status ${status}`)
  })
  await Promise.race([once(child.stdout as NodeJS.ReadableStream, 'data'), ended])
  ended.catch(() => undefined)
  return child
}

/** `propagation` is that of `/` in the test's namespace; below a private one the others see nothing. */
export const startPeers = async (propagation: Propagation): Promise<Peers> => {
  if (!isPrivileged) throw new Error('peers: only in a test that needs `privileged` (needs.ts)')
  execFileSync('mount', ['-n', `--make-r${propagation}`, '/'])
  const children = new Map<Kind, ChildProcess>()
  const pid = (kind: Kind): number => children.get(kind)?.pid as number
  const stop = async (): Promise<void> => {
    for (const child of children.values()) {
      const ended = once(child, 'exit')
      child.kill('SIGKILL')
      await ended
    }
    children.clear()
    execFileSync('mount', ['-n', '--make-rprivate', '/'])
  }
  try {
    for (const kind of Object.keys(kinds) as Kind[]) children.set(kind, await waiting(kinds[kind]))
  } catch (error) {
    await stop()
    throw error
  }
  return {
    mounts: (kind, dir = '/') => mounts(pid(kind)).filter((mount) => dir === '/' || isBelow(mount, dir)),
    pid,
    stop,
  }
}

const describe = (mount: Mount): string => `${mount.type} at ${mount.target.toString()}`

/**
 * Runs `body` with `/` private or shared and both namespaces looking on. Afterwards neither may have a mount
 * that it did not have before.
 */
export const withPropagation = async (
  t: Teardown,
  propagation: Propagation,
  body: (peers: Peers) => void | Promise<void>,
): Promise<void> => {
  const peers = await startPeers(propagation)
  t.teardown(() => peers.stop())
  const kindsSeen = Object.keys(kinds) as Kind[]
  const before = new Map(kindsSeen.map((kind) => [kind, new Set(peers.mounts(kind).map(({ id }) => id))]))
  await body(peers)
  const left = kindsSeen.flatMap((kind) =>
    peers
      .mounts(kind)
      .filter(({ id }) => !before.get(kind)?.has(id))
      .map((mount) => `${describe(mount)} in the ${kind} namespace`),
  )
  await peers.stop()
  if (left.length > 0) throw new Error(`left mounted: ${left.join(', ')}`)
}
