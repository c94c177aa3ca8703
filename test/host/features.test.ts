import * as fs from 'node:fs'
import { release } from 'node:os'
import { inspect } from 'node:util'
import t, { type Test } from 'tap'
import type { SysBinding } from '../../lib/binding.js'
import * as f from '../../lib/flags.js'
import { checkFeatures, type Features, features, withChanges } from '../../lib/host/features.js'
import { probedOptions } from '../../lib/host/overlay-options.js'
import { dist, runModule } from '../support/child.js'
import { fds, mountCount } from '../support/counts.js'
import { privileged } from '../support/needs.js'
import { dropSource } from '../support/plain-user.js'
import { withProbing } from '../support/probing.js'

/** Since when a kernel has what is probed. Distributions may have it earlier, none has it later. */
const since: Partial<Record<keyof Features, number>> = {
  openat2: 5.06,
  overlayOptions: 6.05,
  fsContext: 5.02,
  openTree: 5.02,
  mountSetattr: 5.12,
  appendLayers: 6.07,
  uniqueMountId: 6.08,
  layersByFd: 6.13,
  openTreeAttr: 6.15,
  detachedLayers: 6.15,
}
const [major = 0, minor = 0] = release().split('.').map(Number)
const version = major + minor / 100

t.test('this kernel, as root', privileged, async (t) => {
  const before = fds()
  const mounts = mountCount()
  const found = features({ refresh: true })
  for (const [name, first] of Object.entries(since)) {
    const value = found[name as keyof Features]
    if (version >= first) t.ok(value, `${name}: since ${first}, this is ${version}`)
    if (value === false) t.match(found.reasons[name], /./, `${name} is missing for a reason`)
  }
  t.match(found, { overlay: true, mayMount: true })
  if (version >= 6.15) t.match(found, { layersByFd: 'path', reasons: {} })
  t.same(fds(), before, 'nothing is left open')
  t.equal(mountCount(), mounts)
  t.equal(features(), found, 'probed once')
  t.equal(features({}), found)
  t.not(features({ refresh: true }), found)
})

t.test('printed, it shows what is tried when it is read', async (t) => {
  const found = features()
  for (const each of [found, withChanges(found, { openTree: false })]) {
    t.match(inspect(each), /\berofsImages: (true|false)\b/)
    t.notMatch(inspect(each), /Getter|Symbol/)
  }
  t.same(Object.keys(JSON.parse(JSON.stringify(found))).sort(), Object.keys(found).sort())
})

t.test('wrong arguments', async (t) => {
  const type = 'ERR_INVALID_ARG_TYPE'
  const value = 'ERR_INVALID_ARG_VALUE'
  const table: [unknown, string, string][] = [
    [null, type, 'The "options" argument must be an object. Received null'],
    ['refresh', type, 'The "options" argument must be an object'],
    [[], type, 'The "options" argument must be an object'],
    [{ refesh: true }, value, 'no option "options.refesh". Did you mean "refresh"?'],
    [{ refresh: 1 }, type, 'The "options.refresh" argument must be of type boolean'],
    [{ refresh: null }, type, '"options.refresh"'],
  ]
  for (const [options, code, message] of table) {
    t.throws(() => features(options as { refresh?: boolean }), { name: 'TypeError', code, message })
  }
  t.ok(features({ refresh: undefined }))
})

