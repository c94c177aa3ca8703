import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import t from 'tap'
import { binding } from '../lib/binding.js'
import { MountError } from '../lib/errors.js'
import { placeComposers } from '../lib/host/topology/placement.js'
import { topology } from '../lib/host/topology.js'
import { MounterHost } from '../lib/mounter/host.js'
import { Mounter, type MounterOptions } from '../lib/mounter.js'
import { AT_FDCWD, STATX_MNT_ID_UNIQUE, statx } from '../lib/sys.js'
import { dist, run, runModule } from './support/child.js'
import { fds, settled, threads } from './support/counts.js'
import { mounts } from './support/mountinfo.js'
import { privileged } from './support/needs.js'
import { scratch } from './support/scratch.js'

const ids = (outside: number) => {
  const map = [{ inside: 0, outside, length: 65_536 }]
  return { uid: map, gid: map }
}
const named = (name: string) => [...threads()].filter(([, own]) => own === name).map(([tid]) => tid)
const counts = () => [named('ofd-compose').length, named('ofd-reap').length]
/** Composing and reaping threads; a new one has its name a moment after it was made. */
const started = (composing: number, reaping: number) =>
  settled(counts, ([one, other]) => one === composing && other === reaping)

t.test('options', async (t) => {
  const type = 'ERR_INVALID_ARG_TYPE'
  const range = 'ERR_OUT_OF_RANGE'
  const value = 'ERR_INVALID_ARG_VALUE'
  const whole = (name: string, from: number, to: number): [object, string, string][] => [
    [{ [name]: null }, type, `"options.${name}" argument must be of type number`],
    [{ [name]: '4' }, type, `"options.${name}"`],
    [
      { [name]: from - 1 },
      range,
      `"options.${name}" is out of range. It must be a whole number from ${from} to ${to}`,
    ],
    [{ [name]: to + 1 }, range, `"options.${name}"`],
    [{ [name]: 1.5 }, range, `"options.${name}"`],
    [{ [name]: Number.NaN }, range, `"options.${name}"`],
  ]
  const table: [unknown, string, string][] = [
    [null, type, '"options" argument must be an object'],
    ['direct', type, '"options"'],
    [{ thread: 1 }, value, 'no option "options.thread". Did you mean "threads"?'],
    [{ workers: 1 }, value, 'Known options: rung, threads, reapers, maxQueued, cpus, maxLayerFds'],
    [{ rung: 'stage' }, value, `"options.rung" argument must be one of 'auto', 'detached-tree', 'direct', 'staged', 'staged-classic', 'classic'`],
    [{ rung: 1 }, value, '"options.rung"'],
    [{ rung: null }, value, '"options.rung"'],
    ...whole('threads', 1, 256),
    ...whole('reapers', 1, 256),
    ...whole('maxLayerFds', 0, 1_000_000),
    ...whole('maxQueued', 1, 1_000_000),
    [{ cpus: 0 }, type, '"options.cpus" argument must be an array of CPU numbers'],
    [{ cpus: '0-3' }, type, '"options.cpus"'],
    [{ cpus: [0, '1'] }, type, '"options.cpus[1]" argument must be of type number'],
    [{ cpus: [-1] }, range, '"options.cpus[0]"'],
    [{ cpus: [0.5] }, range, '"options.cpus[0]"'],
    [{ cpus: [1024] }, range, 'a CPU that this process may use, of '],
    [{ cpus: [] }, value, '"options.cpus" argument must name at least one CPU'],
  ] // biome-ignore format: a table
  for (const [options, code, message] of table) {
    t.throws(() => new Mounter(options as MounterOptions), { code, message })
  }
  t.same(await started(0, 0), [0, 0], 'nothing is started by options')
  for (const options of [
    undefined,
    {},
    { rung: undefined, threads: undefined, cpus: undefined, reapers: undefined },
  ]) {
    t.equal(new Mounter(options).rung, 'auto')
  }
})

t.test('OVERLAYFD_RUNG, and what wins over it', async (t) => {
  t.teardown(() => {
    delete process.env['OVERLAYFD_RUNG']
  })
  const rung = (variable: string | undefined, options?: MounterOptions) => {
    if (variable === undefined) delete process.env['OVERLAYFD_RUNG']
    else process.env['OVERLAYFD_RUNG'] = variable
    return new Mounter(options).rung
  }
  t.equal(rung(undefined), 'auto')
  t.equal(rung(''), 'auto')
  t.equal(rung('classic'), 'classic')
  t.equal(rung('classic', { rung: 'direct' }), 'direct')
  t.equal(rung('classic', { rung: 'auto' }), 'auto')
  t.equal(rung('nonsense', { rung: 'direct' }), 'direct', 'it is not even read')
  t.throws(() => rung('nonsense'), { message: /^The "OVERLAYFD_RUNG" argument must be one of/ })
})

