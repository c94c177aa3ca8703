/**
 * A container's mount namespace: a child in one of its own, private, whose root is a tmpfs with directories of
 * the test's choosing. What happens in it is done by scripts of sh there, with the machine's programs bound read-only.
 *
 * The namespace lives as long as its child (or an fd of it), and goes with the test however that ends: the child
 * waits for the end of its standard input.
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { statSync } from 'node:fs'
import { threads } from './counts.js'
import { type Mount, mounts } from './mountinfo.js'
import { isPrivileged } from './needs.js'
import type { Teardown } from './scratch.js'

export interface Container {
  readonly pid: number
  /** `/proc/PID/ns/mnt` */
  readonly namespace: string
  /** runs a script of sh in its namespace and root, and gives what it printed */
  sh(script: string): string
  /** its mount table */
  mounts(): Mount[]
  /** kills it; resolves when it is gone */
  stop(): Promise<void>
}

export interface ContainerOptions {
  /** whether /proc is mounted in it */
  readonly proc?: boolean
  /** in a user namespace of its own, whose root is this process's user */
  readonly userns?: boolean
  /** run in it before it is ready */
  readonly script?: string
}

/** What is preloaded here (test/memory) is not to be found in there, or would read its /proc. */
const env = { ...process.env, LD_PRELOAD: undefined }

const bound = '/bin /sbin /usr /lib /lib32 /lib64 /libx32'

export const startContainer = async (
  t: Teardown,
  { proc = true, userns = false, script = '' }: ContainerOptions = {},
): Promise<Container> => {
  if (!isPrivileged) throw new Error('container: only in a test that needs `privileged` (needs.ts)')
  // procfs belongs to the user namespace of the pid namespace
  const mountProc = userns ? 'mount -n --rbind /proc /mnt/proc' : 'mount -n -t proc proc /mnt/proc'
  const setUp = `
    set -e
    mount -n -t tmpfs -o mode=755 container /mnt
    for each in ${bound}; do
      if [ -L $each ]; then cp -P $each /mnt$each
      elif [ -d $each ]; then mkdir /mnt$each; mount -n --bind -o ro $each /mnt$each; fi
    done
    mkdir /mnt/old /mnt/proc /mnt/rootfs /mnt/tmp
    ${proc ? mountProc : ''}
    cd /mnt
    pivot_root . old
    umount -n -l old
    ${script}
    echo ready
    exec cat`
  const mapped = userns ? ['--user', '--map-root-user'] : []
  const child = spawn('unshare', [...mapped, '-m', '--propagation', 'private', 'sh', '-c', setUp], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env,
  })
  const ended = once(child, 'exit')
  const stop = async (): Promise<void> => {
    child.kill('SIGKILL')
    await ended
  }
  t.teardown(stop)
  const failed = ended.then(([status]) => {
    throw new Error(`the container ended with status ${status}`)
  })
  await Promise.race([once(child.stdout, 'data'), failed])
  failed.catch(() => undefined)
  const pid = child.pid as number
  return {
    pid,
    namespace: `/proc/${pid}/ns/mnt`,
    sh: (text) =>
      execFileSync('nsenter', [`--mount=/proc/${pid}/ns/mnt`, 'sh', '-ec', text], { encoding: 'utf8', env }),
    mounts: () => mounts(pid),
    stop,
  }
}

/** Which mount namespace a thread of this process is in. */
export const namespaceOf = (tid: number | string = 'self'): number =>
  statSync(tid === 'self' ? '/proc/thread-self/ns/mnt' : `/proc/self/task/${tid}/ns/mnt`).ino

/** The owned threads of this process, and its main one, that are in another mount namespace than the caller. */
export const strays = (): string[] =>
  [...threads()]
    .filter(([tid, name]) => tid === process.pid || name.startsWith('ofd-'))
    .filter(([tid]) => namespaceOf(tid) !== namespaceOf())
    .map(([tid, name]) => `${name} ${tid}`)
