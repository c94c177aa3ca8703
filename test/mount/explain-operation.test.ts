/**
 * `mount.explain`: what it says a method costs is what strace counts when the method is called, it makes no call itself,
 * needs no right, and refuses what the method would refuse.
 */
import t from 'tap'
import { type Cost, type Mount, Mounter } from '../../lib/index.js'
import { dist, runModule } from '../support/child.js'
import { startContainer } from '../support/container.js'
import { lockWrites } from '../support/lock-writes.js'
import { umount, volume } from '../support/mount-forms.js'
import { all, privileged, programs } from '../support/needs.js'
import { propagations, withPropagation } from '../support/peers.js'
import { dropSource } from '../support/plain-user.js'
import { type Scratch, scratch } from '../support/scratch.js'
import { between, isOfPlan, type Syscall, straceModule, tally } from '../support/strace.js'

/** Expressions of the child's script. */
interface Case {
  readonly name: string
  readonly made: string
  /** the method, and what it is called with */
  readonly call: string
  readonly rung?: 'classic'
  readonly unmounts?: 'overlay'
}

const tmpfs = 'await mounter.mountTmpfs({ target })'
const detached = 'await mounter.mountTmpfs({})'
const overlay = 'await mounter.mount({ lowerdir, ...container, target })'
const bind = 'await mounter.mountBind({ source, target, recursive: true })'
const within = "await mounter.mountTmpfs({ target: { mount: outer, path: 'a' } })"

const byFd: readonly Case[] = [
  { name: 'attach', made: detached, call: "'attach', target" },
  { name: 'attach, private', made: detached, call: "'attach', target, { propagation: 'private' }" },
  {
    name: 'attach a clone',
    made: 'await mounter.mountBind({ source, recursive: true })',
    call: "'attach', target",
  },
  { name: 'attach inside', made: detached, call: "'attach', { mount: outer, path: 'a' }" },
  {
    name: 'attach elsewhere',
    made: detached,
    call: "'attach', { path: '/rootfs', mountNamespace: { pid } }, { propagation: 'slave' }",
  },
  {
    name: 'attach beneath',
    made: detached,
    call: "'attach', { mount: outer, path: 'top' }, { beneath: true }",
  },
  { name: 'move', made: within, call: "'moveTo', { mount: outer, path: 'b' }" },
  {
    name: 'move to a path',
    made: within,
    call: "'moveTo', outer.path + '/b', { propagation: 'unbindable' }",
  },
  { name: 'attributes, detached', made: detached, call: "'setAttributes', { readonly: true }" },
  { name: 'attributes below', made: bind, call: "'setAttributes', { readonly: true }, { recursive: true }" },
  { name: 'unmount a detached tmpfs', made: detached, call: "'unmount'" },
  {
    name: 'unmount a detached clone',
    made: 'await mounter.mountBind({ source })',
    call: "'unmount', { wait: 'teardown' }",
  },
  {
    name: 'unmount elsewhere',
    made: 'await elsewhere(await mounter.mountTmpfs({}))',
    call: "'unmount', { lazy: false }",
  },
]

const byBoth: readonly Case[] = [
  { name: 'attributes', made: tmpfs, call: "'setAttributes', { noexec: true, atime: 'noatime' }" },
  { name: 'attributes inside', made: within, call: "'setAttributes', { readonly: true }" },
  { name: 'propagation', made: tmpfs, call: "'setPropagation', 'unbindable'" },
  { name: 'propagation below', made: tmpfs, call: "'setPropagation', 'private', { recursive: true }" },
  { name: 'reconfigure a tmpfs', made: tmpfs, call: "'reconfigure', { size: '2m', readonly: true }" },
  { name: 'reconfigure an overlay', made: overlay, call: "'reconfigure', { readonly: true }" },
  { name: 'unmount a tmpfs', made: tmpfs, call: "'unmount'" },
  { name: 'unmount a tmpfs, watched', made: tmpfs, call: "'unmount', { wait: 'teardown' }" },
  {
    name: 'unmount a bind',
    made: 'await mounter.mountBind({ source, target })',
    call: "'unmount', { lazy: false }",
  },
  { name: 'unmount an overlay', made: overlay, call: "'unmount'", unmounts: 'overlay' },
  {
    name: 'unmount an overlay, watched',
    made: overlay,
    call: "'unmount', { wait: 'teardown' }",
    unmounts: 'overlay',
  },
  { name: 'unmount inside', made: within, call: "'unmount'" },
]

const cases: readonly Case[] = [
  ...byFd,
  ...byBoth,
  ...byBoth.map((each): Case => ({ ...each, name: `${each.name}, by mount(2)`, rung: 'classic' })),
]

const script = (area: Scratch, source: string, pid: number) => `
import { mkdirSync } from 'node:fs'
import { Mounter } from ${JSON.stringify(dist('index.js'))}
const [source, target, lowerdir, pid] = ${JSON.stringify([source, area.mkdir('target'), area.layers(2), pid])}
const { upperdir, workdir } = ${JSON.stringify(area.container('c'))}
const container = { upperdir, workdir }
// one thread of each kind, each of which has been at work: their making is not the plans'
const mounters = {}
for (const rung of ['auto', 'classic']) {
  mounters[rung] = new Mounter({ rung, threads: 1, reapers: 1 })
  await (await mounters[rung].mountTmpfs({ target })).unmount({ wait: 'teardown' })
  await mounters[rung].idle()
}
const elsewhere = async (mount) => {
  await mount.attach({ path: '/rootfs', mountNamespace: { pid } })
  return mount
}
await (await elsewhere(await mounters.auto.mountTmpfs({}))).unmount()
const outer = await mounters.auto.mountTmpfs({})
for (const name of ['a', 'b', 'top']) mkdirSync(outer.path + '/' + name)
await outer.attach(${JSON.stringify(area.mkdir('outer'))}, { propagation: 'private' })
const top = await mounters.auto.mountTmpfs({ target: { mount: outer, path: 'top' } })
let last
${cases
  .map(
    ({ made, call, rung = 'auto' }, i) => `
{
  const mounter = mounters['${rung}']
  const made = ${made}
  await mounter.idle()
  const [operation, ...args] = [${call}]
  mark('explain-${i}')
  const { rung, cost, steps } = made.explain(operation, ...args)
  mark('begin-${i}')
  await made[operation](...args)
  await mounter.idle()
  mark('end-${i}')
  console.log(JSON.stringify({ rung, cost }))
  ${call.includes('beneath') ? 'last = made' : 'await made.unmount()'}
  await mounter.idle()
}`,
  )
  .join('')}
await top.unmount()
await last.unmount()
await outer.unmount()
for (const mounter of Object.values(mounters)) await mounter.close()
`

