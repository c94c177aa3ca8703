/**
 * What ended processes left: found by its mark below a directory whatever it is called, judged by whether its owner is
 * alive, and taken down in the right order, if that is asked for; everything else is left alone.
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdirSync, openSync, symlinkSync } from 'node:fs'
import t, { type Test } from 'tap'
import {
  type Leftover,
  Mounter,
  type ReconcileOptions,
  Rootfs,
  reconcile,
  reconcileSync,
} from '../../lib/index.js'
import { listLeftovers } from '../../lib/overlay/reconcile.js'
import { mount, umount } from '../../lib/sys.js'
import { dist, environment, runModule } from '../support/child.js'
import { watch } from '../support/left.js'
import { isBelow, mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { propagations, withPropagation } from '../support/peers.js'
import { ways } from '../support/rungs.js'
import { scratch } from '../support/scratch.js'

const sh = (...args: string[]): void => {
  execFileSync(args[0] as string, args.slice(1), { stdio: ['ignore', 'ignore', 'pipe'] })
}
const at = (dir: string) => mounts().filter((mount) => isBelow(mount, dir))
const typesAt = (dir: string): string[] => at(dir).map(({ type }) => type)

const prelude = `import { mkdirSync } from 'node:fs'
import { Mounter, MountGroup } from ${JSON.stringify(dist('index.js'))}
`
/** Runs a program that mounts, and is then killed. */
const killedAfter = async (t: Test, text: string): Promise<number> => {
  const { signal, stderr, stdout } = await runModule(
    `${prelude}${text}\nprocess.stdout.write(String(process.pid), () => process.kill(process.pid, 'SIGKILL'))`,
  )
  t.equal(stderr, '')
  t.equal(signal, 'SIGKILL')
  return Number(stdout)
}
const mounting = (
  lowerdir: readonly string[],
  targets: readonly string[],
  rung = 'auto',
  idmap: unknown = null,
) => `
const mounter = new Mounter({ rung: '${rung}' })
for (const target of ${JSON.stringify(targets)})
  await mounter.mount({ lowerdir: ${JSON.stringify(lowerdir)}, target, idmap: ${JSON.stringify(idmap)} ?? undefined })`

const forms = [
  ['promise', (dir: string, options?: ReconcileOptions) => reconcile(dir, options)],
  ['Sync', async (dir: string, options?: ReconcileOptions) => reconcileSync(dir, options)],
] as const

for (const propagation of propagations) {
  for (const { rung, idmap } of ways) {
    t.test(`listed, and taken down: ${rung}, / ${propagation}`, privileged, async (t) => {
      const area = scratch(t)
      const lowerdir = area.layers(2)
      const targets = ['a', 'b', 'b-other'].map((name) => area.mkdir('run', name))
      const outside = area.mkdir('run-other')
      await withPropagation(t, propagation, async () => {
        const left = watch()
        for (const [name, run] of forms) {
          const pid = await killedAfter(t, mounting(lowerdir, [...targets, outside], rung, idmap))
          const before = at(area.dir)
          const listed = await run(area.path('run'))
          t.same(listed.map(({ target }) => target).sort(), targets, name)
          for (const { owner, kind, mountId, isUnmounted, error, target, targetBytes } of listed) {
            t.match(owner, { pid, isAlive: false })
            t.match({ kind, isUnmounted, error }, { kind: 'overlay', isUnmounted: false, error: undefined })
            t.equal(typeof mountId, 'bigint')
            t.same(targetBytes, Buffer.from(target))
          }
          t.same(at(area.dir), before, 'listing does nothing')
          t.same(
            (await run(area.path('run/b'))).map(({ target }) => target),
            [area.path('run/b')],
            'b-other is not below b',
          )
          const done = await run(area.path('run'), { unmount: true })
          t.ok(done.length === 3 && done.every(({ isUnmounted, error }) => isUnmounted && !error))
          t.same(typesAt(area.dir), ['tmpfs', 'overlay'], 'but not what is elsewhere')
          t.same(await run(area.path('run'), { unmount: true }), [])
          t.match(await run(outside, { unmount: true }), [{ target: outside, isUnmounted: true }])
        }
        await Mounter.default.trim()
        t.same(await left(), [])
      })
    })
  }
}

