/** Many mounts in one crossing: all or none. */
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { binding } from '../../lib/binding.js'
import { Mounter } from '../../lib/index.js'
import { Pool } from '../../lib/program/pool.js'
import { mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { scratch } from '../support/scratch.js'

const setup = async (t: Test) => {
  const area = scratch(t)
  const mounter = new Mounter()
  const stack = await mounter.open({ lowerdir: area.layers(3) })
  t.teardown(async () => {
    await stack.close()
    await mounter.close()
  })
  const containers = Array.from({ length: 30 }, (_, i) => area.container(`c${i}`))
  return { mounter, stack, containers }
}
const overlays = () => mounts().filter(({ type }) => type === 'overlay').length

t.test('the handles come in the order of the options', privileged, async (t) => {
  const { mounter, stack, containers } = await setup(t)
  await mounter.idle()
  const calls: string[] = []
  const { start, startAll } = Pool.prototype
  t.teardown(() => Object.assign(Pool.prototype, { start, startAll }))
  Pool.prototype.start = function (this: Pool, ...args) {
    calls.push('start')
    return start.apply(this, args)
  }
  Pool.prototype.startAll = function (this: Pool, ...args) {
    calls.push(`startAll ${args[0].length}`)
    return startAll.apply(this, args)
  }
  const many = await stack.mountMany(containers)
  t.same(calls, ['startAll 30'], 'one crossing')
  t.same(
    many.map(({ path }) => path),
    containers.map(({ target }) => target),
  )
  writeFileSync(join(containers[7]!.target, 'new'), '')
  t.ok(existsSync(join(containers[7]!.upperdir, 'new')), 'each has its own upper')
  await Promise.all(many.map((rootfs) => rootfs.unmount()))
  t.same(await stack.mountMany([]), [])
})

for (const sync of [false, true]) {
  const name = sync ? ', Sync' : ''
  t.test(`if one fails, none is left${name}`, privileged, async (t) => {
    const { mounter, stack, containers } = await setup(t)
    const run = async (options: Parameters<typeof stack.mountMany>[0]) =>
      sync ? stack.mountManySync(options) : stack.mountMany(options)
    const bad = (i: number) => ({ ...containers[i]!, target: join(containers[i]!.target, `no${i}`) })
    const options = containers.map((container, i) => (i === 4 || i === 20 ? bad(i) : container))
    await t.rejects(run(options), { code: 'ENOENT', path: bad(4).target }, 'the first failure is told')
    t.equal(overlays(), 0)
    await mounter.idle()
    t.equal(binding.claims(), 0)
    const many = await run(containers)
    t.equal(many.length, 30, 'everything is free again')
    t.equal(overlays(), 30)
    for (const rootfs of many) rootfs.unmountSync()
  })
}

t.test('two of them want the same upper', privileged, async (t) => {
  const { stack, containers } = await setup(t)
  const [one, two] = containers
  await t.rejects(stack.mountMany([one!, { ...two!, upperdir: one!.upperdir }]), {
    code: 'EBUSY',
    // the first one may have come to its attach by then, or not
    hint: /^this upperdir is in use by (the overlay at |a detached mount, or one that is being made)/,
  })
  t.equal(overlays(), 0)
})

t.test('shapes of several kinds, and a signal', privileged, async (t) => {
  const { stack, containers } = await setup(t)
  const [one, two, three] = containers
  const many = await stack.mountMany([
    one!,
    {},
    { ...two!, options: { volatile: true } },
    { target: three!.target },
  ])
  t.same(
    many.map(({ detached }) => detached),
    [false, true, false, false],
  )
  await Promise.all(many.map((rootfs) => rootfs.unmount()))
  const controller = new AbortController()
  // one of them waits for an upper that is being taken down, as long as it is told so
  const holder = await stack.mount({ upperdir: containers[9]!.upperdir, workdir: three!.workdir })
  binding.retireClaim(holder.standing.claim)
  const aborted = stack.mountMany(containers.slice(3), { signal: controller.signal })
  controller.abort(new Error('enough'))
  await t.rejects(aborted, { message: 'enough' })
  t.equal(overlays(), 0)
  binding.restoreClaim(holder.standing.claim)
  await holder.unmount()
  await t.rejects(stack.mountMany(containers.slice(3), { signal: controller.signal }), { message: 'enough' })
})

t.test(
  'options that this kernel does not know are found before any of them is made',
  privileged,
  async (t) => {
    const { mounter, stack, containers } = await setup(t)
    await mounter.idle()
    const { ran } = mounter.stats.composing
    // no machine that this was seen on has SELinux; and where it has, the context is not one of its policy
    const many = [containers[0]!, { ...containers[1]!, options: { fscontext: 'no:such:context:here' } }]
    const error = {
      code: 'ERR_OVERLAYFD_UNSUPPORTED',
      message: /^options\[1\]\.options\.fscontext needs SELinux/,
    }
    await t.rejects(stack.mountMany(many), error)
    t.throws(() => stack.mountManySync(many), error)
    t.equal(mounter.stats.composing.ran, ran, 'nothing was run')
    await t.rejects(stack.mount(many[1]!), { message: /^options\.options\.fscontext needs SELinux/ })
    t.equal(mounter.stats.composing.ran, ran)
    const lowerdir = [containers[2]!.upperdir, containers[3]!.upperdir]
    await t.rejects(mounter.mount({ lowerdir, ...many[1]! }), {
      message: /^options\.options\.fscontext needs/,
    })
    t.equal(mounter.stats.composing.ran, ran, 'layers are not opened for it')
  },
)

t.test('wrong options name the mount', privileged, async (t) => {
  const { stack, containers } = await setup(t)
  const wrong = (options: unknown) => [containers[0], options] as Parameters<typeof stack.mountMany>[0]
  await t.rejects(stack.mountMany(wrong({ target: 7 })), {
    message: /"options\[1\]\.target" argument must be/,
  })
  await t.rejects(stack.mountMany(wrong({ targt: '/x' })), { message: /"options\[1\]\.targt"/ })
  await t.rejects(stack.mountMany(wrong(null)), { message: /"options\[1\]" argument must be an object/ })
  await t.rejects(stack.mountMany({} as never), { message: /"options" argument must be an array/ })
  t.throws(() => stack.mountManySync(wrong({ upper: 'x' })), { message: /"options\[1\]\.upper"/ })
  t.equal(overlays(), 0)
})
