/**
 * Many mounts that open their own layers at once: those that wait for their turn hold nothing, and count as under way
 * for whoever waits for the mounter. Which of them begin when: test/program/lanes.test.ts.
 */
import { existsSync, readdirSync } from 'node:fs'
import t, { type Test } from 'tap'
import { Mounter, type MounterOptions, type Rootfs } from '../../lib/index.js'
import { dist, runModule } from '../support/child.js'
import { watch } from '../support/left.js'
import { isBelow, mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { ways } from '../support/rungs.js'
import { scratch } from '../support/scratch.js'

const count = 30

const setup = (t: Test, options: MounterOptions = {}) => {
  const area = scratch(t)
  const lowerdir = area.layers(2)
  const mounter = new Mounter({ threads: 1, reapers: 1, ...options })
  t.teardown(() => mounter.close())
  const at = Array.from({ length: count }, (_, i) => area.container(String(i)))
  const mount = (i: number, signal?: AbortSignal) => mounter.mount({ lowerdir, ...at[i] }, { signal })
  const mounted = () => mounts().filter((each) => isBelow(each, area.path('containers'))).length
  return { area, lowerdir, mounter, at, mount, mounted }
}
const numbers = Array.from({ length: count }, (_, i) => i)
const unmountAll = (all: readonly Rootfs[]) => Promise.all(all.map((rootfs) => rootfs.unmount()))

t.test('what waits is counted', privileged, async (t) => {
  const { mounter, mount } = setup(t)
  const all = numbers.map((i) => mount(i))
  t.match(mounter.stats.composing, { waiting: count - 2 })
  await mounter.ready()
  t.match(mounter.stats.composing, { waiting: 0 }, 'ready() is for who comes after them')
  await unmountAll(await Promise.all(all))
})

t.test('what waits counts as queued for maxQueued', privileged, async (t) => {
  const { mount } = setup(t, { maxQueued: 5 })
  const all = numbers.slice(0, 6).map((i) => mount(i))
  await t.rejects(mount(6), { code: 'ERR_OVERLAYFD_QUEUE_FULL' })
  await unmountAll(await Promise.all(all))
})

t.test('wrong from the beginning is refused at once', privileged, async (t) => {
  const { mounter, lowerdir, at, mount } = setup(t, { rung: 'classic' })
  const all = numbers.map((i) => mount(i))
  const { upperdir, workdir } = at[0]!
  await t.rejects(mounter.mount({ lowerdir, upperdir, workdir }), { code: 'ERR_OVERLAYFD_RUNG' })
  t.ok(mounter.stats.composing.waiting > 0, 'not when its turn has come')
  await unmountAll(await Promise.all(all))
})

t.test('aborted while they wait', privileged, async (t) => {
  const { mounter, at, mount, mounted } = setup(t)
  const abort = new AbortController()
  const all = numbers.map((i) => mount(i, i >= 10 ? abort.signal : undefined))
  const reason = new Error('enough')
  let isFirst = true
  all[0]!.then(() => {
    isFirst = false
  })
  abort.abort(reason)
  for (const each of all.slice(10)) t.equal(await each.catch((error) => error), reason)
  t.ok(isFirst, 'they are rejected before anything is mounted')
  await mounter.idle()
  t.equal(mounted(), 10, 'the others are mounted')
  for (const { workdir } of at.slice(10)) t.same(readdirSync(workdir), [], 'nothing was begun')
  await unmountAll(await Promise.all(all.slice(0, 10)))
})

for (const { rung, idmap } of ways) {
  t.test(`closed while they wait: ${rung}`, privileged, async (t) => {
    const { area, lowerdir, at, mounted } = setup(t)
    const left = watch()
    for (const end of ['close', 'idle', 'trim'] as const) {
      const mounter = new Mounter({ rung, threads: 1, reapers: 1 })
      const all = at.map((each) => mounter.mount({ lowerdir, idmap, ...each }))
      const wrong = mounter
        .mount({ lowerdir: [area.path('none')], idmap, target: area.dir })
        .catch(({ code }) => code)
      await mounter[end]()
      t.equal(mounted(), count, `${end}() resolves when they are mounted`)
      t.equal(await wrong, 'ENOENT')
      await unmountAll(await Promise.all(all))
      await mounter.close()
      t.same(await left({ threads: true }), [])
    }
  })
  t.test(`closed while one begins: ${rung}`, privileged, async (t) => {
    const { lowerdir, at, mounted } = setup(t)
    for (const end of ['close', 'idle', 'trim'] as const) {
      for (const open of [true, false]) {
        const mounter = new Mounter({ rung, threads: 1, reapers: 1 })
        const begun = open
          ? mounter.open({ lowerdir, idmap }).then(async (stack) => {
              await stack.close()
            })
          : mounter.mount({ lowerdir, idmap, ...at[0] }).then((rootfs) => rootfs.unmount())
        await Promise.all([mounter[end](), begun])
        await mounter.close()
      }
    }
    t.equal(mounted(), 0)
  })
}

t.test('relative paths are those of the call', privileged, async (t) => {
  const { area, mounter, at } = setup(t)
  const before = process.cwd()
  process.chdir(area.dir)
  t.teardown(() => process.chdir(before))
  const relative = (path: string) => path.slice(area.dir.length + 1)
  const all = at.map(({ target }) =>
    mounter.mount({ lowerdir: ['layers/1/fs', 'layers/0/fs'], target: relative(target) }),
  )
  process.chdir('/')
  await unmountAll(await Promise.all(all))
  t.pass('all are found')
})

t.test('who blocks does not wait for them', privileged, async (t) => {
  const { mounter, lowerdir, at, mount } = setup(t)
  const all = numbers.slice(1).map((i) => mount(i))
  const { waiting } = mounter.stats.composing
  const rootfs = mounter.mountSync({ lowerdir, ...at[0] })
  t.ok(existsSync(`${at[0]!.target}/each`))
  t.equal(mounter.stats.composing.waiting, waiting)
  rootfs.unmountSync()
  await unmountAll(await Promise.all(all))
})

t.test('those of a caller that moves on are mounted where he was', privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(2)
  const targets = numbers.map((i) => area.container(String(i)).target)
  const { status, stdout, stderr } = await runModule(
    `
    import { openSync, readFileSync } from 'node:fs'
    import { Mounter } from ${JSON.stringify(dist('index.js'))}
    import { CLONE_NEWNS, MS_PRIVATE, MS_REC, mount, setns, unshare } from ${JSON.stringify(dist('sys.js'))}
    const { lowerdir, targets } = JSON.parse(process.argv[1])
    const home = openSync('/proc/thread-self/ns/mnt')
    const mounter = new Mounter({ threads: 1, reapers: 1 })
    const all = targets.map((target) => mounter.mount({ lowerdir, target }))
    unshare(CLONE_NEWNS)
    mount(null, '/', null, [MS_REC, MS_PRIVATE], null)
    await mounter.idle()
    const made = await Promise.all(all)
    const mounted = () => targets.filter((target) => readFileSync('/proc/thread-self/mountinfo', 'utf8').includes(' ' + target + ' ')).length
    const there = mounted()
    setns(home, CLONE_NEWNS)
    console.log(there, mounted())
    await Promise.all(made.map((each) => each.unmount()))
    await mounter.close()`,
    [JSON.stringify({ lowerdir, targets })],
  )
  t.same({ status, stdout, stderr }, { status: 0, stdout: `0 ${count}\n`, stderr: '' })
})