t.test('nothing of the living, of others, or without a mark', privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(2)
  const dir = area.mkdir('run')
  const place = (name: string) => area.mkdir('run', name)
  await killedAfter(t, mounting(lowerdir.slice(0, 1), [place('clone')]))
  const own = await new Mounter().mount({ lowerdir, target: place('own') })
  sh('mount', '-n', '-t', 'overlay', '-o', `lowerdir=${lowerdir.join(':')}`, 'overlayfd', place('foreign'))
  sh(
    'mount',
    '-n',
    '-t',
    'overlay',
    '-o',
    `lowerdir=${lowerdir.join(':')}`,
    'overlayfd:1/2@x',
    place('marked'),
  )
  sh('mount', '-n', '-t', 'ramfs', 'overlayfd:1/2@3', place('ramfs'))
  const living = spawn(
    'env',
    ['--unset=NODE_OPTIONS', process.execPath, '--input-type=module', '--eval',
      `${prelude}${mounting(lowerdir, [place('living')])}\nconsole.log('up')\nsetInterval(() => {}, 1000)`],
    { env: environment(), stdio: ['ignore', 'pipe', 'inherit'] },
  ) // biome-ignore format: one line of a program
  await once(living.stdout!, 'data')
  const before = at(dir)
  t.equal(before.length, 6)
  t.same(await reconcile(dir, { unmount: true, lazy: true }), [])
  t.same(at(dir), before)
  living.kill('SIGKILL')
  await once(living, 'exit')
  t.match(await reconcile(dir, { unmount: true }), [{ target: place('living'), isUnmounted: true }])
  await own.unmount()
  for (const { target } of at(dir)) sh('umount', '-n', target.toString())
})

t.test('names of every kind, and a link to the directory', privileged, async (t) => {
  const area = scratch(t)
  const names = ['a b', 'new\nline', 'back\\slash', 'oct\\040al', 'ü', '-', ' - overlay x']
  const targets = names.map((name) => area.mkdir('run', name))
  const bytes = Buffer.concat([Buffer.from(`${area.path('run')}/`), Buffer.from([0xff, 0x0a, 0xfe])])
  mkdirSync(bytes)
  const odd = `await mounter.mount({ lowerdir, target: Buffer.from('${bytes.toString('hex')}', 'hex') })`
  await killedAfter(
    t,
    `${mounting(area.layers(2), targets)}\nconst lowerdir = ${JSON.stringify(area.layers(2))}\n${odd}`,
  )
  symlinkSync('run', area.path('link'))
  const listed = await reconcile(area.path('link'))
  const hex = (all: Buffer[]) => all.map((each) => each.toString('hex')).sort()
  t.same(
    hex(listed.map(({ targetBytes }) => targetBytes)),
    hex([...targets.map((each) => Buffer.from(each)), bytes]),
  )
  const done = await reconcile(area.path('link'), { unmount: true })
  t.ok(
    done.every(({ isUnmounted }) => isUnmounted),
    JSON.stringify(done, (_, v) => (typeof v === 'bigint' ? String(v) : v)),
  )
  t.same(typesAt(area.dir), ['tmpfs'])
})

t.test('mounts upon mounts, and a group', privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(2)
  const target = area.mkdir('run/c')
  const job = area.mkdir('run/job')
  const text = `${mounting(lowerdir, [target, target, `${target}/dir`, target])}
const group = await MountGroup.open('${job}', { mounter })
const lowerdir = ${JSON.stringify(lowerdir)}
for (const name of ['x', 'y']) await mounter.mount({ lowerdir, target: group.target(name) })`
  await killedAfter(t, text)
  t.equal(at(area.path('run')).length, 7)
  const listed = await reconcile(area.path('run'))
  const count = (found: Leftover[]) => found.filter(({ mountId }) => mountId === undefined).length
  t.equal(count(listed), 3, 'two below the topmost, and one below a mount on one of them')
  t.match(
    listed.find(({ kind }) => kind === 'tmpfs'),
    { target: job },
  )
  const done = await reconcile(area.path('run'), { unmount: true })
  t.same(
    done.map(({ isUnmounted, error }) => [isUnmounted, error]),
    Array(7).fill([true, undefined]),
  )
  t.same(typesAt(area.path('run')), [])
})

