/**
 * Root filesystems attached inside another mount namespace: what it has, what the caller's never shows, and how they
 * are taken down. What a hostile container does about it is in inside-hostile.test.ts.
 */
import { execFileSync } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, openSync, readdirSync } from 'node:fs'
import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { explain, LayerStack, Mounter, type NamespaceTarget, Rootfs, RungError } from '../../lib/index.js'
import { type Container, startContainer, strays } from '../support/container.js'
import { settled } from '../support/counts.js'
import { watch } from '../support/left.js'
import { mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { propagations, withPropagation } from '../support/peers.js'
import { forms, image, ways } from '../support/rungs.js'
import { scratch } from '../support/scratch.js'

const fdWays = ways.filter(({ rung }) => rung !== 'classic')
const overlays = (container: Container) => container.mounts().filter(({ type }) => type === 'overlay')
const inside = (container: Container, path = '/rootfs'): NamespaceTarget => ({
  path,
  mountNamespace: { pid: container.pid },
})

for (const way of fdWays) {
  for (const propagation of propagations) {
    t.test(`${way.rung}, / ${propagation}: only the container has it`, privileged, async (t) => {
      const area = scratch(t)
      await withPropagation(t, propagation, async (peers) => {
        const container = await startContainer(t)
        const lowerdir = image(area)
        const mounter = new Mounter({ rung: way.rung })
        const left = watch()
        const table = () => [mounts(), peers.mounts('peer'), peers.mounts('slave')].map((list) => list.length)
        const before = table()
        for (const form of forms) {
          const { upperdir, workdir } = area.container(form.name)
          const upper = way.idmap ? ('shifted' as const) : ('asis' as const)
          const options = { lowerdir, upperdir, workdir, idmap: way.idmap, upper, target: inside(container) }
          const rootfs = await form.mount(mounter, options)
          t.equal(rootfs.rung, way.rung)
          t.equal(rootfs.path, '/rootfs')
          t.equal(rootfs.detached, false)
          t.match(String(rootfs.notes), /another mount namespace/)
          t.same(table(), before, 'nobody else has it')
          t.same(
            overlays(container).map(({ target }) => String(target)),
            ['/rootfs'],
          )
          t.equal(
            container.sh('cat /rootfs/only-3; echo new > /rootfs/new; stat -c %u /rootfs/owned'),
            `layer 3${1000 + way.shift}\n`,
          )
          t.same(readdirSync(upperdir), ['new'])
          await form.unmount(rootfs)
          t.equal(rootfs.namespaceFd, undefined)
          t.same(overlays(container), [])
          await form.unmount(rootfs)
        }
        t.same(table(), before)
        t.same(strays(), [], 'every thread is where it was')
        await mounter.close()
        t.same(await left({ threads: true }), [])
      })
    })
  }
}

t.test('the namespace by process, by path and by fd', privileged, async (t) => {
  const area = scratch(t)
  const container = await startContainer(t)
  const stack = await LayerStack.open({ lowerdir: area.layers(2) })
  const left = watch()
  const fd = openSync(container.namespace, 'r')
  for (const mountNamespace of [
    { pid: container.pid },
    container.namespace,
    Buffer.from(container.namespace),
    fd,
  ]) {
    for (const create of [false, true]) {
      const rootfs = await stack.mount({ target: { path: '/rootfs', mountNamespace }, create })
      t.equal(overlays(container).length, 1)
      t.type(rootfs.namespaceFd, 'number')
      t.not(rootfs.namespaceFd, fd, 'an fd of its own')
      await rootfs.unmount()
    }
  }
  closeSync(fd)
  t.same(await left(), [])
  await stack.close()
})

t.test('the host’s table during many mounts', privileged, async (t) => {
  const area = scratch(t)
  const containers = await Promise.all([1, 2, 3].map(() => startContainer(t)))
  const stack = await LayerStack.open({ lowerdir: area.layers(3) })
  const before = new Set(mounts().map(({ id }) => id))
  let running = true
  let most = 0
  let samples = 0
  const sampler = (async () => {
    for (; running; samples++) {
      most = Math.max(most, mounts().filter(({ id }) => !before.has(id)).length)
      await turn()
    }
  })()
  for (let round = 0; round < 8 || samples <= 20; round++) {
    const many = await stack.mountMany(
      containers.flatMap((container) =>
        Array.from({ length: 10 }, (_, i) => ({ target: inside(container, `/made/${i}`), create: true })),
      ),
    )
    t.same(
      containers.map((container) => overlays(container).length),
      [10, 10, 10],
    )
    await Promise.all(many.map((rootfs) => rootfs.unmount()))
  }
  running = false
  await sampler
  t.equal(most, 0, `the longest excess in ${samples} samples`)
  await stack.close()
  t.same(strays(), [], 'every thread is where it was')
})

t.test('create makes the target there, and takes it away there', privileged, async (t) => {
  const area = scratch(t)
  // the same names on both sides
  const name = `${area.dir}/a/b`
  mkdirSync(name, { recursive: true })
  const container = await startContainer(t)
  const stack = await LayerStack.open({ lowerdir: area.layers(2) })
  const { upperdir, workdir } = { upperdir: area.path('new/upper'), workdir: area.path('new/work') }
  const rootfs = await stack.mount({ upperdir, workdir, target: inside(container, name), create: true })
  t.equal(container.sh(`cat ${name}/each; stat -c %a ${name}/..`), 'layer 0755\n')
  t.ok(existsSync(upperdir))
  await rootfs.unmount()
  container.sh(`rmdir ${name}`)

  // a file where the mount would go: what was made on either side goes, each on its own
  container.sh(`mkdir ${area.dir}/f; touch ${area.dir}/f/file`)
  const again = { upperdir: area.path('again/upper'), workdir: area.path('again/work') }
  mkdirSync(area.path('f/file'), { recursive: true })
  mkdirSync(area.path('again'))
  const failing = stack.mount({ ...again, target: inside(container, `${area.dir}/f/file`), create: true })
  await t.rejects(failing, {
    code: 'ENOTDIR',
    syscall: 'openat2',
    hint: /target.path \("file"\) is not a directory in that mount namespace/,
  })
  t.same(readdirSync(area.path('again')), [], 'made here, and gone here')
  t.ok(existsSync(area.path('f/file')) && existsSync(name), 'what has the same name here stays')
  await stack.close()
  t.same(strays(), [], 'every thread is where it was')
})

t.test('attached later', privileged, async (t) => {
  const area = scratch(t)
  const container = await startContainer(t)
  const stack = await LayerStack.open({ lowerdir: area.layers(2) })
  const left = watch()
  for (const form of forms) {
    const rootfs = await form.stackMount(stack, {})
    const notThere = form.attach(rootfs, inside(container, '/missing'))
    await t.rejects(notThere, {
      code: 'ENOENT',
      hint: 'target.path ("missing") does not exist in that mount namespace',
    })
    t.equal(rootfs.detached, true, 'a failure leaves it detached')
    await form.attach(rootfs, inside(container), { propagation: 'unbindable' })
    t.equal(rootfs.detached, false)
    t.match(overlays(container), [{ propagation: ['unbindable'] }])
    await t.rejects(form.attach(rootfs, inside(container)), { code: 'ERR_INVALID_STATE' })
    await form.unmount(rootfs, { lazy: false, wait: 'teardown' })
    t.same(overlays(container), [])
  }
  t.same(await left(), [])
  await stack.close()
})

t.test('unmounting', privileged, async (t) => {
  const area = scratch(t)
  const container = await startContainer(t)
  const stack = await LayerStack.open({ lowerdir: area.layers(2) })
  const at = area.container('a')
  const mount = () => stack.mount({ upperdir: at.upperdir, workdir: at.workdir, target: inside(container) })
  const left = watch()

  const rootfs = await mount()
  await t.rejects(mount(), {
    code: 'EBUSY',
    hint: /upperdir is in use by the overlay at a place in another mount namespace/,
  })
  const busy = openSync(`/proc/${container.pid}/root/rootfs/each`, 'r')
  await t.rejects(rootfs.unmount({ lazy: false }), { code: 'EBUSY', hint: /something uses the mount/ })
  t.equal(overlays(container).length, 1, 'it is left alone')
  let gone = false
  const whole = rootfs.unmount({ wait: 'teardown' }).then(() => {
    gone = true
  })
  await settled(
    () => overlays(container).length,
    (count) => count === 0,
  )
  t.equal(gone, false, 'an open file keeps the superblock')
  closeSync(busy)
  await whole
  await (await mount()).unmount()

  const kept = await mount()
  const json = JSON.parse(JSON.stringify(kept))
  t.match(json, { phase: 'attached', target: '/rootfs', namespace: Number })
  await t.rejects(Rootfs.open(json), { code: 'ERR_OVERLAYFD_OTHER_NAMESPACE' })
  kept.release()
  t.equal(kept.namespaceFd, undefined)
  t.equal(overlays(container).length, 1, 'it stays')
  await t.rejects(kept.unmount(), { code: 'ERR_INVALID_STATE' })
  const again = () => stack.mount({ upperdir: at.upperdir, workdir: at.workdir })
  await t.rejects(again(), { code: 'EBUSY' }, 'its upper is still in use')
  await container.stop()
  t.same(await left(), [])
  await (await again()).unmount()
  await stack.close()
})

t.test('a container that has ended', privileged, async (t) => {
  const area = scratch(t)
  const container = await startContainer(t)
  const stack = await LayerStack.open({ lowerdir: area.layers(2) })
  const at = area.container('a')
  const options = { upperdir: at.upperdir, workdir: at.workdir, target: inside(container) }
  const rootfs = await stack.mount(options)
  await container.stop()
  await rootfs.unmount({ wait: 'teardown' })
  const late = await stack.mount(options).catch((error) => error)
  t.match(late, {
    code: 'ENOENT',
    syscall: 'openat',
    hint: `target.mountNamespace ("/proc/${container.pid}/ns/mnt") cannot be opened: the process has ended, or the fd is closed`,
  })
  await t.rejects(stack.mount({ target: { path: '/x', mountNamespace: 999_999 } }), {
    code: 'ENOENT',
    hint: /the fd is closed/,
  })
  const other = openSync('/proc/self/ns/user', 'r')
  // a pipe that nobody writes to is not waited for
  const pipe = area.path('pipe')
  execFileSync('mkfifo', [pipe])
  for (const mountNamespace of [other, pipe]) {
    await t.rejects(stack.mount({ target: { path: '/x', mountNamespace } }), {
      code: 'EINVAL',
      syscall: 'setns',
      hint: 'target.mountNamespace is no mount namespace, and no pidfd',
    })
  }
  closeSync(other)
  await stack.close()
  t.same(strays(), [], 'every thread is where it was')
})

t.test('rung classic', privileged, async (t) => {
  const area = scratch(t)
  const target = { path: '/rootfs', mountNamespace: 3 }
  const message = /^rung classic cannot compose this: mount\(2\) attaches what it makes, in the namespace/
  const stack = await new Mounter({ rung: 'classic' }).open({ lowerdir: area.layers(2) })
  await t.rejects(stack.mount({ target }), { name: 'RungError', message })
  t.throws(() => explain({ lowerdir: ['/a', '/b'], target }, { rung: 'classic' }), RungError)
  await stack.close()
})

t.test('explained', async (t) => {
  const target = { path: '/srv/rootfs', mountNamespace: { pid: 4711 } }
  const { notes, cost, plans } = explain({ lowerdir: ['/a', '/b'], target }, { rung: 'direct' })
  t.match(String(notes), /another mount namespace/)
  t.match(cost, {
    namespaceSemWrites: 1,
    gracePeriods: 0,
    temporaryMounts: 0,
    calls: { setns: 2, fchdir: 1, chroot: 1, openat2: 2 },
  })
  const lines = String(plans[1])
    .split('\n')
    .map((line) => line.trim())
  const there = 'flags=O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_PATH, resolve=RESOLVE_NO_SYMLINKS'
  t.same(
    lines.slice(
      lines.findIndex((line) => line.includes('thread-self')),
      lines.indexOf('close(own root)'),
    ),
    [
      'openat(AT_FDCWD, "/proc/thread-self/ns", O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_PATH, 0) = own namespaces',
      'openat(own namespaces, "mnt", O_RDONLY|O_CLOEXEC, 0) = own namespace',
      'openat(AT_FDCWD, "/", O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_PATH, 0) = own root',
      'openat(AT_FDCWD, "/proc/4711/ns/mnt", O_RDONLY|O_NOCTTY|O_NONBLOCK|O_CLOEXEC, 0) = their namespace',
      'setns(their namespace, CLONE_NEWNS)',
      'openat(own namespaces, "mnt", O_RDONLY|O_CLOEXEC, 0) = mount namespace',
      `openat2(AT_FDCWD, "/srv", {${there}|RESOLVE_IN_ROOT}, 24) = directory above`,
      `openat2(directory above, "rootfs", {${there}|RESOLVE_BENEATH}, 24) = target`,
      'move_mount(mount, "", target, "", MOVE_MOUNT_F_EMPTY_PATH|MOVE_MOUNT_T_EMPTY_PATH)',
      'on failure: setns(own namespace, CLONE_NEWNS)',
      'on failure: fchdir(own root)',
      'on failure: chroot(".")',
      'close(directory above)',
      'close(target)',
      'setns(own namespace, CLONE_NEWNS)',
      'fchdir(own root)',
      'chroot(".")',
      'close(their namespace)',
    ],
  )
})
