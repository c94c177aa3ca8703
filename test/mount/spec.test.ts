/** Wrong arguments, each refused by name before anything is done; what is planned for which kernel, without one. */
import t from 'tap'
import {
  explainBind,
  explainTmpfs,
  Mounter,
  mountBind,
  mountBindSync,
  mountTmpfs,
  RungError,
} from '../../lib/index.js'
import { kernels, lacking } from '../overlay/kernels.js'

const source = '/volumes/1'
const target = '/mnt/x'
const text = (lines: string) =>
  lines
    .trim()
    .split('\n')
    .map((line) => line.trim())
const callsOf = (explanation: { steps: readonly { call: string }[] }) =>
  explanation.steps.map(({ call }) => call)
const features = kernels['6.18']

const TYPE = 'ERR_INVALID_ARG_TYPE'
const VALUE = 'ERR_INVALID_ARG_VALUE'
const RANGE = 'ERR_OUT_OF_RANGE'

const wrongBinds: [options: unknown, code: string, message: RegExp][] = [
  [undefined, TYPE, /"options" argument must be an object/],
  [{}, TYPE, /"options.source" argument must be a path/],
  [{ source: {} }, TYPE, /"options.source.mount" argument must be a Mount/],
  [{ source: { mount: {}, path: '/' } }, TYPE, /"options.source.mount"/],
  [{ source: { mont: 1 } }, VALUE, /no option "options.source.mont". Did you mean "mount"/],
  [{ source: [] }, TYPE, /"options.source"/],
  [{ source: '' }, VALUE, /"options.source" argument must not be empty/],
  [{ source: '/a\0b' }, VALUE, /"options.source" argument must not hold a NUL/],
  [{ source: -1 }, RANGE, /"options.source"/],
  [{ source: 1.5 }, RANGE, /"options.source"/],
  [{ source, target: 5 }, TYPE, /"options.target" argument must be .*\{ mount, path \}/],
  [{ source, target: '/' }, VALUE, /"options.target" argument must be a path below/],
  [{ source, target: '/a/..' }, VALUE, /"options.target"/],
  [{ source, recursive: 1 }, TYPE, /"options.recursive" argument must be of type boolean/],
  [{ source, idmap: 1 }, TYPE, /"options.idmap"/],
  [{ source, attributes: [] }, TYPE, /"options.attributes" argument must be an object/],
  [{ source, attributes: { readonly: 'yes' } }, TYPE, /"options.attributes.readonly"/],
  [{ source, attributes: { read_only: true } }, VALUE, /Did you mean "readonly"/],
  [{ source, attributes: { atime: 'never' } }, VALUE, /"options.attributes.atime"/],
  [{ source, attributes: { recursive: 1 } }, TYPE, /"options.attributes.recursive"/],
  [
    { source, attributes: { recursive: true } },
    VALUE,
    /"options.attributes.recursive" argument needs a recursive/,
  ],
  [{ source, target, propagation: 'both' }, VALUE, /"options.propagation"/],
  [{ source, target, propagation: 1 }, TYPE, /"options.propagation"/],
  [{ source, target, create: 'yes' }, TYPE, /"options.create"/],
  [{ source, create: true }, VALUE, /"options.create" argument needs a target/],
  [{ source, beneath: true }, VALUE, /"options.beneath" argument needs a target/],
  [{ source, target, beneath: 1 }, TYPE, /"options.beneath"/],
  [{ source, tagret: '/x' }, VALUE, /Did you mean "target"/],
]

const wrongTmpfs: [options: unknown, code: string, message: RegExp][] = [
  [null, TYPE, /"options" argument/],
  [{ source }, VALUE, /no option "options.source"/],
  [{ options: 1 }, TYPE, /"options.options" argument must be an object/],
  [{ options: { sise: 1 } }, VALUE, /Did you mean "size"/],
  [{ options: { size: -1 } }, RANGE, /"options.options.size"/],
  [{ options: { size: '1 m' } }, VALUE, /"options.options.size"/],
  [{ options: { size: true } }, TYPE, /"options.options.size"/],
  [{ options: { size: 1, nr_blocks: 1 } }, VALUE, /"options.options.nr_blocks" argument excludes size/],
  [{ options: { nr_inodes: '50%' } }, VALUE, /"options.options.nr_inodes"/],
  [{ options: { mode: 0o10000 } }, RANGE, /"options.options.mode"/],
  [{ options: { mode: '755' } }, TYPE, /"options.options.mode"/],
  [{ options: { uid: 2 ** 32 - 1 } }, RANGE, /"options.options.uid"/],
  [{ options: { huge: 'maybe' } }, VALUE, /"options.options.huge"/],
  [{ options: { huge: 1 } }, TYPE, /"options.options.huge"/],
  [{ options: { mpol: 'bind:0,size=1' } }, VALUE, /"options.options.mpol"/],
  [{ options: { noswap: 1 } }, TYPE, /"options.options.noswap"/],
  [{ attributes: { idmap: true } }, VALUE, /no option "options.attributes.idmap"/],
  [{ propagation: 'shared' }, VALUE, /"options.propagation" argument needs a target/],
]

t.test('wrong options', async (t) => {
  for (const [options, code, message] of wrongBinds) {
    t.throws(() => explainBind(options as never, { features }), { code, message }, message.source)
    await t.rejects(mountBind(options as never), { code, message })
    t.throws(() => mountBindSync(options as never), { code, message })
  }
  for (const [options, code, message] of wrongTmpfs) {
    t.throws(() => explainTmpfs(options as never, { features }), { code, message }, message.source)
    if (options !== undefined) await t.rejects(mountTmpfs(options as never), { code, message })
  }
  await t.rejects(mountBind({ source }, { signal: 1 } as never), { code: TYPE })
  await t.rejects(mountBind({ source }, { monter: 1 } as never), { code: VALUE })
  t.throws(() => explainBind({ source }, { kernel: 1 } as never), { code: VALUE })
})

