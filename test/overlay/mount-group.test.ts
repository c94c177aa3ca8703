/**
 * Many rootfs below one stage, taken down together: what their handles know of it, what is left alone, and what is
 * refused. What it costs and what other namespaces see is in group-stage.test.ts.
 */
import { execFileSync } from 'node:child_process'
import { tracingChannel } from 'node:diagnostics_channel'
import {
  chmodSync,
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { binding } from '../../lib/binding.js'
import { LayerStack, Mounter, MountGroup, type Rootfs } from '../../lib/index.js'
import type { OperationTrace } from '../../lib/tracing.js'
import { dist, run, runModule } from '../support/child.js'
import { watch } from '../support/left.js'
import { isBelow, mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { ways } from '../support/rungs.js'
import { type Scratch, scratch } from '../support/scratch.js'

const sh = (...args: string[]): void => {
  execFileSync(args[0] as string, args.slice(1), { stdio: ['ignore', 'ignore', 'pipe'] })
}
const tmpfsOn = (dir: string) => sh('mount', '-n', '-t', 'tmpfs', 'overlayfd-test', dir)
const typesAt = (dir: string): string[] =>
  mounts()
    .filter((mount) => isBelow(mount, dir))
    .map(({ type }) => type)

interface Form {
  readonly name: string
  open(dir: string | Buffer, mounter: Mounter): Promise<MountGroup>
  unmount(group: MountGroup, options?: { lazy?: boolean }): Promise<void>
}
const forms: readonly Form[] = [
  {
    name: 'promise',
    open: (dir, mounter) => MountGroup.open(dir, { mounter }),
    unmount: (group, options) => group.unmount(options),
  },
  {
    name: 'Sync',
    open: async (dir, mounter) => MountGroup.openSync(dir, { mounter }),
    unmount: async (group, options) => group.unmountSync(options),
  },
]

interface Given {
  readonly area: Scratch
  readonly dir: string
  readonly mounter: Mounter
  readonly stack: LayerStack
  /** on a target of the group, with an upper of its own */
  mount(group: MountGroup, name: string): Promise<Rootfs>
}

/** The same test on every rung, which must leave nothing. */
const onEachRung = (name: string, body: (t: Test, given: Given) => Promise<void>, only = /./) => {
  for (const { rung, idmap } of ways.filter((way) => only.test(way.rung))) {
    t.test(`${name}: ${rung}`, privileged, async (t) => {
      const area = scratch(t)
      const mounter = new Mounter({ rung })
      const dir = area.mkdir('group')
      writeFileSync(join(dir, 'own'), 'the directory’s own')
      const left = watch()
      const stack = await LayerStack.open({ lowerdir: area.layers(2), idmap }, { mounter })
      const mount = (group: MountGroup, name: string) => {
        const { upperdir, workdir } = area.container(name)
        return stack.mount({ upperdir, workdir, target: group.target(name) })
      }
      await body(t, { area, dir, mounter, stack, mount })
      await stack.close()
      await mounter.close()
      t.same(await left({ threads: true }), [])
      t.same(readdirSync(dir), ['own'], 'the directory is as it was')
    })
  }
}

t.test('arguments', async (t) => {
  const [type, value] = ['ERR_INVALID_ARG_TYPE', 'ERR_INVALID_ARG_VALUE']
  const targets: [unknown, string, RegExp][] = [
    [undefined, type, /"target" argument must be of type string or Buffer. Received undefined/],
    [7, type, /"target"/],
    ['', value, /"target" argument must not be empty/],
    ['/', value, /"target" argument must be a directory below '\/'/],
    ['/a/..', value, /"target"/],
    ['/a\0b', value, /NUL/],
  ]
  for (const [target, code, message] of targets) {
    await t.rejects(MountGroup.open(target as string), { code, message })
    t.throws(() => MountGroup.openSync(target as string), { code, message })
  }
  const calls: [unknown, string, RegExp][] = [
    [{ mounter: {} }, type, /"call.mounter" argument must be a Mounter/],
    [{ signal: 1 }, type, /"call.signal"/],
    [{ mouter: 1 }, value, /no option "call.mouter". Did you mean "mounter"/],
    [null, type, /"call"/],
  ]
  for (const [call, code, message] of calls)
    await t.rejects(MountGroup.open('/a', call as object), { code, message })
  t.throws(() => MountGroup.openSync('/a', { signal: AbortSignal.abort() } as object), { code: value })
  const aborted = AbortSignal.abort(new Error('aborted'))
  await t.rejects(MountGroup.open('/a', { signal: aborted }), { message: 'aborted' })
})

t.test('names of targets, and options of unmount', privileged, async (t) => {
  const area = scratch(t)
  const group = await MountGroup.open(area.mkdir('group'))
  const reason = /"name" argument must be one component of a path/
  const names: [unknown, string, RegExp][] = [
    [undefined, 'ERR_INVALID_ARG_TYPE', /"name" argument must be of type string or Buffer/],
    [1, 'ERR_INVALID_ARG_TYPE', /"name"/],
    ['', 'ERR_INVALID_ARG_VALUE', /"name" argument must not be empty/],
    ['.', 'ERR_INVALID_ARG_VALUE', reason],
    ['..', 'ERR_INVALID_ARG_VALUE', reason],
    ['a/b', 'ERR_INVALID_ARG_VALUE', reason],
    ['/a', 'ERR_INVALID_ARG_VALUE', reason],
    [Buffer.from('..'), 'ERR_INVALID_ARG_VALUE', reason],
    ['a\0', 'ERR_INVALID_ARG_VALUE', /NUL/],
    ['n'.repeat(256), 'ERR_INVALID_ARG_VALUE', reason],
  ]
  for (const [name, code, message] of names)
    t.throws(() => group.target(name as string), { code, message }, String(name))
  t.same(readdirSync(group.path), [], 'nothing was made')
  for (const name of ['n'.repeat(255), '...', 'a,b:c\\d\ne', ' ', 'ü'])
    t.equal(group.target(name), join(group.path, name))
  const bytes = group.target(Buffer.from([0x66, 0xff]))
  t.same(bytes, Buffer.concat([Buffer.from(`${group.path}/f`), Buffer.of(0xff)]))
  t.ok(statSync(bytes).isDirectory())

  const options: [unknown, string, RegExp][] = [
    [null, 'ERR_INVALID_ARG_TYPE', /"options" argument must be an object/],
    [{ lazy: 1 }, 'ERR_INVALID_ARG_TYPE', /"options.lazy" argument must be of type boolean/],
    [{ lzy: true }, 'ERR_INVALID_ARG_VALUE', /no option "options.lzy". Did you mean "lazy"/],
  ]
  for (const [wrong, code, message] of options) {
    await t.rejects(group.unmount(wrong as object), { code, message })
    t.throws(() => group.unmountSync(wrong as object), { code, message })
  }
  await group.unmount()

  const odd = Buffer.concat([Buffer.from(`${area.dir}/g`), Buffer.of(0xfe)])
  mkdirSync(odd)
  const other = await MountGroup.open(odd)
  t.throws(() => other.target('a'), { code: 'ERR_INVALID_ARG_VALUE', message: /must be a Buffer/ })
  t.same(other.target(Buffer.from('a')), Buffer.concat([odd, Buffer.from('/a')]))
  await other.unmount()
})

onEachRung('all at once', async (t, { area, dir, mounter, stack, mount }) => {
  for (const form of forms) {
    await mounter.idle()
    const claims = binding.claims()
    const group = await form.open(dir, mounter)
    t.equal(group.path, dir)
    const [stage] = mounts().filter((one) => isBelow(one, dir))
    t.match(stage, { type: 'tmpfs', propagation: [], attributes: /nosuid,nodev,noexec/ })
    t.equal(statSync(dir).mode & 0o7777, 0o711)
    t.notOk(existsSync(join(dir, 'own')), 'what is in the directory is covered')
    const made = await Promise.all(['a', 'b', 'c'].map((name) => mount(group, name)))
    if (mounter.rung !== 'classic') {
      const detached = await stack.mount({})
      await detached.attach(group.target('d'))
      made.push(detached)
    }
    made.push(...(await stack.mountMany([{ target: group.target('e') }, { target: group.target('f') }])))
    t.equal(made[1]!.path, join(dir, 'b'))
    writeFileSync(join(dir, 'b', 'written'), 'b')
    copyFileSync('/bin/true', join(dir, 'b', 'true'))
    chmodSync(join(dir, 'b', 'true'), 0o755)
    sh(join(dir, 'b', 'true'))
    t.same(typesAt(dir), ['tmpfs', ...made.map(() => 'overlay')])
    await form.unmount(group)
    t.same(typesAt(dir), [], form.name)
    t.equal(readFileSync(join(dir, 'own'), 'utf8'), 'the directory’s own')
    for (const rootfs of made) {
      t.throws(() => rootfs.path, { code: 'ERR_INVALID_STATE', message: /is unmounted/ })
      t.match(JSON.parse(JSON.stringify(rootfs)), { phase: 'gone' })
      await rootfs.unmount()
      rootfs.unmountSync()
    }
    t.equal(binding.claims(), claims, 'nothing is claimed any more')
    const { upperdir, workdir, target } = area.container('b')
    const again = await stack.mount({ upperdir, workdir, target })
    t.equal(readFileSync(join(target, 'written'), 'utf8'), 'b', 'its upper is free')
    await again.unmount()
    await form.unmount(group)
    t.throws(() => group.target('e'), { code: 'ERR_INVALID_STATE', message: /the group is unmounted/ })
  }
})

onEachRung('some of them before, and one after the other', async (t, { dir, mounter, mount, stack }) => {
  const group = await MountGroup.open(dir, { mounter })
  const a = await mount(group, 'a')
  const b = await mount(group, 'b')
  const { path } = a
  await a.unmount()
  t.same(typesAt(dir), ['tmpfs', 'overlay'])
  const again = await stack.mount({ target: path })
  t.equal(readFileSync(join(path, 'each'), 'utf8'), 'layer 0', 'the target serves another')
  b.release()
  await group.unmount()
  t.same(typesAt(dir), [])
  t.throws(() => again.path, { code: 'ERR_INVALID_STATE' })
  t.match(JSON.parse(JSON.stringify(b)), { phase: 'released' }, 'what was let go of is nobody’s')
  await t.rejects(b.unmount(), { code: 'ERR_INVALID_STATE' })
})

onEachRung('unmounted at the same time as what is in it', async (t, { dir, mounter, mount }) => {
  for (let round = 0; round < 10; round++) {
    const group = await MountGroup.open(dir, { mounter })
    const made = await Promise.all(['a', 'b', 'c', 'd'].map((name) => mount(group, name)))
    const before = made.slice(0, 2).map((rootfs) => rootfs.unmount())
    const both = [group.unmount(), group[Symbol.asyncDispose]()]
    for (const sync of [
      () => group.unmountSync(),
      () => group.target('e'),
      () => group.release(),
      () => made[0]!.unmountSync(),
    ])
      t.throws(sync, { code: 'ERR_INVALID_STATE', message: /being unmounted|under way/ })
    await Promise.all([...before, ...both, ...made.slice(2).map((rootfs) => rootfs.unmount())])
    t.same(typesAt(dir), [])
  }
})

onEachRung('in use', async (t, { dir, mounter, mount }) => {
  const group = await MountGroup.open(dir, { mounter })
  const [a, b] = [await mount(group, 'a'), await mount(group, 'b')]
  for (const form of forms) {
    const refused = { code: 'EBUSY', syscall: 'umount2', path: dir, hint: /a mount below.*lazy: true/ }
    await t.rejects(form.unmount(group, { lazy: false }), refused, form.name)
    t.same(typesAt(dir), ['tmpfs', 'overlay', 'overlay'])
    t.equal(a.path, join(dir, 'a'))
  }
  writeFileSync(join(dir, 'a', 'file'), 'still there')
  const [file, stage] = [openSync(join(dir, 'a', 'file'), 'r'), openSync(dir, 'r')]
  await group.unmount()
  t.same(typesAt(dir), [])
  t.equal(readFileSync(file, 'utf8'), 'still there', 'an open file stays readable')
  closeSync(file)
  closeSync(stage)
  await b.unmount()
  const empty = await MountGroup.open(dir, { mounter })
  // until the end: a thread that still takes the superblock down was in the group's directory
  await (await mount(empty, 'b')).unmount({ wait: 'teardown' })
  await empty.unmount({ lazy: false })
  t.same(typesAt(dir), [])
})

onEachRung('a name twice', async (t, { dir, mounter, mount }) => {
  const group = await MountGroup.open(dir, { mounter })
  const path = group.target('a')
  const refused = { code: 'EEXIST', syscall: 'mkdir', path, message: /mkdir\(".*\/a", 0755\)/ }
  t.throws(() => group.target('a'), { ...refused, hint: /given out before/ })
  rmdirSync(path)
  t.equal(group.target('a'), path, 'rmdir frees it')
  const rootfs = await mount(group, 'b')
  t.throws(() => group.target('b'), { code: 'EEXIST' })
  t.throws(() => rmdirSync(rootfs.path), { code: 'EBUSY' })
  group[Symbol.dispose]()
  group[Symbol.dispose]()
})

onEachRung('another mount covers it', async (t, { area, dir, mounter, mount }) => {
  const group = await MountGroup.open(dir, { mounter })
  const rootfs = await mount(group, 'a')
  tmpfsOn(dir)
  writeFileSync(join(dir, 'theirs'), 'theirs')
  for (const form of forms) {
    await t.rejects(form.unmount(group), { code: 'EBUSY', syscall: 'statx', path: dir, hint: /covers this/ })
  }
  t.throws(() => group.target('b'), { code: 'EBUSY', syscall: 'statx', path: dir, hint: /covers the group/ })
  t.same(readdirSync(dir), ['theirs'], 'nothing was made in theirs')
  t.same(typesAt(dir), ['tmpfs', 'overlay', 'tmpfs'])
  sh('umount', '-n', dir)
  t.equal(readFileSync(join(rootfs.path, 'each'), 'utf8'), 'layer 0')

  const second = await MountGroup.open(dir, { mounter })
  t.throws(() => group.target('b'), { code: 'EBUSY' }, 'another group too')
  const inSecond = await mount(second, 'x')
  await second.unmount()
  t.throws(() => inSecond.path, { code: 'ERR_INVALID_STATE' })
  const b = await mount(group, 'b')
  await group.unmount()
  t.throws(() => b.path, { code: 'ERR_INVALID_STATE' })
  t.ok(existsSync(area.dir))
})

onEachRung('somebody else unmounted or moved it', async (t, { area, dir, mounter, mount }) => {
  const group = await MountGroup.open(dir, { mounter })
  await mount(group, 'a')
  const elsewhere = area.mkdir('elsewhere')
  sh('mount', '-n', '--move', dir, elsewhere)
  for (const form of forms) {
    await t.rejects(form.unmount(group), { code: 'EINVAL', path: dir, hint: /unmounted or moved it/ })
  }
  t.throws(() => group.target('b'), { code: 'EINVAL', path: dir, hint: /unmounted or moved it/ })
  t.same(readdirSync(dir), ['own'], 'nothing was made in the directory')
  t.same(typesAt(elsewhere), ['tmpfs', 'overlay'])
  sh('umount', '-n', '-l', elsewhere)
  await t.rejects(group.unmount(), { code: 'EINVAL' })
  group.release()
  group.release()
  group[Symbol.dispose]()
  await t.rejects(group.unmount(), { code: 'ERR_INVALID_STATE', message: /the group was released/ })
  t.throws(() => group.target('c'), { code: 'ERR_INVALID_STATE', message: /the group was released/ })
})

onEachRung('a rootfs that was moved out of it', async (t, { area, dir, mounter, stack, mount }) => {
  const group = await MountGroup.open(dir, { mounter })
  const rootfs = await mount(group, 'a')
  const elsewhere = area.mkdir('elsewhere')
  sh('mount', '-n', '--move', rootfs.path, elsewhere)
  await group.unmount()
  t.same(typesAt(elsewhere), ['overlay'], 'is not taken down')
  t.equal(rootfs.path, join(dir, 'a'), 'and its handle does not say so')
  const refused = { code: 'EBUSY', hint: /upperdir is in use/ }
  await t.rejects(stack.mount(area.container('a')), refused, 'so its upper is not free')
  sh('umount', '-n', elsewhere)
})

onEachRung('released: it stays', async (t, { dir, mounter, mount }) => {
  const group = await MountGroup.open(dir, { mounter })
  const rootfs = await mount(group, 'a')
  group.release()
  t.same(typesAt(dir), ['tmpfs', 'overlay'])
  await rootfs.unmount()
  sh('umount', '-n', dir)
})

onEachRung('no place for it', async (t, { area, dir, mounter }) => {
  symlinkSync('group', area.path('link'))
  writeFileSync(area.path('file'), '')
  const table: [path: string, code: RegExp, hint: RegExp][] = [
    [area.path('none'), /ENOENT/, /target .*does not exist/],
    [area.path('link'), /EINVAL|ENOTDIR/, /symbolic link/],
    [area.path('file'), /EINVAL|ENOTDIR/, /not a directory/],
  ]
  for (const form of forms) {
    for (const [path, code, hint] of table) {
      await t.rejects(form.open(path, mounter), { name: 'MountError', code, hint, path }, path)
    }
  }
  const ended = new AbortController()
  const opening = MountGroup.open(dir, { mounter, signal: ended.signal })
  ended.abort(new Error('ended'))
  // an abort comes before the attach, or too late
  const group = await opening.catch((error) => t.equal(error.message, 'ended'))
  if (group instanceof MountGroup) await group.unmount()
})

t.test('by a path with symbolic links, and a relative one', privileged, async (t) => {
  const area = scratch(t)
  area.mkdir('real', 'group')
  symlinkSync('real', area.path('link'))
  const [upper] = area.layers(1)
  for (const form of forms) {
    const mounter = new Mounter()
    const cwd = process.cwd()
    process.chdir(area.path('link'))
    const group = await form.open('./group/', mounter).finally(() => process.chdir(cwd))
    const rootfs = await mounter.mount({ lowerdir: [upper as string], target: group.target('a') })
    t.same(typesAt(area.path('real')), ['tmpfs', 'tmpfs'])
    await form.unmount(group)
    t.throws(() => rootfs.path, { code: 'ERR_INVALID_STATE' })
    await mounter.close()
  }
})

t.test('stacks of another mounter', privileged, async (t) => {
  const area = scratch(t)
  const [one, other] = [new Mounter(), new Mounter()]
  const group = await MountGroup.open(area.mkdir('group'), { mounter: one })
  const rootfs = await other.mount({ lowerdir: area.layers(2), target: group.target('a') })
  await group.unmount()
  t.throws(() => rootfs.path, { code: 'ERR_INVALID_STATE' })
  await Promise.all([one.close(), other.close()])
})

t.test('whoever traces unmounts sees that of the group', privileged, async (t) => {
  const area = scratch(t)
  const mounter = new Mounter()
  const traces: OperationTrace[] = []
  const channel = tracingChannel<unknown, OperationTrace>('overlayfd:unmount')
  const none = () => {}
  const all = { start: none, end: none, asyncStart: none, error: none }
  const subscriber = { ...all, asyncEnd: (trace: OperationTrace) => traces.push(trace) }
  channel.subscribe(subscriber)
  t.teardown(() => channel.unsubscribe(subscriber))
  const dir = area.mkdir('group')
  const group = await MountGroup.open(dir, { mounter })
  const rootfs = await mounter.mount({ lowerdir: area.layers(2), target: group.target('a') })
  await group.unmount()
  await rootfs.unmount()
  t.match(traces, [{ operation: 'unmount', target: dir }])
  t.equal(traces.length, 1)
  t.equal(traces[0]?.programs[0]?.steps.filter(({ call }) => call.startsWith('umount2(')).length, 1)
  await mounter.close()
})

t.test('a caller who has moved to another mount namespace', privileged, async (t) => {
  const area = scratch(t)
  const { status, stdout, stderr } = await runModule(`
    import { Mounter, MountGroup } from ${JSON.stringify(dist('index.js'))}
    import { CLONE_NEWNS, unshare } from ${JSON.stringify(dist('sys.js'))}
    const group = await MountGroup.open(${JSON.stringify(area.mkdir('group'))})
    unshare(CLONE_NEWNS)
    for (const act of [() => group.unmount(), async () => group.unmountSync(), async () => group.target('a')])
      await act().catch(({ code, message }) => console.log(code + ' ' + message))
    await Mounter.default.close()`)
  t.equal(status, 0, stderr)
  t.match(stdout, /^(ERR_INVALID_STATE .*the group was opened in another mount namespace.*\n){3}$/)
  t.same(typesAt(area.path('group')), ['tmpfs'], 'it outlives the process')
  sh('umount', '-n', area.path('group'))
})

t.test('handles that are dropped', privileged, async (t) => {
  const area = scratch(t)
  const text = `
    import { setTimeout as sleep } from 'node:timers/promises'
    import { Mounter, MountGroup } from ${JSON.stringify(dist('index.js'))}
    process.on('warning', ({ code }) => console.log(code))
    const lowerdir = ${JSON.stringify(area.layers(2))}
    const seen = await (async () => {
      const group = await MountGroup.open(${JSON.stringify(area.mkdir('group'))})
      return new WeakRef(await Mounter.default.mount({ lowerdir, target: group.target('a') }))
    })()
    for (let i = 0; i < 300 && seen.deref(); i++) {
      await sleep(5)
      globalThis.gc()
      await sleep(5)
    }
    console.log(seen.deref() === undefined ? 'collected' : 'kept')
    const group = await MountGroup.open(${JSON.stringify(area.mkdir('other'))})
    const unmounted = await (async () => {
      const rootfs = await Mounter.default.mount({ lowerdir, target: group.target('a') })
      await rootfs.unmount()
      return new WeakRef(rootfs)
    })()
    for (let i = 0; i < 300 && unmounted.deref(); i++) {
      await sleep(5)
      globalThis.gc()
      await sleep(5)
    }
    console.log(unmounted.deref() === undefined ? 'collected' : 'kept by its group')
    await group.unmount()
    await Mounter.default.close()`
  const args = ['--expose-gc', '--input-type=module', '--eval', text]
  const { status, stdout, stderr } = await run(process.execPath, args)
  t.equal(status, 0, stderr)
  t.equal(stdout, 'collected\ncollected\n', 'no warning, and nothing is unmounted')
  t.same(typesAt(area.path('group')), ['tmpfs', 'overlay'])
  sh('umount', '-n', '-l', area.path('group'))
})
