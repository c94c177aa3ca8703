import t from 'tap'
import { parseIdmap } from '../../lib/idmap.js'
import { planLook } from '../../lib/overlay/look.js'
import { MappingCache } from '../../lib/overlay/mappings.js'
import { parseStack } from '../../lib/overlay/spec.js'
import { candidates, layerName, planTrees, type Seen } from '../../lib/overlay/trees.js'
import { renderPlan } from '../../lib/program/explain.js'
import { held, type Plan } from '../../lib/program/plan.js'
import { type Step, statxField } from '../../lib/program/step.js'
import { kernels } from './kernels.js'

const newest = kernels['6.18']
const ids = [{ inside: 0, outside: 100_000, length: 65_536 }]
const idmap = parseIdmap({ uid: ids, gid: ids }, 'idmap')
const lines = (plan: Plan) =>
  renderPlan(plan)
    .split('\n')
    .slice(1)
    .map((line) => line.trim().replace(/STATX_.*\b, statx/, '…'))

t.test('the first look at layers', async (t) => {
  const odd = Buffer.from([0x2f, 0xff])
  const spec = parseStack({ lowerdir: ['/l/1', odd, 7] })
  const { plan, directories } = planLook(spec, newest)
  t.same(lines(plan), [
    'openat(AT_FDCWD, "/l/1", O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_PATH, 0) = /l/1',
    'statx(/l/1, "", AT_EMPTY_PATH, …)',
    'openat(AT_FDCWD, "/\\377", O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_PATH, 0) = /\xff',
    'statx(/\xff, "", AT_EMPTY_PATH, …)',
    'openat(7<fd 7>, ".", O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_PATH, 0) = fd 7',
    'statx(fd 7, "", AT_EMPTY_PATH, …)',
  ])
  t.same(
    plan.outputs.map(({ name }) => name),
    [0, 1, 2].map((i) => layerName(spec, i)),
  )
  directories.forEach(({ report }, i) => {
    t.equal(plan.at(2 * i + 1), report)
    t.match(report, { report: true, subject: { option: 'lowerdir', index: i } })
  })
  const readable = planLook(spec, kernels['6.13']).plan
  t.match(lines(readable)[0], /O_RDONLY\|O_DIRECTORY\|O_CLOEXEC, 0/, 'where O_PATH is not enough')
})

t.test('the first look at a layer on its own: its mount’s flags too, unless it is idmapped', async (t) => {
  const look = planLook(parseStack({ lowerdir: ['/l'] }), newest)
  t.equal(lines(look.plan)[2], 'fstatfs(/l, statfs)')
  t.match(look.flags, { report: true, subject: { option: 'lowerdir', index: 0 } })
  for (const options of [{ lowerdir: ['/l'], idmap: { uid: ids, gid: ids } }, { lowerdir: ['/l', '/m'] }]) {
    t.equal(planLook(parseStack(options), newest).flags, undefined)
  }
})

const seenAt = (path: string | undefined, mountId = 1n): Seen => ({
  identity: { dev: 1n, ino: 2n, mountId },
  path: path === undefined ? undefined : Buffer.from(path),
  fd: held(40, path ?? 'fd'),
})

t.test('which layers may share a tree', async (t) => {
  const cases: [string, Seen[], [parent: string, mountId: bigint, members: number[]][]][] = [
    ['all below one', ['/l/1/fs', '/l/2/fs', '/l/3/fs'].map((path) => seenAt(path)), [['/l', 1n, [0, 1, 2]]]],
    ['two mounts', [seenAt('/l/1'), seenAt('/m/1', 2n), seenAt('/l/2'), seenAt('/m/2', 2n)], [['/l', 1n, [0, 2]], ['/m', 2n, [1, 3]]]],
    ['one alone on its mount', [seenAt('/l/1'), seenAt('/l/2', 2n), seenAt('/l/3')], [['/l', 1n, [0, 2]]]],
    ['a single layer', [seenAt('/l/1')], []],
    ['far apart', [seenAt('/a/1'), seenAt('/b/1')], [['/', 1n, [0, 1]]]],
    ['one below the other', [seenAt('/l/1'), seenAt('/l/1/2')], [['/l', 1n, [0, 1]]]],
    ['no path is known', [seenAt(undefined), seenAt('/l/1'), seenAt('/l/2')], [['/l', 1n, [1, 2]]]],
    ['a path with ..', [seenAt('/l/../x'), seenAt('/l/1'), seenAt('/l/2')], [['/l', 1n, [1, 2]]]],
    ['the root', [seenAt('/'), seenAt('/l/1'), seenAt('/l/2')], [['/l', 1n, [1, 2]]]],
    ['none', [], []],
  ] // biome-ignore format: a table
  for (const [name, seen, expected] of cases) {
    const found = candidates(seen).map(({ parent, mountId, members }) => [String(parent), mountId, members])
    t.same(found, expected, name)
  }
})

const spec = parseStack({ lowerdir: ['/l/1/fs', '/l/2/fs', '/x'], idmap: { uid: ids, gid: ids } })
const seen = ['/l/1/fs', '/l/2/fs', '/x'].map((path) => seenAt(path))
const group = { parent: Buffer.from('/l'), mountId: 1n, members: [0, 1] }
const input = { spec, features: newest, seen, candidates: [group], alone: [2], idmap, lease: undefined }
const clone = 'OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC|AT_EMPTY_PATH'
const attributes = (fd: string, more = '') =>
  `{attr_set=MOUNT_ATTR_RDONLY|MOUNT_ATTR_IDMAP${more}, attr_clr=0, propagation=0, userns_fd=${fd}}, 32`