t.test('what is planned, in strace’s notation', async (t) => {
  const idmap = { userns: '/proc/1/ns/user' }
  const options = { source, target, recursive: true, idmap, attributes: { readonly: true } }
  t.same(
    text(String(explainBind(options, { features }))),
    text(`direct: 5 system calls, 3 namespace_sem writes, 0 grace periods, 0 temporary mounts
      openat(AT_FDCWD, "/proc/1/ns/user", O_RDONLY|O_NOCTTY|O_NONBLOCK|O_CLOEXEC, 0) = userns
      open_tree_attr(AT_FDCWD, "/volumes/1", OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC|AT_RECURSIVE, {attr_set=MOUNT_ATTR_RDONLY|MOUNT_ATTR_IDMAP, attr_clr=0, propagation=MS_PRIVATE, userns_fd=userns}, 32) = mount
      statx(mount, "", AT_EMPTY_PATH, STATX_TYPE|STATX_MODE|STATX_NLINK|STATX_UID|STATX_GID|STATX_INO|STATX_MNT_ID_UNIQUE, statx)
      move_mount(mount, "", AT_FDCWD, "/mnt/x", MOVE_MOUNT_F_EMPTY_PATH)
      close(mount)
      discard: 1 system calls, 0 namespace_sem writes, 0 grace periods, 0 temporary mounts
      close(fd 0)`),
  )
  t.same(
    text(
      String(explainTmpfs({ target, options: { size: '1m' }, attributes: { nosuid: true } }, { features })),
    ),
    text(`direct: 8 system calls, 1 namespace_sem writes, 0 grace periods, 0 temporary mounts
      fsopen("tmpfs", FSOPEN_CLOEXEC) = fs
      fsconfig(fs, FSCONFIG_SET_STRING, "size", "1m", 0)
      fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0)
      fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID) = mount
      statx(mount, "", AT_EMPTY_PATH, STATX_TYPE|STATX_MODE|STATX_NLINK|STATX_UID|STATX_GID|STATX_INO|STATX_MNT_ID_UNIQUE, statx)
      move_mount(mount, "", AT_FDCWD, "/mnt/x", MOVE_MOUNT_F_EMPTY_PATH)
      close(mount)
      close(fs)`),
  )
})

t.test('who may not mount is told so, and what would be done', async (t) => {
  const reason = 'EPERM: no CAP_SYS_ADMIN'
  const may = explainBind({ source, target }, { features })
  const found = lacking(features, { mayMount: reason })
  for (const plan of [
    explainBind({ source, target }, { features: found }),
    explainTmpfs({ target }, { features: found }),
  ]) {
    t.equal(plan.rung, may.rung)
    t.same(plan.notes, [`this process may not mount: ${reason}`])
  }
  t.same(may.notes, [])
})

t.test('a source that nobody has looked at', async (t) => {
  const lines = (from: typeof source | number) =>
    String(explainBind({ source: from, target, attributes: { nosuid: true } }, { features, rung: 'classic' }))
  t.match(lines(source), 'mount("/proc/self/fd/{source}", ')
  t.match(lines(7), 'mount("/proc/self/fd/7", ')
  // the mount that it is taken to be on is relatime, and a remount that leaves that out would change it
  t.match(lines(7), 'NULL, MS_NOSUID|MS_REMOUNT|MS_BIND|MS_RELATIME, NULL)')
})

t.test('attributes before the attach, on every kernel that has them', async (t) => {
  const attributes = { readonly: true, recursive: false }
  for (const of of ['6.18', '6.13', '6.1'] as const) {
    const plan = explainBind({ source, target, recursive: true, attributes }, { features: kernels[of] })
    const calls = callsOf(plan)
    t.ok(calls.lastIndexOf('mount_setattr') < calls.indexOf('move_mount'), of)
    t.equal(plan.rung, 'direct')
    t.equal(calls.includes('open_tree_attr'), of === '6.18')
  }
})

t.test('by mount(2), and what it cannot do', async (t) => {
  const old = { features: kernels['4.19'] }
  const plan = explainBind({ source, target, attributes: { readonly: true } }, old)
  t.equal(plan.rung, 'classic')
  t.match(plan.notes.join('\n'), /rung direct was passed over: .*openTree is missing/)
  t.match(plan.notes.join('\n'), /for a moment/)
  t.equal(callsOf(plan).filter((call) => call === 'mount').length, 3)
  t.equal(explainTmpfs({ target }, old).rung, 'classic')
  const impossible: [options: object, reason: RegExp][] = [
    [{ idmap: { userns: 3 }, target }, /mount\(2\) does not idmap/],
    [{}, /needs a target/],
    [{ target, beneath: true }, /beneath/],
    [{ target, recursive: true, attributes: { readonly: true } }, /takes mount_setattr/],
  ]
  for (const [options, message] of impossible) {
    t.throws(
      () => explainBind({ source, ...options }, { features, rung: 'classic' }),
      { message },
      message.source,
    )
    t.throws(() => explainBind({ source, ...options }, old), RungError)
    await t.rejects(new Mounter({ rung: 'classic' }).mountBind({ source, ...options }), { name: 'RungError' })
  }
  const none = lacking(features, { mountSetattr: 'ENOSYS' })
  t.throws(() => explainBind({ source, target }, { features: none, rung: 'direct' }), {
    message: /mountSetattr/,
  })
})