t.test('features of elsewhere', async (t) => {
  const check = (found: unknown) => checkFeatures(found, 'how.features')
  t.same(check(all), all)
  t.same(check(features()), features())
  const type = 'ERR_INVALID_ARG_TYPE'
  const { openat2, ...without } = all
  t.ok(openat2)
  const table: [unknown, string, string][] = [
    [null, type, 'The "how.features" argument must be an object. Received null'],
    [[], type, 'The "how.features" argument must be an object'],
    [{}, type, 'The "how.features.fsContext" argument must be of type boolean. Received undefined'],
    [without, type, '"how.features.openat2"'],
    [{ ...all, mayMount: 'yes' }, type, '"how.features.mayMount" argument must be of type boolean'],
    [{ ...all, layersByFd: true }, type, `"how.features.layersByFd" argument must be one of 'path', 'directory', false`],
    [{ ...all, overlayOptions: true }, type, '"how.features.overlayOptions" argument must be an array of strings or false'],
    [{ ...all, overlayOptions: [1] }, type, '"how.features.overlayOptions[0]"'],
    [{ ...all, reasons: undefined }, type, '"how.features.reasons" argument must be an object'],
    [{ ...all, openTre: true }, 'ERR_INVALID_ARG_VALUE', 'no option "how.features.openTre". Did you mean'],
  ] // biome-ignore format: a table
  for (const [found, code, message] of table) {
    t.throws(() => check(found), { name: 'TypeError', code, message })
  }
})

t.test('a plain user; rights that are given up', async (t) => {
  const { stdout, stderr } = await runModule(`
    ${dropSource}
    import { features } from '${dist('host/features.js')}'
    const before = features()
    drop()
    console.log(JSON.stringify([before, features(), features({ refresh: true })]))
  `)
  t.equal(stderr, '')
  const [before, cached, after] = JSON.parse(stdout) as [Features, Features, Features]
  t.same(cached, before, 'what was found is kept')
  t.equal(after.mayMount, false)
  t.match(after.reasons['mayMount'], /^EPERM: no CAP_SYS_ADMIN/)
  if (version >= 6.15) {
    t.match(after, { appendLayers: true, layersByFd: 'path', fsContext: true, openTreeAttr: true })
    t.match(after.reasons['layersByFd'], /^inferred/)
  }
})

/** features.ts over such an addon: what is mocked is so for the module that is imported, not for those below it. */
const mocked = async (t: Test, mocks: Record<string, unknown>) => {
  const own = await withProbing(t, mocks)
  const names = ['detached-layers', 'overlay-context', 'user-namespace']
  const below = names.map((name) => `../../lib/host/${name}.js`)
  const modules = await Promise.all(
    below.map(async (file) => [file, await t.mockImport<object>(file, own)] as const),
  )
  return t.mockImport<typeof import('../../lib/host/features.js')>('../../lib/host/features.js', {
    ...own,
    ...Object.fromEntries(modules),
  })
}

const [EPERM, ENOENT, EBADF, ENOMEM, ENODEV, EINVAL, ENFILE, EMFILE, ENOSYS, EOPNOTSUPP] = [
  -1, -2, -9, -12, -19, -22, -23, -24, -38, -95,
]
type Special =
  | 'setFd path'
  | 'setFd directory'
  | 'setString'
  | 'unknown option'
  | 'create'
  | 'a mount'
  | 'user namespace'
  | 'CapEff'
type Answers = Partial<Record<keyof SysBinding | Special, number>>

