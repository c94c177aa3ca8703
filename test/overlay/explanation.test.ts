import t from 'tap'
import type { Features } from '../../lib/host/features.js'
import { explain, type OverlayMountOptions, RungError } from '../../lib/index.js'
import type { Cost } from '../../lib/program/cost.js'
import { dist, runModule } from '../support/child.js'
import { dropSource } from '../support/plain-user.js'
import { captured } from '../sys/owned.js'
import { kernels, lacking } from './kernels.js'

const ids = [{ inside: 0, outside: 100_000, length: 65_536 }]
const idmap = { uid: ids, gid: ids }
const layers = (count: number) => Array.from({ length: count }, (_, i) => `/l/${i}/fs`)
const lowerdir = layers(3)
const writable = { upperdir: '/c/upper', workdir: '/c/work' }
const target = '/c/rootfs'
type Kernel = keyof typeof kernels
const on = (kernel: Kernel, options: Partial<OverlayMountOptions>, rung?: 'classic' | 'direct') =>
  explain({ lowerdir, ...options }, { features: kernels[kernel], rung })

t.test('rung, plans, cost', async (t) => {
  const table: [string, () => ReturnType<typeof explain>, string, string[], Partial<Cost>][] = [
    ['idmapped', () => on('6.18', { ...writable, target, idmap }), 'detached-tree',
      ['open layers', 'idmap layers', 'detached-tree', 'discard'], { namespaceSemWrites: 3, gracePeriods: 1 }],
    ['idmapped, a layer of its own', () => on('6.18', { ...writable, target, idmap, lowerdir: [...lowerdir, 7] }), 'detached-tree',
      ['open layers', 'idmap layers', 'detached-tree', 'discard'], { namespaceSemWrites: 6, gracePeriods: 1 }],
    ['idmapped upper', () => on('6.18', { ...writable, target, idmap, upper: 'idmapped' }), 'detached-tree',
      ['open layers', 'idmap layers', 'detached-tree', 'discard'], { namespaceSemWrites: 6, gracePeriods: 1, calls: { clone: 1 } }],
    ['an image', () => on('6.18', { target, lowerdir: [{ image: '/i' }, '/l'] }), 'direct',
      ['open layers', 'mount images', 'direct', 'discard'], { namespaceSemWrites: 2, gracePeriods: 1 }],
    ['an image, idmapped', () => on('6.18', { target, idmap, lowerdir: [{ image: '/i' }, '/l'] }), 'detached-tree',
      ['open layers', 'mount images', 'idmap layers', 'detached-tree', 'discard'], { namespaceSemWrites: 8, gracePeriods: 1 }],
    ['plain', () => on('6.18', { ...writable, target }), 'direct',
      ['open layers', 'direct', 'discard'], { namespaceSemWrites: 1, gracePeriods: 0 }],
    ['plain, 6.13', () => on('6.13', { ...writable, target }), 'direct',
      ['open layers', 'direct', 'discard'], { namespaceSemWrites: 1, gracePeriods: 0 }],
    ['plain, 6.7', () => on('6.7', { ...writable, target }), 'direct',
      ['open layers', 'direct', 'discard'], { namespaceSemWrites: 1, gracePeriods: 0 }],
    ['plain, 6.1', () => on('6.1', { ...writable, target }), 'classic',
      ['open layers', 'classic', 'discard'], { namespaceSemWrites: 1, gracePeriods: 0 }],
    ['forced', () => on('6.18', { ...writable, target }, 'classic'), 'classic',
      ['open layers', 'classic', 'discard'], { namespaceSemWrites: 1, gracePeriods: 0 }],
    ['detached', () => on('6.18', writable), 'direct',
      ['open layers', 'direct', 'discard'], { namespaceSemWrites: 0, gracePeriods: 0 }],
    ['idmapped, 6.13', () => on('6.13', { ...writable, target, idmap }), 'staged',
      ['open layers', 'idmap layers', 'staged', 'unstage', 'discard'], { namespaceSemWrites: 8, gracePeriods: 2 }],
    ['idmapped, 6.1', () => on('6.1', { ...writable, target, idmap }), 'staged-classic',
      ['open layers', 'idmap layers', 'staged-classic', 'unstage', 'discard'], { namespaceSemWrites: 11, gracePeriods: 2 }],
    ['detached, 6.1', () => on('6.1', { lowerdir }), 'staged-classic',
      ['open layers', 'idmap layers', 'staged-classic', 'unstage', 'discard'], { namespaceSemWrites: 7, gracePeriods: 2 }],
    ['a clone', () => on('6.18', { lowerdir: ['/l'], target }), 'direct',
      ['open layers', 'direct', 'discard'], { namespaceSemWrites: 3, gracePeriods: 0 }],
  ] // biome-ignore format: a table
  for (const [name, make, rung, titles, cost] of table) {
    const found = make()
    t.equal(found.rung, rung, name)
    t.same(
      found.plans.map(({ title }) => title),
      titles,
      name,
    )
    t.match(found.cost, { ...cost, temporaryMounts: 0 }, name)
    const calls = Object.values(found.cost.calls).reduce<number>((sum, count) => sum + (count ?? 0), 0)
    t.equal(found.cost.syscalls, calls, name)
    t.same(
      found.steps,
      found.plans.flatMap(({ steps }) => steps),
    )
    // everything that was opened is closed: by a step, or handed on to the last plan
    const opened = found.steps.filter(({ when, out }) => out && when !== 'undo').length
    const closed = found.steps.filter(({ when, call }) => call === 'close' && when !== 'undo').length
    t.equal(opened - closed, name.startsWith('detached') ? 1 : 0, `${name}: fds`)
  }
})

