/** Diagnostics channels: what subscribers get of mounts and unmounts, and that nothing is measured without them. */
import { tracingChannel } from 'node:diagnostics_channel'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type MountError, Mounter, type OperationTrace, type Rootfs } from '../lib/index.js'
import { Pool } from '../lib/program/pool.js'
import { privileged } from './support/needs.js'
import { scratch } from './support/scratch.js'

const events = ['start', 'end', 'asyncStart', 'asyncEnd', 'error'] as const

/** Notes which events came, with what they carried. */
const listen = (t: Test, name: 'mount' | 'unmount') => {
  const seen: { event: (typeof events)[number]; trace: OperationTrace }[] = []
  const channel = tracingChannel(`overlayfd:${name}`)
  const subscribers = Object.fromEntries(
    events.map((event) => [event, (trace: unknown) => seen.push({ event, trace: trace as OperationTrace })]),
  ) as unknown as Parameters<typeof channel.subscribe>[0]
  channel.subscribe(subscribers)
  const stop = () => channel.unsubscribe(subscribers)
  t.teardown(stop)
  return { seen, stop }
}

const setup = async (t: Test) => {
  const area = scratch(t)
  const mounter = new Mounter()
  const stack = await mounter.open({ lowerdir: area.layers(3) })
  t.teardown(async () => {
    await stack.close()
    await mounter.close()
  })
  return { area, mounter, stack }
}

t.test('a mount and an unmount, awaited', privileged, async (t) => {
  const { area, stack } = await setup(t)
  const mounts = listen(t, 'mount')
  const unmounts = listen(t, 'unmount')
  const container = area.container('c')
  const begin = process.hrtime.bigint()
  const rootfs = await stack.mount(container)
  const took = Number(process.hrtime.bigint() - begin)
  t.same(
    mounts.seen.map(({ event }) => event),
    ['start', 'end', 'asyncStart', 'asyncEnd'],
  )
  const [{ trace }] = mounts.seen as [(typeof mounts.seen)[number]]
  t.ok(mounts.seen.every((other) => other.trace === trace))
  t.match(trace, { operation: 'mount', target: container.target })
  t.equal(trace.result, rootfs)
  t.equal(trace.programs.length, 1)
  const [{ plan, steps, nanoseconds }] = trace.programs as [(typeof trace.programs)[number]]
  const planned = stack.explain(container).plans[0]!
  t.equal(String(plan), String(planned), 'the plan has the paths of this mount')
  t.equal(steps.length, planned.cost.syscalls, 'every call is timed')
  t.match(steps.at(0)!.call, `openat(AT_FDCWD, "${container.upperdir}", `)
  t.ok(
    steps.every((step) => step.nanoseconds > 0),
    'and takes time',
  )
  t.equal(
    nanoseconds,
    steps.reduce((sum, step) => sum + step.nanoseconds, 0),
  )
  t.ok(nanoseconds < took, `${nanoseconds} of ${took} ns`)
  await rootfs.unmount()
  t.same(
    unmounts.seen.map(({ event }) => event),
    ['start', 'end', 'asyncStart', 'asyncEnd'],
  )
  t.match(unmounts.seen[0]!.trace.programs[0]!.steps.map(({ call }) => call.split('(')[0]).join(), /umount2/)
  t.equal(unmounts.seen[0]!.trace.target, container.target)
})

t.test('Sync forms, and detached ones', privileged, async (t) => {
  const { area, mounter, stack } = await setup(t)
  const mounts = listen(t, 'mount')
  const unmounts = listen(t, 'unmount')
  stack.mountSync(area.container('c')).unmountSync()
  mounter.mountSync({ lowerdir: area.layers(2, { below: 'others' }) }).unmountSync()
  for (const { seen } of [mounts, unmounts]) {
    t.same(
      seen.map(({ event }) => event),
      ['start', 'end', 'start', 'end'],
    )
    t.equal(seen[2]!.trace.target, undefined)
  }
  t.match(
    mounts.seen[2]!.trace.programs.map(({ plan }) => plan.title),
    ['open layers', 'direct'],
    'a one-shot call opens its layers too',
  )
})

t.test('a failure', privileged, async (t) => {
  const { area, stack } = await setup(t)
  const { seen } = listen(t, 'mount')
  const { target, ...others } = area.container('c')
  const failed: MountError = await stack
    .mount({ ...others, target: join(target, 'no') })
    .catch((error) => error)
  t.same(
    seen.map(({ event }) => event),
    ['start', 'end', 'error', 'asyncStart', 'asyncEnd'],
  )
  t.equal(seen[0]!.trace.error, failed)
  const { plan, steps } = seen[0]!.trace.programs[0]!
  t.match(steps.at(-1)!.call, /^close/, 'what was done at the end is timed too')
  t.match(
    steps.find(({ call }) => call.startsWith('move_mount'))?.call,
    `"${join(target, 'no')}"`,
    'the failing step is there',
  )
  t.match(plan.at(failed.step!), { call: 'move_mount' })
})

t.test('nothing is measured without subscribers', privileged, async (t) => {
  const { area, mounter, stack } = await setup(t)
  await mounter.idle()
  const traces: unknown[] = []
  const { start } = Pool.prototype
  t.teardown(() => {
    Pool.prototype.start = start
  })
  Pool.prototype.start = function (this: Pool, request, done, signal, trace) {
    traces.push(trace)
    return start.call(this, request, done, signal, trace)
  }
  const { seen, stop } = listen(t, 'mount')
  stop()
  const rootfs: Rootfs = await stack.mount(area.container('c'))
  await rootfs.unmount()
  t.same(traces, [undefined, undefined])
  t.same(seen, [])
})
