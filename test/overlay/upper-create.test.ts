/**
 * `create: true`: a new upper looks to the container as the top layer does, mode, owner and extended attributes,
 * and what was made for a mount that failed goes again. Nothing that was there before is touched.
 */
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { type IdmapOption, Mounter } from '../../lib/index.js'
import { lgetxattr, llistxattr } from '../../lib/sys.js'
import { dist, run } from '../support/child.js'
import { watch } from '../support/left.js'
import { privileged } from '../support/needs.js'
import { forms, owner, setXattrs, ways } from '../support/rungs.js'
import { type Scratch, scratch } from '../support/scratch.js'
import { mapping, userNamespace } from '../support/userns.js'

const mode = (path: string) => (statSync(path).mode & 0o7777).toString(8)
const at = (area: Scratch, name: string) => ({
  upperdir: area.path('new', name, 'upper'),
  workdir: area.path('new', name, 'work'),
  target: area.path('new', name, 'rootfs'),
})

/** The extended attributes of a directory, but for overlay's own. */
const xattrs = (path: string): Record<string, string> => {
  const names = llistxattr(path).filter((name) => !/^(trusted|user)\.overlay\./.test(name.toString()))
  return Object.fromEntries(names.map((name) => [name.toString(), lgetxattr(path, name).toString('hex')]))
}

const ACL = 'system.posix_acl_access'
/** struct posix_acl_xattr: version 2, then tag, permissions and id of each entry */
const acl = (user: number, group: number): Buffer => {
  const none = 0xffff_ffff
  const entries = [
    [1, 7, none],
    [2, 5, user],
    [4, 5, none],
    [8, 1, group],
    [16, 7, none],
    [32, 0, none],
  ]
  const bytes = Buffer.alloc(4 + entries.length * 8)
  bytes.writeUInt32LE(2)
  entries.forEach(([tag, permissions, id], i) => {
    bytes.writeUInt16LE(tag as number, 4 + i * 8)
    bytes.writeUInt16LE(permissions as number, 6 + i * 8)
    bytes.writeUInt32LE(id as number, 8 + i * 8)
  })
  return bytes
}

for (const { rung, idmap, shift } of ways) {
  for (const upper of idmap ? (['asis', 'shifted', 'idmapped'] as const) : (['asis'] as const)) {
    t.test(`${rung}, ${upper}: a new upper is as the top layer is`, privileged, async (t) => {
      const area = scratch(t)
      const lowerdir = area.layers(2)
      const top = lowerdir[0] as string
      chownSync(top, 12, 34)
      chmodSync(top, 0o2751)
      setXattrs(top, {
        'user.note': 'kept',
        'trusted.note': Buffer.of(0, 1, 255),
        'trusted.overlay.opaque': 'y',
        'trusted.overlay.origin': 'z',
      })
      const mounter = new Mounter({ rung })
      t.teardown(() => mounter.close())
      const stack = await mounter.open({ lowerdir, idmap })
      const mask = process.umask(0o077)
      t.teardown(() => process.umask(mask))
      for (const [i, form] of forms.entries()) {
        const dirs = at(area, form.name)
        const rootfs = i
          ? await form.mount(mounter, { lowerdir, idmap, ...dirs, upper, create: true })
          : await form.stackMount(stack, { ...dirs, upper, create: true })
        const base = upper === 'idmapped' ? 0 : shift
        const owners = [12, 34]
        t.equal(owner(dirs.upperdir), owners.map((id) => id + base).join(':'), 'on disk')
        t.equal(owner(dirs.target), owners.map((id) => id + shift).join(':'), 'as the mount shows it')
        t.equal(mode(dirs.upperdir), '2751', 'the umask and chown took nothing away')
        t.same(xattrs(dirs.upperdir), {
          'user.note': Buffer.from('kept').toString('hex'),
          'trusted.note': '0001ff',
        })
        t.equal(existsSync(join(dirs.target, 'only-1')), true, 'opaque is not taken over')
        await form.unmount(rootfs)
        t.equal(owner(dirs.workdir), '0:0')
      }
      await stack.close()
    })
  }
}