/** An addon that answers as some kernel would, and says what of it was left open. */
const kernelOf = (answers: Answers) => {
  const open = new Set<number>()
  const answer = (name: keyof Answers, otherwise: number) => () => answers[name] ?? otherwise
  const opening = (name: 'fsopen' | 'openat2', fd: number) => () => {
    const result = answers[name] ?? fd
    if (result >= 0) open.add(result)
    return result
  }
  let setFds = 0
  const binding = {
    openTree: answer('openTree', EINVAL),
    openTreeAttr: answer('openTreeAttr', EINVAL),
    mountSetattr: answer('mountSetattr', EINVAL),
    unshare: answer('unshare', EINVAL),
    setns: answer('setns', EBADF),
    fchdir: answer('fchdir', EBADF),
    fsopen: opening('fsopen', 900),
    openat2: opening('openat2', 901),
    fsmount: (_fs: number, flags: number) => {
      if (flags !== f.FSMOUNT_CLOEXEC) return answers.fsmount ?? EINVAL
      const made = answers['a mount'] ?? 902
      if (made >= 0) open.add(made)
      return made
    },
    moveMount: answer('moveMount', EINVAL),
    umount: answer('umount', EINVAL),
    close: (fd: number) => (open.delete(fd) ? 0 : EBADF),
    statx: (_fd: number, path: Uint8Array, _flags: number, mask: number, out: Buffer) => {
      out.writeUInt32LE(answers.statx ?? mask)
      if (!Buffer.from(path).includes('ns/user')) return 0
      const inode = answers['user namespace'] ?? 4026531837
      if (inode < 0) return inode
      out.writeBigUInt64LE(BigInt(inode), 32)
      return 0
    },
    fsconfig: (_fs: number, command: number, key: Buffer | null) => {
      const name = String(key)
      if (command === f.FSCONFIG_CMD_CREATE) return answers.create ?? EINVAL
      if (command === f.FSCONFIG_SET_STRING && name.startsWith('lowerdir+')) return answers.setString ?? 0
      if (name.startsWith('overlayfd_no_option')) return answers['unknown option'] ?? EINVAL
      if (command === f.FSCONFIG_SET_FLAG && name.startsWith('override_creds')) return EINVAL
      if (command === f.FSCONFIG_SET_STRING || command === f.FSCONFIG_SET_FLAG) return 0
      if (command !== f.FSCONFIG_SET_FD) return answers.fsconfig ?? EINVAL
      return answers[setFds++ === 0 ? 'setFd path' : 'setFd directory'] ?? 0
    },
  }
  return { binding, open }
}

const all: Features = {
  openTree: true,
  openTreeAttr: true,
  detachedLayers: true,
  mountSetattr: true,
  openat2: true,
  uniqueMountId: true,
  mountNamespaces: true,
  ownDirectory: true,
  fsContext: true,
  appendLayers: true,
  layersByFd: 'path',
  overlayOptions: probedOptions.filter((option) => option !== 'override_creds'),
  erofsImages: true,
  overlay: true,
  mayMount: true,
  initialUserNamespace: true,
  reasons: {},
}
const absent = (call: string) => `ENOSYS: this kernel has no ${call}, or a filter (seccomp) hides it`
const filtered = (call: string) => `EPERM: a filter (seccomp) refuses ${call}`
const untriedFor = (why: string) => {
  const text = `not tried: ${why}`
  return { overlayOptions: text, appendLayers: text, layersByFd: text }
}
const old = { 'setFd path': EOPNOTSUPP, openTreeAttr: ENOSYS, 'unknown option': 0 }
const untold = { overlayOptions: 'the fs context of overlay takes any option until it is created' }
const untried = { overlayOptions: 'not tried: the process may not mount' }
const notKnown = { overlayOptions: false } as const
const oldContext = 'EOPNOTSUPP: overlay has no fs context of its own'
const plain = { fsopen: EPERM, umount: EPERM }
const noRight = 'EPERM: no CAP_SYS_ADMIN in the user namespace of this mount namespace'
const notOurs =
  'EPERM: CAP_SYS_ADMIN is there, but not in the user namespace that this mount namespace belongs to (unshare it too), or a filter (seccomp) or a security module refuses to mount'
const inferred = 'inferred from open_tree_attr, which is younger'