t.test('threads: their names, their number, their CPUs, their end', privileged, async (t) => {
  const dir = t.testdir({})
  const before = threads().size
  const cpu = availableParallelism() - 1
  const mounter = new Mounter({ threads: 3, reapers: 5, cpus: [cpu] })
  t.same(await started(0, 0), [0, 0], 'none before the first call')
  const stack = await mounter.open({ lowerdir: [dir] })
  t.same(await started(3, 5), [3, 5])
  const allowed = (tid: number) =>
    /^Cpus_allowed_list:\t(.*)$/m.exec(readFileSync(`/proc/self/task/${tid}/status`, 'utf8'))?.[1]
  t.same(named('ofd-compose').map(allowed), [cpu, cpu, cpu].map(String))
  t.same(new Set(named('ofd-reap').map(allowed)), new Set([allowed(process.pid)]))
  const other = new Mounter({ threads: 1, reapers: 1 })
  other.openSync({ lowerdir: [dir] }).close()
  await other.idle()
  t.same(await started(4, 6), [4, 6], 'each mounter has its own')
  await other.close()
  t.same(await started(3, 5), [3, 5])
  await mounter.close()
  t.equal(threads().size, before, 'close ends them')
  await stack.close()
  t.same(await started(3, 5), [3, 5], 'and what comes after starts them again')
  await mounter[Symbol.asyncDispose]()
  t.equal(threads().size, before)
  await mounter.close()
})

t.test('the default', privileged, async (t) => {
  const mounter = Mounter.default
  t.equal(Mounter.default, mounter)
  const stack = mounter.openSync({ lowerdir: [t.testdir({})] })
  const composing = placeComposers(topology()).threads
  const reaping = Math.min(16, Math.max(8, 4 * availableParallelism()))
  t.same(await started(composing, reaping), [composing, reaping])
  await stack.close()
  await mounter.close()
})

t.test('wrong calls', async (t) => {
  const mounter = new Mounter()
  const lowerdir = [t.testdir({})]
  const aborted = AbortSignal.abort(new Error('no'))
  await t.rejects(mounter.open({ lowerdir }, { signal: aborted }), { message: 'no' })
  await t.rejects(mounter.mount({ lowerdir }, { signal: aborted }), { message: 'no' })
  await t.rejects(mounter.open({ lowerdir: [] }, { signal: aborted }), { code: 'ERR_INVALID_ARG_VALUE' })
  t.throws(() => mounter.openSync({ lowerdir: 'x' as never }), { code: 'ERR_INVALID_ARG_TYPE' })
  t.throws(() => mounter.mountSync({ lowerdir, upperdir: 'x' }), { code: 'ERR_INVALID_ARG_VALUE' })
  t.same(await started(0, 0), [0, 0], 'nothing was started for them')
})

t.test('idle and trim', privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(3)
  const mounter = new Mounter({ rung: 'detached-tree' })
  t.teardown(() => mounter.close())
  const trees = () => [...fds().values()].filter((link) => link === '/' || link.startsWith('user:')).length
  await mounter.idle()
  const before = { fds: fds(), mounts: mounts().length, trees: trees() }

  const targets = Array.from({ length: 20 }, (_, i) => area.container(`one-${i}`))
  const mount = (at: object) => mounter.mount({ lowerdir, ...at, idmap: ids(100_000) })
  const rootfs = [await mount(targets[0]!)]
  rootfs.push(...(await Promise.all(targets.slice(1).map(mount))))
  await mounter.idle()
  t.equal(mounts().length, before.mounts + 20)
  t.equal(trees(), before.trees + 2, 'the tree and the namespace are kept for the next call')
  for (const one of rootfs) void one.unmount()
  await mounter.trim()
  t.equal(mounts().length, before.mounts, 'idle waits for what was begun')
  t.same(fds(), before.fds, 'and trim closes what was kept')

  const stack = await mounter.open({ lowerdir })
  await mounter.idle()
  const open = fds()
  const own = await Promise.all(
    targets.map((at, i) => stack.mount({ ...at, idmap: ids(100_000 + 65_536 * i) })),
  )
  await mounter.idle()
  t.same(fds(), open)
  await Promise.all(own.map((one) => one.unmount()))
  stack.mountSync({ ...targets[0], idmap: ids(100_000) }).unmountSync()
  const collected = await settled(
    () => fds().size,
    (size) => size === open.size,
    1000,
  )
  t.equal(collected, open.size, 'without idle, too, after a moment')
  await stack.close()
  await mounter.idle()
  t.same(fds(), before.fds)
})