for (const { rung, idmap, shift } of ways) {
  t.test(`${rung}: an upper that a killed process has not finished is finished`, privileged, async (t) => {
    const area = scratch(t)
    const lowerdir = area.layers(2)
    const top = lowerdir[0] as string
    chownSync(top, 12, 34)
    chmodSync(top, 0o750)
    setXattrs(top, { 'user.note': 'kept' })
    const mounter = new Mounter({ rung })
    t.teardown(() => mounter.close())
    for (const [name, mode_, wanted] of [
      ['unfinished', 0, { owner: `${12 + shift}:${34 + shift}`, mode: '750', note: true }],
      ['finished', 0o700, { owner: '0:0', mode: '700', note: false }],
    ] as const) {
      const dirs = at(area, name)
      mkdirSync(dirs.upperdir, { recursive: true })
      chmodSync(dirs.upperdir, mode_)
      const rootfs = await mounter.mount({ lowerdir, idmap, ...dirs, create: true })
      const is = {
        owner: owner(dirs.upperdir),
        mode: mode(dirs.upperdir),
        note: 'user.note' in xattrs(dirs.upperdir),
      }
      t.same(is, wanted, name)
      await rootfs.unmount()
    }
  })
}

t.test('an ACL is for the same users in the container', privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(2)
  setXattrs(lowerdir[0] as string, { [ACL]: acl(55, 66) })
  const mounter = new Mounter()
  t.teardown(() => mounter.close())
  const own = mapping(500_000)
  const cases: [
    string,
    IdmapOption | undefined,
    IdmapOption | undefined,
    'asis' | 'idmapped',
    number,
    number,
  ][] = [
    ['no idmap', undefined, undefined, 'asis', 0, 0],
    ['the stack’s mapping', mapping(), undefined, 'asis', 100_000, 100_000],
    ['one of its own', undefined, own, 'asis', 500_000, 500_000],
    ['one of its own on an idmapped stack', mapping(), own, 'asis', 500_000, 500_000],
    ['idmapped upper', mapping(), undefined, 'idmapped', 0, 100_000],
    ['idmapped upper, one of its own', mapping(), own, 'idmapped', 0, 500_000],
  ]
  for (const [name, stackIdmap, idmap, upper, onDisk, shown] of cases) {
    const stack = await mounter.open({ lowerdir, idmap: stackIdmap })
    const dirs = at(area, name.replaceAll(' ', '-'))
    const rootfs = await stack.mount({ ...dirs, idmap, upper, create: true })
    t.equal(xattrs(dirs.upperdir)[ACL], acl(55 + onDisk, 66 + onDisk).toString('hex'), `${name}: on disk`)
    t.equal(xattrs(dirs.target)[ACL], acl(55 + shown, 66 + shown).toString('hex'), `${name}: in the mount`)
    await rootfs.unmount()
    await stack.close()
  }
})

t.test('a top layer whose owner is not mapped, closed to others', privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(2)
  const top = lowerdir[0] as string
  setXattrs(top, { 'user.note': 'kept', [ACL]: acl(55, 70_066) })
  chownSync(top, 70_000, 70_001)
  chmodSync(top, 0o700)
  const onDisk = xattrs(top)
  for (const budget of [undefined, 0]) {
    const mounter = new Mounter(budget === undefined ? {} : { maxLayerFds: budget })
    t.teardown(() => mounter.close())
    const left = watch()
    const stack = await mounter.open({ lowerdir, idmap: mapping() })
    for (const [upper, base] of [
      ['asis', 100_000],
      ['shifted', 100_000],
      ['idmapped', 0],
    ] as const) {
      const dirs = at(area, `${upper}-${budget}`)
      const rootfs = await stack.mount({ ...dirs, upper, create: true })
      t.equal(owner(dirs.upperdir), `${base}:${base}`, `${upper}: the container’s root, on disk`)
      t.equal(owner(dirs.target), '100000:100000', `${upper}: and in the mount`)
      t.equal(xattrs(dirs.upperdir)['user.note'], onDisk['user.note'])
      await rootfs.unmount()
    }
    await stack.close()
    await mounter.idle()
    t.same(await left(), [])
  }
})