t.test('what is wanted is decided before anything is done', privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(2)
  const targets = ['a', 'b', 'c'].map((name) => area.mkdir('run', name))
  await killedAfter(t, mounting(lowerdir, targets))
  const seen: string[] = []
  const failing = reconcile(area.path('run'), {
    unmount: ({ target }) => {
      if (seen.push(target) === 3) throw new Error('no')
      return true
    },
  })
  await t.rejects(failing, { message: 'no' })
  t.equal(at(area.path('run')).length, 3)
  const aborted = { signal: AbortSignal.abort(new Error('enough')) }
  await t.rejects(reconcile(area.path('run'), { unmount: true }, aborted), { message: 'enough' })
  t.equal(at(area.path('run')).length, 3)
  const kept = area.path('run/b')
  const done = await reconcile(area.path('run'), { unmount: ({ target }) => target !== kept })
  t.same(
    done.filter(({ isUnmounted }) => !isUnmounted).map(({ target }) => target),
    [kept],
  )
  const truthy = (() => 'yes') as unknown as () => boolean
  t.match(
    await reconcile(kept, { unmount: truthy }),
    [{ isUnmounted: false }],
    'true, and not something like it',
  )
  const both = await Promise.all([1, 2].map(() => reconcile(kept, { unmount: true })))
  t.equal(both.flat().filter(({ isUnmounted }) => isUnmounted).length, 1, 'two at once: one has done it')
  t.same(typesAt(area.path('run')), [])
})

t.test('in use, covered by others, or opened here', privileged, async (t) => {
  const area = scratch(t)
  const c = area.container('c')
  const { stdout } = await runModule(`${prelude}
const rootfs = await new Mounter().mount(${JSON.stringify({ lowerdir: area.layers(2), ...c })})
console.log(JSON.stringify(rootfs))`)
  const fd = openSync(`${c.target}/each`, 'r')
  const busy = await reconcile(c.target, { unmount: true })
  t.match(busy, [{ isUnmounted: false, error: { code: 'EBUSY', syscall: 'umount2' } }])
  closeSync(fd)
  sh('mount', '-n', '-t', 'tmpfs', 'theirs', c.target)
  const covered = await reconcile(c.target, { unmount: true, lazy: true })
  t.match(covered, [
    { isUnmounted: false, mountId: undefined, error: { code: 'ERR_OVERLAYFD_MOUNT_COVERED' } },
  ])
  t.same(typesAt(c.target), ['overlay', 'tmpfs'])
  sh('umount', '-n', c.target)
  const rootfs = await Rootfs.open(stdout)
  const opened = await reconcile(c.target, { unmount: true })
  t.match(opened, [{ isUnmounted: false, error: { code: 'ERR_INVALID_STATE', message: /has opened/ } }])
  await rootfs.unmount()
  t.same(await reconcile(c.target), [])
})

t.test('another mount has the number by now', privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(2)
  const target = area.mkdir('t')
  await killedAfter(t, mounting(lowerdir, [target]))
  const [before] = at(target)
  const isSame = () => {
    const [now] = at(target)
    return String(now?.source) === 'theirs' && now?.id === before?.id && now?.device === before?.device
  }
  sh('mount', '-n', '-t', 'tmpfs', 'theirs', target)
  const done = await reconcile(target, {
    unmount: ({ mountId }) => {
      t.equal(mountId, undefined, 'covered')
      // somebody takes both down, and mounts at the same place
      sh('umount', '-n', target)
      // the kernel gives the lowest free numbers, to others on this machine too: who has them may keep them for a while
      const patience = Date.now() + 150_000
      while (!isSame()) {
        if (Date.now() > patience) throw new Error('the numbers do not come back')
        umount(target)
        mount('theirs', target, 'overlay', 0, `lowerdir=${lowerdir.join(':')}`)
      }
      return true
    },
  })
  const after = at(target)
  t.match(after, [{ type: 'overlay', id: before!.id, device: before!.device }], 'the same numbers')
  t.match(done, [{ isUnmounted: false, error: { code: 'ERR_OVERLAYFD_MOUNT_COVERED' } }], 'it is left alone')
  sh('umount', '-n', target)
})