t.test('a call that turns out to be missing', async (t) => {
  const host = new MounterHost({})
  const before = host.features
  const failure = (syscall: string, errno = 38) => new MountError({ errno, syscall, call: `${syscall}(…)` })
  t.equal(host.lacks(failure('open_tree_attr', 22)), false, 'another errno')
  t.equal(host.lacks(failure('statx')), false, 'no feature of ours')
  t.equal(host.features, before)
  t.equal(host.lacks(failure('open_tree_attr')), true)
  t.equal(host.lacks(failure('open_tree_attr')), false, 'that is known by now')
  t.match(host.features, {
    openTreeAttr: false,
    openTree: before.openTree,
    reasons: { openTreeAttr: 'ENOSYS at its first use: open_tree_attr(…)' },
  })
  for (const [call, feature] of [
    ['fsopen', 'fsContext'],
    ['move_mount', 'fsContext'],
    ['openat2', 'openat2'],
    ['mount_setattr', 'mountSetattr'],
  ] as const) {
    const other = new MounterHost({})
    t.equal(other.lacks(failure(call)), true)
    t.equal(other.features[feature], false, call)
  }
  t.equal(new MounterHost({}).features.openTreeAttr, before.openTreeAttr, 'others are not concerned')
})

t.test('a caller that moved to another mount namespace', privileged, async (t) => {
  const { stdout, stderr } = await runModule(
    `
    import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
    import { Mounter } from '${dist('index.js')}'
    import { unshare, CLONE_NEWNS } from '${dist('sys.js')}'
    const namespaces = () => readdirSync('/proc/self/task')
      .filter((tid) => readFileSync('/proc/self/task/' + tid + '/comm', 'utf8') === 'ofd-compose\\n')
      .map((tid) => readlinkSync('/proc/self/task/' + tid + '/ns/mnt'))
    const mounter = new Mounter({ threads: 1, reapers: 1 })
    const before = readlinkSync('/proc/self/ns/mnt')
    const open = () => mounter.openSync({ lowerdir: ['/'] }).close()
    await open()
    unshare(CLONE_NEWNS)
    const after = readlinkSync('/proc/thread-self/ns/mnt')
    await open()
    await open()
    const found = namespaces()
    await mounter.close()
    // a thread that was joined is in /proc a moment longer, and may go while it is looked at
    await new Promise((resolve) => setTimeout(resolve, 300))
    console.log(JSON.stringify([before, after, found, namespaces()]))
  `,
  )
  t.equal(stderr, '')
  const [before, after, found, left] = JSON.parse(stdout)
  t.not(before, after)
  t.same(found.sort(), [before, after].sort(), 'threads of its own in each, made once')
  t.same(left, [])
  t.equal(
    binding.mountNamespace(),
    Number(statx(AT_FDCWD, '/', 0, STATX_MNT_ID_UNIQUE).mntIdUnique),
    'told by its root',
  )
})

t.test('a mounter that is dropped ends its threads', privileged, async (t) => {
  const script = `
    import { readdirSync, readFileSync } from 'node:fs'
    import { setTimeout as sleep } from 'node:timers/promises'
    import { Mounter } from '${dist('index.js')}'
    const count = () => readdirSync('/proc/self/task').filter((tid) =>
      /^ofd-/.test(readFileSync('/proc/self/task/' + tid + '/comm', 'utf8'))).length
    const use = () => {
      const mounter = new Mounter({ threads: 2, reapers: 3 })
      const stack = mounter.openSync({ lowerdir: ['/'] })
      return stack.close()
    }
    await use()
    while (count() < 5) await sleep(1)
    const before = count()
    for (let i = 0; i < 50 && count() > 0; i++) { gc(); await sleep(10) }
    console.log(JSON.stringify([before, count()]))
  `
  const flags = ['--expose-gc', '--input-type=module', '--eval']
  const { status, stdout, stderr } = await run(process.execPath, [...flags, script])
  t.same({ status, stderr, found: JSON.parse(stdout || '[]') }, { status: 0, stderr: '', found: [5, 0] })
})