const table: [string, Answers, Partial<Features>, Features['reasons']][] = [
  ['6.15', {}, {}, {}],
  ['6.13', { openTreeAttr: ENOSYS, 'setFd path': EBADF }, { openTreeAttr: false, layersByFd: 'directory' },
    { openTreeAttr: absent('open_tree_attr'), layersByFd: 'EBADF for an O_PATH fd' }],
  ['6.12', { openTreeAttr: ENOSYS, 'setFd path': EBADF, 'setFd directory': EINVAL }, { openTreeAttr: false, layersByFd: false },
    { openTreeAttr: absent('open_tree_attr'), layersByFd: 'EINVAL: lowerdir+ takes no fd' }],
  ['6.6', { openTreeAttr: ENOSYS, 'setFd path': EINVAL, 'setFd directory': EINVAL, setString: EINVAL },
    { openTreeAttr: false, layersByFd: false, appendLayers: false },
    { openTreeAttr: absent('open_tree_attr'), layersByFd: 'EINVAL: lowerdir+ takes no fd', appendLayers: 'EINVAL: overlay does not know lowerdir+' }],
  ['6.1', { ...old, statx: 0 }, { ...notKnown, openTreeAttr: false, layersByFd: false, appendLayers: false, uniqueMountId: false },
    { ...untold, openTreeAttr: absent('open_tree_attr'), uniqueMountId: 'statx does not fill STATX_MNT_ID_UNIQUE', appendLayers: oldContext, layersByFd: oldContext }],
  ['5.4', { ...old, openat2: ENOSYS, mountSetattr: ENOSYS }, { ...notKnown, openTreeAttr: false, layersByFd: false, appendLayers: false, openat2: false, mountSetattr: false },
    { ...untold, openTreeAttr: absent('open_tree_attr'), openat2: absent('openat2'), mountSetattr: absent('mount_setattr'), appendLayers: oldContext, layersByFd: oldContext }],
  ['4.19', { openTree: ENOSYS, openTreeAttr: ENOSYS, mountSetattr: ENOSYS, fsconfig: ENOSYS, fsopen: ENOSYS, openat2: ENOSYS },
    { ...notKnown, openTree: false, openTreeAttr: false, mountSetattr: false, fsContext: false, openat2: false, appendLayers: false, layersByFd: false },
    { openTree: absent('open_tree'), openTreeAttr: absent('open_tree_attr'), mountSetattr: absent('mount_setattr'), openat2: absent('openat2'), fsContext: absent('fsconfig'), ...untriedFor(absent('fsopen')) }],
  ['no overlay', { fsopen: ENODEV }, { ...notKnown, overlay: false, fsContext: false, appendLayers: false, layersByFd: false },
    { overlay: 'ENODEV: the kernel has no overlay file system', fsContext: 'ENODEV', ...untriedFor('ENODEV') }],
  ['a user namespace', { 'user namespace': 4026532177 }, { initialUserNamespace: false },
    { initialUserNamespace: 'user:[4026532177] is not the initial one' }],
  ['a user namespace, and no /proc', { 'user namespace': ENOENT, create: EPERM }, { initialUserNamespace: false },
    { initialUserNamespace: 'EPERM: overlay may not use trusted.overlay.* attributes' }],
  ['no /proc', { 'user namespace': ENOENT }, {}, {}],
  ['a plain user, and no /proc', { ...plain, 'user namespace': ENOENT }, { ...notKnown, mayMount: false },
    { ...untried, mayMount: noRight, appendLayers: inferred, layersByFd: inferred, initialUserNamespace: 'taken to be so: /proc is not mounted' }],
  ['a filter of open_tree_attr', { openTreeAttr: EPERM, create: 0 }, { openTreeAttr: false },
    { openTreeAttr: filtered('open_tree_attr'), detachedLayers: 'tried, since there is no open_tree_attr to tell it by' }],
  ['the same on 6.14', { openTreeAttr: EPERM }, { openTreeAttr: false, detachedLayers: false },
    { openTreeAttr: filtered('open_tree_attr'), detachedLayers: 'EINVAL: tried with two detached mounts' }],
  ['a filter of fsopen', { fsopen: EPERM }, { ...notKnown, fsContext: false, appendLayers: false, layersByFd: false },
    { fsContext: filtered('fsopen'), ...untriedFor(filtered('fsopen')) }],
  ['a filter of fsmount', { fsmount: EPERM }, { fsContext: false }, { fsContext: filtered('fsmount') }],
  ['a filter of fsconfig', { fsconfig: EPERM }, { ...notKnown, fsContext: false, appendLayers: false, layersByFd: false },
    { fsContext: filtered('fsconfig'), ...untriedFor(filtered('fsconfig')) }],
  ['a filter of unshare', { unshare: EPERM }, { mountNamespaces: false, ownDirectory: false },
    { mountNamespaces: filtered('unshare'), ownDirectory: filtered('unshare') }],
  ['a filter of setns', { setns: EPERM }, { mountNamespaces: false }, { mountNamespaces: filtered('setns') }],
  ['a filter of fchdir', { fchdir: ENOSYS }, { ownDirectory: false }, { ownDirectory: absent('fchdir') }],
  ['no move_mount', { moveMount: ENOSYS }, { fsContext: false }, { fsContext: absent('move_mount') }],
  ['a plain user', plain, { ...notKnown, mayMount: false }, { ...untried, mayMount: noRight, appendLayers: inferred, layersByFd: inferred }],
  ['a mount namespace of another user namespace', { ...plain, CapEff: 1 << 21 }, { ...notKnown, mayMount: false },
    { ...untried, mayMount: notOurs, appendLayers: inferred, layersByFd: inferred }],
  ['a plain user, 6.12', { ...plain, openTreeAttr: ENOSYS }, { ...notKnown, mayMount: false, openTreeAttr: false, appendLayers: false, layersByFd: false },
    { ...untried, mayMount: noRight, openTreeAttr: absent('open_tree_attr'), appendLayers: 'not tried: the process may not mount', layersByFd: 'not tried: the process may not mount' }],
] // biome-ignore format: a table

