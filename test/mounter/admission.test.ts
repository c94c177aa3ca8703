/** How many mounts are under way: statistics, the bound of the queue, and waiting for room. */
import t, { type Test } from 'tap'
import { placeComposers } from '../../lib/host/topology/placement.js'
import { topology } from '../../lib/host/topology.js'
import { Mounter, type MounterOptions, type Rootfs } from '../../lib/index.js'
import { privileged } from '../support/needs.js'
import { scratch } from '../support/scratch.js'

const setup = async (t: Test, options: MounterOptions) => {
  const area = scratch(t)
  const mounter = new Mounter(options)
  const stack = await mounter.open({ lowerdir: area.layers(2) })
  t.teardown(async () => {
    await stack.close()
    await mounter.close()
  })
  return { area, mounter, stack }
}
const unmountAll = (all: readonly Rootfs[]) => Promise.all(all.map((rootfs) => rootfs.unmount()))

t.test('placement', async (t) => {
  const placement = placeComposers(topology())
  t.same(new Mounter().placement, placement)
  t.match(placement.reason, /thread/)
  t.match(new Mounter({ threads: 7 }).placement, { threads: 7, reason: /7 threads/ })
  const [cpu] = topology().allowed.cpus
  t.match(new Mounter({ cpus: [cpu!] }).placement, { cpus: [cpu], reason: /as asked for/ })
})

t.test('statistics', privileged, async (t) => {
  const { area, mounter, stack } = await setup(t, { threads: 1, reapers: 2 })
  await mounter.idle()
  const before = mounter.stats
  t.match(before, {
    composing: { threads: 1, queued: 0, parked: 0, running: 0 },
    reaping: { threads: 2, queued: 0, running: 0 },
    collected: { trees: 0, fds: 0 },
  })
  const containers = Array.from({ length: 20 }, (_, i) => area.container(String(i)))
  const mounts = stack.mountMany(containers)
  const { composing } = mounter.stats
  t.equal(composing.mostQueued, 20, 'all of a batch waited at a time, however fast the one thread is')
  await unmountAll(await mounts)
  await mounter.idle()
  const after = mounter.stats
  t.equal(after.composing.ran - before.composing.ran, 20)
  t.equal(after.reaping.ran - before.reaping.ran, 20)
  t.match(after, { composing: { queued: 0, running: 0 }, reaping: { queued: 0, running: 0 } })
})

t.test('one mount more than may wait is refused, and the others are made', privileged, async (t) => {
  const { area, mounter, stack } = await setup(t, { threads: 1, maxQueued: 3 })
  const containers = Array.from({ length: 5 }, (_, i) => area.container(String(i)))
  const [one, ...others] = containers.map((container) => () => stack.mount(container))
  const started = [one!(), ...others.slice(0, 3).map((start) => start())]
  const full = {
    code: 'ERR_OVERLAYFD_QUEUE_FULL',
    message: /maxQueued of the Mounter is 3: await mounter.ready/,
  }
  await t.rejects(others[3]!(), full)
  await t.rejects(stack.mountMany(containers.slice(4)), full)
  await t.rejects(mounter.mount({ lowerdir: area.layers(1) }), full)
  await unmountAll(await Promise.all(started))
  const large = {
    code: 'ERR_OVERLAYFD_QUEUE_FULL',
    message: /5 mounts were started where .* 4, .*: take smaller batches/,
  }
  await t.rejects(stack.mountMany(containers), large, 'a batch counts whole')
  await unmountAll(await stack.mountMany(containers.slice(1)))
})

t.test('ready() keeps what is under way small', privileged, async (t) => {
  const { area, mounter, stack } = await setup(t, { threads: 2, maxQueued: 4 })
  const mounts: Promise<Rootfs>[] = []
  for (let i = 0; i < 40; i++) {
    await mounter.ready()
    mounts.push(stack.mount(area.container(String(i))))
    t.ok(mounter.stats.composing.queued <= 4)
  }
  await unmountAll(await Promise.all(mounts))
})

t.test('waiting for room can be given up', privileged, async (t) => {
  const { area, mounter, stack } = await setup(t, { threads: 1 })
  const mounts = Array.from({ length: 30 }, (_, i) => stack.mount(area.container(String(i))))
  const controller = new AbortController()
  const waiting = mounter.ready({ signal: controller.signal })
  controller.abort(new Error('enough'))
  await t.rejects(waiting, { message: 'enough' })
  await t.rejects(mounter.ready({ signal: controller.signal }), { message: 'enough' })
  await t.rejects(mounter.ready({ signl: controller.signal } as object), { code: 'ERR_INVALID_ARG_VALUE' })
  await mounter.ready()
  t.ok(mounter.stats.composing.queued <= 2)
  await unmountAll(await Promise.all(mounts))
})

t.test('who awaits ready() is not refused, however little may wait', privileged, async (t) => {
  const { area, mounter, stack } = await setup(t, { threads: 4, maxQueued: 1 })
  const mounts: Promise<Rootfs>[] = []
  for (let i = 0; i < 40; i++) {
    await mounter.ready()
    mounts.push(stack.mount(area.container(String(i))))
  }
  await unmountAll(await Promise.all(mounts))
})