t.test('lazily, what is in use too', privileged, async (t) => {
  const area = scratch(t)
  const target = area.mkdir('t')
  await killedAfter(t, mounting(area.layers(2), [target]))
  const fd = openSync(`${target}/each`, 'r')
  t.match(reconcileSync(target, { unmount: true, lazy: true }), [{ isUnmounted: true }])
  closeSync(fd)
  t.same(typesAt(target), [])
})

t.test('an owner of another pid namespace', privileged, async (t) => {
  const area = scratch(t)
  const target = area.mkdir('t')
  sh('unshare', '-p', '-f', 'sh', '-c', 'mount -n -t proc proc /proc && "$@"; status=$?; umount -n /proc; exit $status',
    '-', 'env', '--unset=NODE_OPTIONS', process.execPath, '--input-type=module', '--eval', `${prelude}${mounting(area.layers(2), [target])}`) // biome-ignore format: a command
  t.match(await reconcile(target, { unmount: true }), [
    { isUnmounted: false, error: undefined, owner: { isAlive: undefined } },
  ])
  t.same(typesAt(target), ['overlay'], 'not for true: it cannot be told')
  const done = await reconcile(target, {
    unmount: ({ owner }) => owner.isAlive === undefined && owner.pid < 10,
  })
  t.match(done, [{ isUnmounted: true }])
})

t.test('wrong arguments', privileged, async (t) => {
  const wrong: [unknown, unknown, string, RegExp][] = [
    ['', {}, 'ERR_INVALID_ARG_VALUE', /"dir"/],
    [7, {}, 'ERR_INVALID_ARG_TYPE', /"dir"/],
    ['/a\0', {}, 'ERR_INVALID_ARG_VALUE', /"dir"/],
    ['/nowhere/at/all', {}, 'ENOENT', /nowhere/],
    ['/', { unmont: true }, 'ERR_INVALID_ARG_VALUE', /"options.unmont".*"unmount"/],
    ['/', { unmount: 1 }, 'ERR_INVALID_ARG_TYPE', /options.unmount/],
    ['/', { lazy: 'yes' }, 'ERR_INVALID_ARG_TYPE', /options.lazy/],
    ['/', null, 'ERR_INVALID_ARG_TYPE', /options/],
  ]
  for (const [dir, options, code, message] of wrong) {
    const error = { code, message }
    await t.rejects(reconcile(dir as string, options as object), error)
    t.throws(() => reconcileSync(dir as string, options as object), error)
  }
  await t.rejects(reconcile('/', {}, { mounter: {} as Mounter }), { code: 'ERR_INVALID_ARG_TYPE' })
})

t.test('the order, without a kernel', async (t) => {
  const mount = (
    id: number,
    parent: number,
    target: string,
    source = 'overlayfd:1/2@3',
    type = 'overlay',
  ) => ({ id: BigInt(id), parent: BigInt(parent), dev: 1n, target: Buffer.from(target), type, source })
  const table = [
    mount(9, 1, '/c'),
    mount(7, 9, '/c'),
    mount(8, 7, '/c'),
    mount(3, 1, '/c/d/e'),
    mount(4, 1, '/x'),
    mount(5, 1, '/c/f', 'none'),
  ]
  const order = (dir: string, alive: boolean | undefined) =>
    listLeftovers(table, Buffer.from(dir), () => alive).map(({ mount }) => Number(mount.id))
  t.same(order('/c', false), [3, 8, 7, 9])
  t.same(order('/', undefined), [3, 8, 7, 9, 4])
  t.same(order('/c', true), [])
  const circle = [mount(1, 2, '/c'), mount(2, 1, '/c')]
  t.equal(listLeftovers(circle, Buffer.from('/'), () => false).length, 2, 'no table is trusted to be a tree')
})