t.test('a top layer whose attributes cannot be read', privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(2)
  chownSync(lowerdir[0] as string, 70_000, 70_000)
  chmodSync(lowerdir[0] as string, 0o700)
  const dirs = at(area, 'unread')
  area.mkdir('new')
  // in a user namespace the owner is nobody, and root there has no way around the mode
  const script = `
    import { mkdirSync } from 'node:fs'
    import { LayerStack } from '${dist('index.js')}'
    const dirs = ${JSON.stringify(dirs)}
    const stack = LayerStack.openSync({ lowerdir: ${JSON.stringify(lowerdir)} })
    const fail = () => {
      try { stack.explain({ ...dirs, create: true }) } catch ({ name, code, path, hint }) {
        return { name, code, path, hint }
      }
    }
    const found = [fail()]
    mkdirSync(dirs.upperdir, { recursive: true })
    console.log(JSON.stringify([...found, fail() ?? 'planned']))`
  chmodSync(area.path('new'), 0o777)
  const inside = ['--user', '--map-root-user', '--mount', process.execPath, '--input-type=module', '-e']
  const { stdout, stderr } = await run('unshare', [...inside, script])
  t.match(stdout, /^\[/, stderr)
  const hint = 'create takes over the extended attributes of lowerdir[0], which cannot be read'
  t.same(JSON.parse(stdout), [{ name: 'MountError', code: 'EACCES', path: lowerdir[0], hint }, 'planned'])
})

t.test('a layer that is renamed is still the one to copy from', privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(2)
  setXattrs(lowerdir[0] as string, { 'user.note': 'kept' })
  const mounter = new Mounter()
  t.teardown(() => mounter.close())
  const stack = await mounter.open({ lowerdir, idmap: mapping() })
  renameSync(lowerdir[0] as string, area.path('moved'))
  const dirs = at(area, 'renamed')
  const rootfs = await stack.mount({ ...dirs, create: true })
  t.same(Object.keys(xattrs(dirs.upperdir)), ['user.note'])
  await rootfs.unmount()
  await stack.close()
})

t.test('what is there is left as it is', privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(2)
  const dirs = area.container('there')
  chownSync(dirs.upperdir, 77, 78)
  chmodSync(dirs.upperdir, 0o700)
  setXattrs(lowerdir[0] as string, { 'user.note': 'not for it' })
  const mounter = new Mounter()
  t.teardown(() => mounter.close())
  const rootfs = await mounter.mount({ lowerdir, ...dirs, idmap: mapping(), create: true })
  t.equal(owner(dirs.upperdir), '77:78')
  t.equal(mode(dirs.upperdir), '700')
  t.same(xattrs(dirs.upperdir), {})
  await rootfs.unmount()
})

t.test('root of the container can use what was made', privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(2)
  const dirs = at(area, 'usable')
  const mounter = new Mounter()
  t.teardown(() => mounter.close())
  const inside = await userNamespace(t, mapping())
  const rootfs = await mounter.mount({ lowerdir, ...dirs, idmap: mapping(), create: true })
  inside.sh(`cd '${dirs.target}' && echo x > made && rm each`)
  t.equal(owner(join(dirs.upperdir, 'made')), '100000:100000')
  t.equal(mode(area.path('new/usable')), '755')
  await rootfs.unmount()
  const again = await mounter.mount({ lowerdir, ...dirs, idmap: mapping(), create: true })
  t.same(readdirSync(dirs.target).includes('made'), true, 'and again')
  await again.unmount()
})