t.test('one idmapped layer is cloned from its tree, which is idmapped', async (t) => {
  const text = String(on('6.18', { lowerdir: ['/l'], idmap, target }))
  t.match(text, /open_tree_attr\(\/l, .*MOUNT_ATTR_IDMAP.* = tree of \/l\n/)
  t.match(text, /open_tree_attr\(tree of \/l, .* = mount\n/)
  const image = String(on('6.18', { lowerdir: [{ image: '/i' }], idmap, target }))
  t.match(image, /open_tree_attr\(image \/i, .* = tree of \/i\n/)
})

t.test('an upper that would be made has the mode that a layer mostly has', async (t) => {
  const text = String(on('6.18', { ...writable, target, create: true }))
  t.match(text, 'fchmodat(AT_FDCWD, "/proc/self/fd/{upper}", 0755)')
  t.match(text, 'fchownat(upper, "", 0, 0, AT_EMPTY_PATH)')
})

t.test('how layers are given', async (t) => {
  const fsconfig = (kernel: Kernel, options: Partial<OverlayMountOptions>) =>
    String(on(kernel, { ...writable, target, ...options }))
      .split('\n')
      .filter((line) => /"(lowerdir|datadir)/.test(line))
      .map((line) => line.trim())
  t.same(fsconfig('6.18', { lowerdir: ['/a', '/b'], datadir: ['/d'] }), [
    'fsconfig(fs, FSCONFIG_SET_FD, "lowerdir+", NULL, /a)',
    'fsconfig(fs, FSCONFIG_SET_FD, "lowerdir+", NULL, /b)',
    'fsconfig(fs, FSCONFIG_SET_FD, "datadir+", NULL, /d)',
  ])
  t.same(fsconfig('6.7', { lowerdir: ['/a', 7] }), [
    'fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir+", "/proc/self/fd/{/a}", 0)',
    'fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir+", "/proc/self/fd/{fd 7}", 0)',
  ])
  t.same(fsconfig('6.1', { lowerdir: ['/a', '/b'], options: { index: 'off' } }), [
    'mount("overlayfd:PIDNS/PID@START", "{target}", "overlay", 0, "lowerdir={/a}:{/b},upperdir={upper},workdir={work},index=off")',
  ])
})

t.test('notes: what a rung does not promise, each once', async (t) => {
  const passed = /^rung direct was passed over: appendLayers is missing \(EOPNOTSUPP/
  const cases: [string, ReturnType<typeof explain>, (RegExp | string)[]][] = [
    ['nothing to say', on('6.18', { ...writable, target }), []],
    ['passed over', on('6.1', { ...writable, target }), [passed]],
    ['a clone', on('6.18', { lowerdir: ['/l'], target, propagation: 'slave' }), [/read-only clone/, /^propagation is set after/]],
    ['a clone by mount(2)', on('6.18', { lowerdir: ['/l'], target }, 'classic'), [/read-only clone/, /writable for a moment/, /copy of the clone stays/]],
  ] // biome-ignore format: a table
  for (const [name, { notes, plans }, expected] of cases) {
    t.match(notes, expected, name)
    t.equal(notes.length, expected.length)
    t.equal(new Set(notes).size, notes.length)
    t.ok(notes.every((note) => plans.some((plan) => plan.notes.includes(note))))
  }
  const staged = on('6.13', { target, idmap })
  t.match(staged.notes[0], /^the staging namespace is made at its first use, which is not counted$/)
  t.notOk(
    staged.plans.some((plan) => plan.notes.includes(staged.notes[0]!)),
    'of all of them',
  )
})

t.test('as text and as JSON', async (t) => {
  const found = on('6.18', { ...writable, target, idmap })
  t.equal(String(found), found.plans.map(String).join('\n'))
  const json = JSON.parse(JSON.stringify(found))
  t.match(json, { rung: 'detached-tree', notes: [], cost: { namespaceSemWrites: 3 } })
  t.same(
    json.plans.map(({ title }: { title: string }) => title),
    ['open layers', 'idmap layers', 'detached-tree', 'discard'],
  )
})

t.test('what cannot be', async (t) => {
  const no = (options: Partial<OverlayMountOptions>, features: Features, rung?: 'direct') =>
    captured(() => explain({ lowerdir, ...options }, { features, rung }))
  t.type(no({ target, idmap }, kernels['4.19']), RungError)
  t.match(no({ target, idmap }, kernels['6.18'], 'direct'), { obstacles: { direct: 'it does not idmap' } })
  t.type(no({}, kernels['4.19']), RungError)
  t.match(no({ target: 7 as unknown as string }, kernels['6.18']), { code: 'ERR_INVALID_ARG_TYPE' })
  t.throws(() => explain({ lowerdir, target }, { rung: 'best' as 'auto' }), {
    code: 'ERR_INVALID_ARG_VALUE',
    message: '"how.rung"',
  })
})

t.test('the right to mount is a note, not an obstacle', async (t) => {
  const reason = 'EPERM: no CAP_SYS_ADMIN'
  const features = lacking(kernels['6.18'], { mayMount: reason })
  const found = explain({ lowerdir, target, idmap }, { features })
  t.equal(found.rung, 'detached-tree')
  t.same(found.notes, [`this process may not mount: ${reason}`])
  t.match(String(found), `note: this process may not mount: ${reason}\nopen layers: `)
  const unreasoned = explain({ lowerdir, target }, { features: { ...kernels['6.18'], mayMount: false } })
  t.same(unreasoned.notes, ['this process may not mount'])
})

t.test('a plain user, with OVERLAYFD_RUNG', async (t) => {
  const options = JSON.stringify({ lowerdir, ...writable, target })
  const script = `
    ${dropSource}
    import { explain } from '${dist('index.js')}'
    drop()
    const first = explain(${options})
    process.env.OVERLAYFD_RUNG = 'classic'
    const options = { ...${options}, idmap: ${JSON.stringify(idmap)} }
    let refused
    try { explain(options) } catch (error) { refused = error.obstacles }
    console.log(JSON.stringify({
      uid: process.getuid(),
      first: String(first).split('\\n'),
      rungs: [first.rung, explain(${options}).rung, explain(options, { rung: 'auto' }).rung],
      refused,
    }))
  `
  const { stdout, stderr } = await runModule(script, [], { env: { OVERLAYFD_RUNG: '' } })
  t.equal(stderr, '')
  const { uid, first, rungs, refused } = JSON.parse(stdout)
  t.not(uid, 0)
  t.match(first[0], /^note: this process may not mount: EPERM/)
  t.match(first, [/./, /^open layers: 6 system calls/, /^ {2}openat\(AT_FDCWD, "\/l\/0\/fs"/])
  t.ok(first.includes('  move_mount(mount, "", AT_FDCWD, "/c/rootfs", MOVE_MOUNT_F_EMPTY_PATH)'))
  t.same(rungs, ['direct', 'classic', 'detached-tree'])
  t.same(refused, { classic: 'mount(2) does not idmap' })
})

t.test('wrong arguments of explain', async (t) => {
  const type = 'ERR_INVALID_ARG_TYPE'
  const value = 'ERR_INVALID_ARG_VALUE'
  const table: [unknown, string, string][] = [
    [null, type, 'The "how" argument must be an object. Received null'],
    ['classic', type, 'The "how" argument must be an object'],
    [[], type, 'The "how" argument must be an object'],
    [{ rungs: 'classic' }, value, 'no option "how.rungs". Did you mean "rung"?'],
    [{ rung: null }, value, 'The "how.rung" argument must be one of'],
    [{ features: null }, type, 'The "how.features" argument must be an object. Received null'],
    [{ features: {} }, type, 'The "how.features.fsContext" argument must be of type boolean'],
  ]
  for (const [how, code, message] of table) {
    t.throws(() => explain({ lowerdir, target }, how as object), { name: 'TypeError', code, message })
  }
})
