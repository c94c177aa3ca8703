/** Root filesystems inside a container's mount namespace, when the container does something about it. */
import { openSync, readdirSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { LayerStack } from '../../lib/index.js'
import { type Container, startContainer } from '../support/container.js'
import { privileged } from '../support/needs.js'
import { scratch } from '../support/scratch.js'

const overlays = (container: Container) => container.mounts().filter(({ type }) => type === 'overlay')

t.test('its links, its /proc, its own mounts and umounts', privileged, async (t) => {
  const area = scratch(t)
  const container = await startContainer(t)
  container.sh('ln -s / /link; ln -s /rootfs /end; mkdir -p /a/b')
  const stack = await LayerStack.open({ lowerdir: area.layers(2) })
  const mountNamespace = openSync(container.namespace, 'r')
  const mount = (path: string, create = false) => stack.mount({ target: { path, mountNamespace }, create })
  for (const path of ['/link/rootfs', '/end', '/link/new']) {
    for (const create of [false, true]) {
      await t.rejects(mount(path, create), { code: 'ELOOP', hint: /a symbolic link is in target.path/ }, path)
    }
  }
  t.same(overlays(container), [])

  const covered = await mount('/rootfs')
  container.sh('mount -n -t tmpfs over /rootfs')
  await t.rejects(covered.unmount(), {
    code: 'EBUSY',
    hint: /another mount is there now and covers this one/,
  })
  container.sh('umount -n /rootfs')
  await covered.unmount()

  const theirs = await mount('/rootfs')
  container.sh('umount -n /rootfs')
  await t.rejects(theirs.unmount(), { code: 'EINVAL', hint: /it is not mounted there any more/ })
  theirs.release()

  const moved = await mount('/a/b')
  container.sh('mv /a /c; ln -s /rootfs /a')
  await t.rejects(moved.unmount(), { code: 'ELOOP', hint: /a symbolic link is on the way to the target now/ })
  t.equal(overlays(container).length, 1, 'it is left alone')
  container.sh('rm /a; mv /c /a')
  await moved.unmount()
  t.same(overlays(container), [])

  // nothing of ours reads it
  container.sh('mount -n -t tmpfs fake /proc; mkdir -p /proc/self/fd /proc/thread-self/ns')
  await (await mount('/made/there', true)).unmount({ wait: 'teardown' })
  t.same(overlays(container), [])
  await stack.close()
})

t.test('an upper is free when the container has taken the mount away', privileged, async (t) => {
  const area = scratch(t)
  const container = await startContainer(t)
  const stack = await LayerStack.open({ lowerdir: area.layers(2) })
  const { upperdir, workdir } = area.container('a')
  const target = { path: '/rootfs', mountNamespace: { pid: container.pid } }
  const rootfs = await stack.mount({ upperdir, workdir, target })
  container.sh('mkdir /other; mount -n --move /rootfs /other')
  await t.rejects(stack.mount({ upperdir, workdir }), { code: 'EBUSY' }, 'moved is not gone')
  container.sh('umount -n /other')
  const again = await stack.mount({ upperdir, workdir })
  writeFileSync(`${again.path}/new`, '')
  t.same(readdirSync(upperdir), ['new'])
  await again.unmount()
  rootfs.release()
  await stack.close()
})
