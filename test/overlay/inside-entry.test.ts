/**
 * The way into another mount namespace, and back: namespaces that belong to other user namespaces, processes that are
 * in a chroot (the caller, or the one that was named), pidfds, and numbers of processes that are used again.
 */
import { openSync, readlinkSync } from 'node:fs'
import t, { type Test } from 'tap'
import { LayerStack, Mounter, MountGroup, type NamespaceTarget } from '../../lib/index.js'
import { dist, type Ended, run } from '../support/child.js'
import { type Container, startContainer, strays } from '../support/container.js'
import { settled } from '../support/counts.js'
import { mounts } from '../support/mountinfo.js'
import { all, privileged, programs } from '../support/needs.js'
import { ways } from '../support/rungs.js'
import { scratch } from '../support/scratch.js'

const fdWays = ways.filter(({ rung }) => rung !== 'classic')
const overlays = (pid: number | 'self' = 'self') => mounts(pid).filter(({ type }) => type === 'overlay')
const inside = ({ pid }: Container, path = '/rootfs'): NamespaceTarget => ({ path, mountNamespace: { pid } })
/** As the root of a container that has a user namespace: nsenter is root's of the machine. */
const asItsRoot = ({ pid }: Container, script: string): Promise<Ended> =>
  run('nsenter', [`--user=/proc/${pid}/ns/user`, `--mount=/proc/${pid}/ns/mnt`, 'sh', '-ec', script])

for (const { rung, idmap } of fdWays) {
  t.test(`${rung}: owned by another user namespace`, privileged, async (t) => {
    const area = scratch(t)
    const container = await startContainer(t, { userns: true })
    t.not(readlinkSync(`/proc/${container.pid}/ns/user`), readlinkSync('/proc/self/ns/user'))
    const before = overlays().length
    const mounter = new Mounter({ rung })
    t.teardown(() => mounter.close())
    const stack = await mounter.open({ lowerdir: area.layers(2), idmap })
    const { upperdir, workdir } = area.container('c')
    const attributes = { readonly: true, nosuid: true, nodev: true }
    for (const create of [false, true]) {
      const target = inside(container, create ? '/made' : '/rootfs')
      const rootfs = await stack.mount({ upperdir, workdir, create, target })
      t.same(
        overlays(container.pid).map(({ target, propagation }) => [String(target), propagation]),
        [[target.path, []]],
        'not locked, and in no peer group',
      )
      t.equal(overlays().length, before)
      await rootfs.unmount({ wait: 'teardown' })
    }
    const rootfs = await stack.mount({ target: inside(container), attributes })
    const { status } = await asItsRoot(container, 'mount -n -o remount,bind,rw,suid,dev /rootfs')
    t.equal(status, 0, 'who owns the namespace may take off what was set: docs/security.md')
    t.same(overlays(container.pid)[0]?.attributes, ['rw', 'relatime'])
    await rootfs.unmount()
    t.same(overlays(container.pid), [])
    t.same(strays(), [])
    await stack.close()
  })
}

/**
 * A child that mounts in the namespace, and says what came of it. `enter` is what it is started by.
 *
 * @param attempts expressions of the targets, `ns` of a `mountNamespace`
 */
