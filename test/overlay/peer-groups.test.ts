/**
 * A clone is in the peer group of what it was cloned from: where `/` is shared, that is the host's. Nothing that is
 * mounted by the host below its layers, and nothing that a container mounts in its rootfs, may pass from one to the
 * other, and what is taken down takes nothing of the other with it.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { Mounter } from '../../lib/index.js'
import { startContainer } from '../support/container.js'
import { watch } from '../support/left.js'
import { isBelow, mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { propagations, withPropagation } from '../support/peers.js'
import { forms, ways } from '../support/rungs.js'
import { scratch } from '../support/scratch.js'
import { mapping } from '../support/userns.js'

const at = (dir: string) =>
  mounts()
    .filter((mount) => isBelow(mount, dir))
    .map(({ target }) => target.toString().slice(dir.length))

const tmpfs = (dir: string) => execFileSync('mount', ['-n', '-t', 'tmpfs', 'test', dir])
const umount = (dir: string) => execFileSync('umount', ['-n', dir])

for (const way of ways) {
  for (const propagation of propagations) {
    t.test(`${way.rung}: a clone and its layer, / ${propagation}`, privileged, async (t) => {
      const area = scratch(t)
      const [layer] = area.layers(1) as [string]
      for (const name of ['here', 'there']) mkdirSync(join(layer, name))
      const target = area.mkdir('rootfs')
      await withPropagation(t, propagation, async (peers) => {
        const mounter = new Mounter({ rung: way.rung })
        const left = watch()
        for (const form of forms) {
          for (const idmap of way.idmap ? [way.idmap, mapping(400_000)] : [undefined]) {
            const stack = await form.open(mounter, { lowerdir: [layer], idmap: way.idmap })
            const rootfs = await form.stackMount(stack, { target, idmap })
            tmpfs(join(layer, 'there'))
            t.same(at(target), [''], 'the clone does not show it')
            tmpfs(join(target, 'here'))
            t.same(at(layer), ['/there'], 'nor the layer the other')
            await form.unmount(rootfs)
            t.same(at(target), [])
            t.same(at(layer), ['/there'], "the host's mount is still there")
            umount(join(layer, 'there'))
            // mount(2) attaches the clone while it is a peer yet: its copies are, and one that has a mount stays
            if (peers.mounts('peer', target).length > 0) {
              t.match([way.rung, propagation], ['classic', 'shared'])
              // with it goes the slave's
              execFileSync('nsenter', ['-m', '-t', `${peers.pid('peer')}`, 'umount', '-n', '-l', target])
            }
            await form.close(stack)
          }
        }
        await mounter.close()
        t.same(await left({ threads: true }), [])
      })
    })

    t.test(`${way.rung}: trees that are closed together, / ${propagation}`, privileged, async (t) => {
      const area = scratch(t)
      const lowerdir = area.layers(3)
      await withPropagation(t, propagation, async () => {
        const mounter = new Mounter({ rung: way.rung })
        const stack = await mounter.open({ lowerdir, idmap: way.idmap })
        const upper = way.idmap ? ('idmapped' as const) : ('asis' as const)
        for (const name of ['a', 'b', 'c']) {
          const own = way.idmap && { idmap: mapping(300_000), upper }
          const rootfs = await stack.mount({ ...area.container(name), ...own })
          await rootfs.unmount()
        }
        await mounter.trim()
        t.same(at(area.dir), [''], 'the layers are not covered')
        await stack.close()
        await mounter.close()
        t.same(at(area.dir), [''])
      })
    })
  }

  if (way.rung === 'classic') continue
  t.test(`${way.rung}: a clone inside another mount namespace`, privileged, async (t) => {
    const area = scratch(t)
    const [layer] = area.layers(1) as [string]
    for (const name of ['here', 'there']) mkdirSync(join(layer, name))
    await withPropagation(t, 'shared', async () => {
      const container = await startContainer(t)
      const mounter = new Mounter({ rung: way.rung })
      const mountNamespace = { pid: container.pid }
      const options = { lowerdir: [layer], idmap: way.idmap, target: { path: '/rootfs', mountNamespace } }
      const rootfs = await mounter.mount(options)
      container.sh('mount -n -t tmpfs test /rootfs/here')
      t.same(at(layer), [], 'what the container mounts stays its own')
      tmpfs(join(layer, 'there'))
      const inside = container.mounts().map(({ target }) => target.toString())
      t.notOk(inside.includes('/rootfs/there'), 'and so does what the host mounts')
      container.sh('umount -n /rootfs/here')
      await rootfs.unmount()
      t.same(at(layer), ['/there'])
      umount(join(layer, 'there'))
      await mounter.close()
      await container.stop()
    })
  })
}
