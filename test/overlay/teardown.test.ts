/** `wait: 'teardown'`: resolves when the superblock is gone, whoever holds it. */
import { closeSync, openSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { binding } from '../../lib/binding.js'
import { Mounter } from '../../lib/index.js'
import { TeardownWatcher } from '../../lib/overlay/teardown.js'
import { fds, settled } from '../support/counts.js'
import { privileged } from '../support/needs.js'
import { scratch } from '../support/scratch.js'

const setup = async (t: Test, rung: 'auto' | 'direct' | 'classic' = 'auto') => {
  const area = scratch(t)
  const mounter = new Mounter({ rung })
  const stack = await mounter.open({ lowerdir: area.layers(2) })
  t.teardown(async () => {
    await stack.close()
    await mounter.close()
  })
  return { area, mounter, stack }
}

for (const rung of ['direct', 'classic'] as const) {
  t.test(`an open file holds it: ${rung}`, privileged, async (t) => {
    const { area, mounter, stack } = await setup(t, rung)
    await mounter.idle()
    const before = fds()
    const container = area.container('c')
    const rootfs = await stack.mount(container)
    const file = openSync(join(rootfs.path, 'each'), 'r')
    let isGone = false
    const unmounted = rootfs.unmount({ wait: 'teardown' }).then(() => {
      isGone = true
    })
    await sleep(100)
    t.notOk(isGone, 'while a file is open')
    await t.rejects(
      stack.mount({ ...container, options: { index: 'on' } }),
      { code: 'EBUSY' },
      'the kernel has the upper in use',
    )
    closeSync(file)
    await unmounted
    await (await stack.mount({ ...container, options: { index: 'on' } })).unmount({ wait: 'teardown' })
    t.same(await settled(fds, (now) => now.size <= before.size), before, 'nothing is left open')
  })
}

t.test('nobody holds it: 50 at once', privileged, async (t) => {
  const { area, stack } = await setup(t)
  const containers = Array.from({ length: 50 }, (_, i) => area.container(String(i)))
  const all = await stack.mountMany(containers)
  await Promise.all(all.map((rootfs) => rootfs.unmount({ wait: 'teardown' })))
  t.equal(binding.claims(), 0)
})

t.test('detached, and Sync', privileged, async (t) => {
  const { area, stack } = await setup(t)
  const { upperdir, workdir } = area.container('c')
  const rootfs = await stack.mount({ upperdir, workdir })
  writeFileSync(join(rootfs.path, 'new'), '')
  const file = openSync(join(rootfs.path, 'new'), 'r')
  let isGone = false
  const unmounted = rootfs.unmount({ wait: 'teardown' }).then(() => {
    isGone = true
  })
  await sleep(50)
  t.notOk(isGone)
  closeSync(file)
  await unmounted
  stack.mountSync({ upperdir, workdir, options: { index: 'on' } }).unmountSync({ wait: 'teardown' })
  stack.mountSync({ upperdir, workdir, options: { index: 'on' } }).unmountSync({ wait: 'teardown' })
  const one = stack.mountSync({ upperdir, workdir })
  const held = openSync(join(one.path, 'new'), 'r')
  setTimeout(() => {}, 0)
  one.unmountSync()
  closeSync(held)
})

t.test('without inotify it ends with the unmount', privileged, async (t) => {
  const { area, stack } = await setup(t)
  const rootfs = await stack.mount(area.container('c'))
  const take = TeardownWatcher.take
  t.teardown(() => Object.assign(TeardownWatcher, { take }))
  Object.assign(TeardownWatcher, { take: () => undefined })
  const file = openSync(join(rootfs.path, 'each'), 'r')
  await rootfs.unmount({ wait: 'teardown' })
  closeSync(file)
})

t.test('wrong values', privileged, async (t) => {
  const { area, stack } = await setup(t)
  const rootfs = await stack.mount(area.container('c'))
  for (const wait of ['superblock', true, null]) {
    await t.rejects(rootfs.unmount({ wait } as object), {
      message: /"options.wait" argument must be one of 'namespace', 'teardown'/,
    })
  }
  await rootfs.unmount()
})