const child = async (
  t: Test,
  {
    enter,
    options,
    attempts,
    rung = 'auto',
    root = '',
  }: { enter: string[]; options: object; attempts: string[]; rung?: string; root?: string },
) => {
  const script = `
    import { readdirSync, readFileSync } from 'node:fs'
    import { Mounter } from ${JSON.stringify(dist('index.js').replace('file://', `file://${root}`))}
    const mounter = new Mounter({ rung: ${JSON.stringify(rung)} })
    const ns = (mountNamespace) => ({ path: '/rootfs', mountNamespace })
    const seen = []
    const end = (pid) => {
      process.kill(pid, 'SIGKILL')
      try {
        while (!readFileSync('/proc/' + pid + '/stat', 'utf8').includes(') Z '));
      } catch {}
    }
    const table = (task) => readFileSync('/proc/self/' + task + 'mountinfo', 'utf8')
    for (const target of [${attempts.map((each) => `() => ${each}`).join()}]) {
      try {
        const rootfs = await mounter.mount({ ...${JSON.stringify(options)}, target: target() })
        await rootfs.unmount()
        seen.push('done')
      } catch ({ code, syscall, hint }) {
        seen.push([code, syscall, hint].join(' '))
      }
    }
    const threads = readdirSync('/proc/self/task').filter((tid) => table('task/' + tid + '/') !== table(''))
    seen.push('threads elsewhere: ' + threads.length)
    await mounter.close()
    console.log(JSON.stringify(seen))`
  const node = [process.execPath, '--input-type=module', '--eval', script]
  const [program, ...args] = [...enter, ...node] as [string, ...string[]]
  const { status, stdout, stderr } = await run(program, args)
  t.same([status, stderr], [0, ''])
  return JSON.parse(stdout || '[]') as string[]
}

t.test('from inside a user namespace, one that is not its own', privileged, async (t) => {
  const area = scratch(t)
  const container = await startContainer(t)
  const unshare = ['unshare', '--user', '--map-root-user', '--mount', '--propagation', 'private']
  const seen = await child(t, {
    enter: ['sh', '-ec', `exec 9<${container.namespace}; exec "$@"`, 'sh', ...unshare],
    options: { lowerdir: area.layers(2) },
    attempts: [`ns({ pid: ${container.pid} })`, 'ns(9)'],
  })
  t.match(seen, [
    /^EACCES openat target\.mountNamespace \(".*"\) may not be opened: it takes CAP_SYS_PTRACE over that process$/,
    /^EPERM setns entering target\.mountNamespace takes CAP_SYS_ADMIN over the user namespace that owns it/,
    'threads elsewhere: 0',
  ])
  t.same(overlays(container.pid), [])
})

const withPidfd = `
import os, sys
os.dup2(os.pidfd_open(int(sys.argv[1])), 9)
os.execvp(sys.argv[2], sys.argv[2:])`

t.test('a pidfd', all(privileged, programs('python3')), async (t) => {
  const area = scratch(t)
  const container = await startContainer(t)
  const seen = await child(t, {
    enter: ['python3', '-c', withPidfd, String(container.pid)],
    options: { lowerdir: area.layers(2) },
    attempts: ['ns(9)', `(end(${container.pid}), ns(9))`],
  })
  t.equal(seen[0], 'done')
  t.equal(seen[1], 'ESRCH setns the process of target.mountNamespace has ended')
})

t.test('a caller in a chroot', privileged, async (t) => {
  const area = scratch(t)
  const container = await startContainer(t)
  const root = area.mkdir('root')
  const jail = 'mount -n --rbind / "$0"; exec chroot "$0" "$@"'
  const attempt = (rung: string) =>
    child(t, {
      enter: ['unshare', '-m', '--propagation', 'private', 'sh', '-ec', jail, root],
      options: { lowerdir: area.layers(2) },
      attempts: [`ns({ pid: ${container.pid} })`, `ns({ pid: ${container.pid} })`],
      rung,
    })
  const home = 'threads elsewhere: 0'
  t.same(await attempt('direct'), ['done', 'done', home])
  const refused = /^EINVAL statx the process is in a chroot: its threads would leave it/
  t.match(await attempt('staged'), [refused, refused, home])
  t.same(overlays(container.pid), [])
})

t.test('a process that is in a chroot, with a /proc of its own', privileged, async (t) => {
  const area = scratch(t)
  const script = `
    mkdir -p /jail /jail/rootfs
    mount -n --rbind / /jail
    mount -n -t tmpfs fake /jail/proc
    ln -s / /jail/proc/self
    exec chroot /jail sh -c 'echo ready; exec cat'`
  const container = await startContainer(t, { script })
  const stack = await LayerStack.open({ lowerdir: area.layers(2) })
  for (const mountNamespace of [{ pid: container.pid }, openSync(container.namespace, 'r')]) {
    for (const path of ['/rootfs', '/jail/rootfs', '/new/target']) {
      const rootfs = await stack.mount({ target: { path, mountNamespace }, create: true })
      const [mount] = container.sh("grep ' - overlay ' /proc/self/mountinfo").split('\n')
      t.equal(mount?.split(' ')[4], path, 'from the root of the namespace')
      await rootfs.unmount()
    }
  }
  await stack.close()
})

/** In a pid namespace where nobody else starts processes. */
const reuse = `
  import { spawn } from 'node:child_process'
  import { once } from 'node:events'
  import { openSync, readFileSync, writeFileSync } from 'node:fs'
  import { LayerStack } from ${JSON.stringify(dist('index.js'))}
  const [lowerdir, path, other] = JSON.parse(process.argv[1])
  const start = async () => {
    const own = spawn('unshare', ['-m', '--propagation', 'private', 'sh', '-c', 'echo; exec cat'])
    await once(own.stdout, 'data')
    return own
  }
  const end = async (own) => {
    own.kill('SIGKILL')
    await once(own, 'exit')
  }
  const seen = []
  const stack = await LayerStack.open({ lowerdir })
  const first = await start()
  const { pid } = first
  const has = () => readFileSync('/proc/' + pid + '/mountinfo', 'utf8').split('\\n')
    .filter((line) => line.includes(' - overlay overlayfd:')).map((line) => line.split(' ')[4]).join()
  const namespace = openSync('/proc/' + pid + '/ns/mnt', 'r')
  const before = await stack.mount({ target: { path, mountNamespace: { pid } } })
  await end(first)
  let second
  do {
    if (second) await end(second)
    writeFileSync('/proc/sys/kernel/ns_last_pid', String(pid - 1))
    second = await start()
  } while (second.pid !== pid)
  seen.push(has())
  const byFd = await stack.mount({ target: { path: other, mountNamespace: namespace } })
  seen.push(has())
  const byNumber = await stack.mount({ target: { path, mountNamespace: { pid } } })
  seen.push(has())
  await before.unmount()
  await byFd.unmount()
  seen.push(has())
  await byNumber.unmount()
  seen.push(has())
  await end(second)
  await stack.close()
  console.log(JSON.stringify(seen))`

t.test('the number of a process is used again', privileged, async (t) => {
  const area = scratch(t)
  const path = area.mkdir('rootfs')
  const argument = JSON.stringify([area.layers(2), path, area.mkdir('other')])
  const node = [process.execPath, '--input-type=module', '--eval', reuse, argument]
  const { status, stdout, stderr } = await run('unshare', ['--pid', '--fork', '--mount-proc', ...node])
  t.same([status, stderr], [0, ''])
  const [fresh, byFd, byNumber, handles, last] = JSON.parse(stdout)
  t.equal(fresh, '')
  t.equal(byFd, '', 'an fd is of the namespace that it was opened for')
  t.equal(byNumber, path, 'a number is whose it is by now')
  t.equal(
    handles,
    path,
    'a handle takes down what it has mounted, at the same path in a namespace that has ended',
  )
  t.equal(last, '')
})

t.test('a group has no other namespace', privileged, async (t) => {
  const area = scratch(t)
  const container = await startContainer(t)
  const refused = {
    code: 'ERR_INVALID_ARG_VALUE',
    message: /a group is in the mount namespace of the caller/,
  }
  const elsewhere = inside(container) as never
  await t.rejects(MountGroup.open(elsewhere), refused)
  t.throws(() => MountGroup.openSync(elsewhere), refused)
  const stack = await LayerStack.open({ lowerdir: area.layers(2) })
  const group = await MountGroup.open(area.mkdir('group'))
  const { pid } = container
  await t.rejects(stack.mount({ target: { path: group.target('a'), mountNamespace: { pid } } }), {
    code: 'ENOENT',
    hint: /does not exist in that mount namespace/,
  })
  await group.unmount()
  await settled(
    () => strays().length,
    (count) => count === 0,
  )
  await stack.close()
})