for (const propagation of propagations) {
  const title = `what explain says is what strace counts: / ${propagation}`
  t.test(title, all(privileged, programs('strace')), async (t) => {
    const area = scratch(t)
    const source = volume(area)
    const container = await startContainer(t)
    await withPropagation(t, propagation, async () => {
      const { status, stdout, stderr, calls } = await straceModule(script(area, source, container.pid))
      t.equal(status, 0, stderr)
      const explained = stdout
        .trim()
        .split('\n')
        .map((line): { rung: string; cost: Cost } => JSON.parse(line))
      t.equal(explained.length, cases.length)
      for (const [i, { name, rung, call, unmounts }] of cases.entries()) {
        const { cost, rung: said } = explained[i]!
        t.same(
          between(calls, `explain-${i}`, `begin-${i}`).filter(isOfPlan),
          [],
          `${name}: explain makes none`,
        )
        const made = between(calls, `begin-${i}`, `end-${i}`).filter(isOfPlan)
        t.same(tally(made), cost.calls, `${name}: calls`)
        t.equal(made.length, cost.syscalls, `${name}: their sum`)
        const before = calls.slice(0, calls.indexOf(made[0] as Syscall))
        const { writes, grace } = lockWrites(made, before, unmounts === 'overlay')
        t.equal(cost.namespaceSemWrites, writes, `${name}: writers of namespace_sem`)
        t.equal(cost.gracePeriods, grace, `${name}: grace periods`)
        t.equal(cost.temporaryMounts, 0, `${name}: nothing that others can see`)
        const isByPath = made.some(({ name }) => name === 'mount')
        t.equal(isByPath, rung === 'classic' && !/unmount/.test(call), `${name}: by mount(2)`)
        if (rung === 'classic') t.equal(said, 'classic', name)
      }
    })
    umount(`${source}/sub`)
  })
}

t.test('what is printed, and what is refused', privileged, async (t) => {
  const area = scratch(t)
  const target = area.mkdir('target')
  const mounter = new Mounter()
  const one = await mounter.mountTmpfs()
  t.match(
    String(one.explain('attach', target, { propagation: 'private' })),
    /^direct: 2 system calls, 2 .*\n {2}note: .*\n {2}move_mount\(/,
  )
  const refused = (mount: Mount, operation: string, ...args: unknown[]) => {
    const method = Reflect.get(mount, `${operation}Sync`) as (...args: unknown[]) => void
    let wanted: unknown
    try {
      method.apply(mount, args)
    } catch (error) {
      wanted = error
    }
    const { name, message } = wanted as Error
    t.throws(() => mount.explain(operation as 'attach', ...(args as [string])), { name, message }, message)
  }
  refused(one, 'moveTo', target)
  refused(one, 'attach', '/')
  refused(one, 'attach', target, { beneath: 1 })
  refused(one, 'setAttributes', {})
  refused(one, 'setPropagation', 'none')
  refused(one, 'reconfigure', { mode: 0 })
  await one.attach(target)
  refused(one, 'attach', target)
  refused(one, 'unmount', { lazy: 1 })
  t.throws(() => one.explain('release' as 'unmount'), { code: 'ERR_INVALID_ARG_VALUE', message: /'moveTo'/ })
  t.throws(() => one.explain('toString' as 'unmount'), { code: 'ERR_INVALID_ARG_VALUE' })
  const classic = new Mounter({ rung: 'classic' })
  const two = await classic.mountTmpfs({ target: area.mkdir('other') })
  refused(two, 'setAttributes', { readonly: true }, { recursive: true })
  await one.unmount()
  t.same(one.explain('unmount').plans, [])
  refused(one, 'moveTo', target)
  two.release()
  refused(two, 'setAttributes', { readonly: true })
  refused(two, 'unmount')
  umount(area.path('other'))
  for (const each of [mounter, classic]) await each.close()
})

t.test('without any right', privileged, async (t) => {
  const area = scratch(t)
  const mounter = new Mounter()
  const target = area.mkdir('target')
  const made = await mounter.mount({ lowerdir: area.layers(2), target })
  const { status, stdout, stderr } = await runModule(`
    ${dropSource}
    import { Rootfs } from '${dist('index.js')}'

    process.chdir('/')
    drop()
    const rootfs = Rootfs.openSync(${JSON.stringify(JSON.stringify(made))})
    const plans = [rootfs.explain('setAttributes', { nosuid: true }), rootfs.explain('unmount')]
    console.log(JSON.stringify(plans.map(({ notes, cost }) => [notes, cost.syscalls])))
  `)
  t.equal(status, 0, stderr)
  for (const [notes, syscalls] of JSON.parse(stdout)) {
    t.match(notes, [/^this process may not mount: EPERM/])
    t.ok(syscalls > 3)
  }
  await made.unmount()
  await mounter.close()
})