/** no symbolic link is followed through it, for names are looked up there */
const nosymfollow = '|MOUNT_ATTR_NOSYMFOLLOW'
const below = (tree: string, name: string) => [
  `openat2(${tree}, "${name}", {flags=O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_PATH, ` +
    `resolve=RESOLVE_NO_XDEV|RESOLVE_NO_SYMLINKS|RESOLVE_BENEATH}, 24) = /l/${name}`,
  `statx(/l/${name}, "", AT_EMPTY_PATH, …)`,
]

t.test('trees, and the layers below them', async (t) => {
  const { plan, groups, layers, alone, userns, outputs } = planTrees(input)
  t.same(lines(plan), [
    'openat(AT_FDCWD, "/l", O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_PATH, 0) = above /l',
    'statx(above /l, "", AT_EMPTY_PATH, …)',
    'userns("0 100000 65536\\n", "0 100000 65536\\n") = userns',
    `open_tree_attr(above /l, "", ${clone}, ${attributes('userns', nosymfollow)}) = tree of /l`,
    ...below('tree of /l', '1/fs'),
    ...below('tree of /l', '2/fs'),
    `open_tree_attr(40</x>, "", ${clone}, ${attributes('userns')}) = tree of /x`,
  ])
  t.same(new Set(plan.outputs), new Set(outputs), 'everything that is opened is handed out')
  t.equal(outputs.length, plan.outputs.length)
  t.equal(plan.slots, outputs.length)
  t.match(plan.cost, { namespaceSemWrites: 2, gracePeriods: 0, temporaryMounts: 0 })
  t.equal(userns?.name, 'userns')
  t.match(groups, [{ parent: { name: 'above /l' }, tree: { name: 'tree of /l' }, report: { call: 'statx' } }])
  t.same([...layers.keys()], [0, 1])
  t.same([...alone.keys()], [2])
  // what is not below in the way its name says is no failure: it gets a tree of its own
  const codes: Partial<Record<Step['call'], number[]>> = { openat2: [2, 11, 18, 20, 40], statx: [9] }
  for (const { slot, report } of layers.values()) {
    const open = plan.steps.find(({ out }) => out === slot)!
    t.same(
      [...(open.tolerate ?? [])].sort((a, b) => a - b),
      codes.openat2,
    )
    t.same(report.tolerate, codes.statx)
    t.equal(report.report, true)
  }
})

t.test('what the mapping has already is used again, if it is the same directory', async (t) => {
  const lease = new MappingCache(() => {}).lease(idmap)
  lease.addUserns(50)
  const identity = { dev: 8n, ino: 9n, mountId: 10n }
  lease.addTree(Buffer.from('/l'), { fd: 51, identity })
  const { plan, groups, userns } = planTrees({ ...input, lease })
  t.same(lines(plan), [
    'openat(AT_FDCWD, "/l", O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_PATH, 0) = above /l',
    'statx(above /l, "", AT_EMPTY_PATH, …)  expect stx_ino=9 stx_dev=8 stx_mnt_id=10',
    ...below('51<tree of /l>', '1/fs'),
    ...below('51<tree of /l>', '2/fs'),
    `open_tree_attr(40</x>, "", ${clone}, ${attributes('50<userns>')}) = tree of /x`,
  ])
  t.equal(userns, undefined)
  t.equal(groups[0]?.tree, undefined)
  t.equal(groups[0]?.report.expect?.[2]?.field, statxField.mountId)
})

t.test('without an idmap: no tree, layers below the directory itself', async (t) => {
  const { plan, alone, userns } = planTrees({ ...input, idmap: undefined })
  t.same(lines(plan), [
    'openat(AT_FDCWD, "/l", O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_PATH, 0) = above /l',
    'statx(above /l, "", AT_EMPTY_PATH, …)',
    ...below('above /l', '1/fs'),
    ...below('above /l', '2/fs'),
  ])
  t.same([...alone], [])
  t.equal(userns, undefined)
  t.match(plan.cost, { namespaceSemWrites: 0, gracePeriods: 0 })
})

t.test('no names are looked up where layers are not taken one by one', async (t) => {
  const { plan } = planTrees({ ...input, features: { ...newest, appendLayers: false } })
  t.notMatch(lines(plan).join(), 'NOSYMFOLLOW')
})

t.test('an existing namespace is opened once, whatever needs it', async (t) => {
  const given = (userns: string | number) =>
    lines(planTrees({ ...input, idmap: parseIdmap({ userns }, 'idmap') }).plan).filter((line) =>
      line.endsWith(' = userns'),
    )
  t.same(given('/proc/7/ns/user'), [
    'openat(AT_FDCWD, "/proc/7/ns/user", O_RDONLY|O_NOCTTY|O_NONBLOCK|O_CLOEXEC, 0) = userns',
  ])
  t.same(
    given(9),
    ['openat(AT_FDCWD, "/proc/self/fd/9", O_RDONLY|O_NOCTTY|O_NONBLOCK|O_CLOEXEC, 0) = userns'],
    'an fd of our own',
  )
})