for (const { rung, idmap } of ways) {
  t.test(`${rung}: what was made for a mount that failed goes again`, privileged, async (t) => {
    const area = scratch(t)
    const lowerdir = area.layers(2)
    area.mkdir('new')
    const mounter = new Mounter({ rung })
    const left = watch()
    const stack = await mounter.open({ lowerdir, idmap })
    const bad = await mounter.open({ lowerdir: [lowerdir[0] as string, lowerdir[0] as string], idmap })
    const dirs = at(area, 'failed')
    const beside = area.mkdir('beside')
    writeFileSync(area.path('file'), '')
    const failures = [
      ['CREATE', () => bad.mount({ ...dirs, create: true }), 'ELOOP'],
      [
        'CREATE, late',
        () => stack.mount({ ...dirs, workdir: join(dirs.upperdir, 'in'), create: true }),
        'EINVAL',
      ],
      [
        'target',
        () => stack.mount({ ...dirs, target: join(area.path('file'), 'x'), create: true }),
        'ENOTDIR',
      ],
      [
        'target is a file',
        () => stack.mount({ ...dirs, target: area.path('file'), create: true }),
        /EINVAL|ENOTDIR/,
      ],
      [
        'options',
        () => stack.mount({ ...dirs, create: true, options: { metacopy: 'on', redirect_dir: 'off' } }),
        'ERR_INVALID_ARG_VALUE',
      ],
    ] as const
    for (const [name, fail, code] of failures) {
      await t.rejects(fail(), { code, name: name === 'options' ? 'TypeError' : 'MountError' }, name)
      t.same(
        readdirSync(area.path('new')).flatMap((dir) => readdirSync(area.path('new', dir))),
        [],
        name,
      )
    }
    mkdirSync(dirs.upperdir, { recursive: true })
    writeFileSync(join(dirs.upperdir, 'precious'), '')
    await t.rejects(bad.mount({ ...dirs, target: beside, create: true }), { code: 'ELOOP' })
    t.same(readdirSync(area.path('new/failed')), ['upper'], 'what was there before stays')
    const rootfs = await stack.mount({ ...dirs, create: true })
    t.ok(existsSync(join(dirs.target, 'precious')), 'and the next one succeeds')
    await rootfs.unmount()
    await stack.close()
    await bad.close()
    await mounter.close()
    t.same(await left({ threads: true }), [])
  })
}

t.test(
  'two mounts that make the same upper at once: one is refused, the other is whole',
  privileged,
  async (t) => {
    const area = scratch(t)
    const mounter = new Mounter()
    const stack = await mounter.open({ lowerdir: area.layers(2) })
    area.mkdir('real')
    symlinkSync('real', area.path('link'))
    for (let i = 0; i < 60; i++) {
      // by the same path, and by another spelling, which only the directory itself can tell
      const places = [area.path('real'), area.path(i % 2 ? 'real' : 'link')]
      const mounts = places.map((place, k) =>
        stack.mount({
          upperdir: join(place, `upper${i}`),
          workdir: join(place, `work${i}`),
          target: area.path(`target${i}-${k}`),
          create: true,
        }),
      )
      const results = await Promise.allSettled(mounts)
      const made = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
      const refused = results.find(({ status }) => status === 'rejected') as PromiseRejectedResult
      t.equal(made.length, 1)
      t.match(refused?.reason, { code: 'EBUSY', hint: /^this upperdir is in use by / })
      for (const rootfs of made) {
        writeFileSync(join(rootfs.path, 'new'), '')
        t.ok(existsSync(area.path('real', `upper${i}`, 'new')), 'nobody took its directories away')
        await rootfs.unmount()
      }
    }
    await stack.close()
    await mounter.close()
  },
)

t.test('directories are made with the umask of when the threads were started', privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(1)
  const mask = process.umask(0o027)
  t.teardown(() => process.umask(mask))
  const mounter = new Mounter()
  t.teardown(() => mounter.close())
  await mounter.ready()
  const made = async (name: string) => {
    const rootfs = await mounter.mount({ lowerdir, ...at(area, name), create: true })
    await rootfs.unmount()
    return mode(area.path('new', name))
  }
  process.umask(0o077)
  t.equal(await made('then'), '750')
  await mounter.close()
  t.equal(await made('now'), '700', 'and those that come after them')
})

t.test('what is missing below a symbolic link is made where that leads', privileged, async (t) => {
  for (const { rung, idmap } of ways) {
    const area = scratch(t)
    const [top, below] = area.layers(2) as [string, string]
    const real = area.mkdir('real')
    symlinkSync('real', area.path('link'))
    const mounter = new Mounter({ rung })
    const rootfs = await mounter.mount({
      lowerdir: [top, below],
      idmap,
      upperdir: area.path('link/x/y/upper'),
      workdir: area.path('work'),
      target: area.path('rootfs'),
      create: true,
    })
    t.same(readdirSync(join(real, 'x/y')), ['upper'], rung)
    await rootfs.unmount()
    await mounter.close()
  }
})