const noPathFds = 'overlay takes no O_PATH fds, which came before layers of detached mounts'

t.test('other kernels', async (t) => {
  for (const [name, answers, differing, reasons] of table) {
    const { binding, open } = kernelOf(answers)
    const mocks = {
      '../../lib/binding.js': { binding },
      'node:fs': {
        ...fs,
        readFileSync: () => `CapEff:\t${(answers.CapEff ?? 0).toString(16).padStart(16, '0')}\n`,
      },
      '../../lib/host/erofs.js': { probeImages: () => ({ there: true }) },
    }
    const { features: probe } = await mocked(t, mocks)
    const isOlder = answers.openTreeAttr === ENOSYS
    const why = differing.mayMount === false ? 'not tried: the process may not mount' : noPathFds
    const older = isOlder ? { detachedLayers: why } : {}
    const found = { ...probe() }
    t.same(
      found,
      { ...all, ...(isOlder && { detachedLayers: false }), ...differing, reasons: { ...reasons, ...older } },
      name,
    )
    t.equal(open.size, 0, `${name}: nothing is left open`)
  }
})

t.test('layers of detached mounts: what has no room to be tried is not missing', async (t) => {
  const answers: Answers = { openTreeAttr: EPERM, create: 0 }
  const { binding, open } = kernelOf(answers)
  const read = () => `CapEff:\t${'0'.repeat(16)}\n`
  const { features: probe } = await mocked(t, {
    '../../lib/binding.js': { binding },
    'node:fs': { ...fs, readFileSync: read },
  })
  const found = probe()
  for (const [call, without] of [
    ['fsopen', { fsopen: EMFILE }],
    ['fsconfig', { create: ENOMEM }],
    ['fsmount', { 'a mount': ENFILE }],
  ] as const) {
    Object.assign(answers, without)
    t.throws(() => found.detachedLayers, { syscall: call, name: 'SyscallError' })
    Object.assign(answers, { fsopen: undefined, 'a mount': undefined, create: 0 })
    t.equal(open.size, 0, `${call}: nothing is left open`)
  }
  t.equal(found.detachedLayers, true)
})

t.test('images: tried when it is first read, and kept', async (t) => {
  const { binding } = kernelOf({})
  let tried = 0
  const probeImages = () => {
    tried++
    return { there: false, reason: 'no erofs' }
  }
  const mocks = { '../../lib/binding.js': { binding }, '../../lib/host/erofs.js': { probeImages } }
  const { features: probe, withChanges } = await mocked(t, mocks)
  const found = probe()
  const changed = withChanges(found, { openTree: false })
  t.same([found.overlay, changed.overlay, changed.openTree, tried], [true, true, false, 0])
  t.same([changed.erofsImages, found.erofsImages, found.erofsImages, tried], [false, false, false, 1])
  t.same(found.reasons, { erofsImages: 'no erofs' })
  t.equal(withChanges(found, { erofsImages: true }).erofsImages, true)
})
