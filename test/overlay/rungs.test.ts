/**
 * The same root filesystem from every rung: contents, owners on both sides of the user namespace, writing,
 * attributes, propagation; with `/` private and shared, by promise and Sync; and nothing is left of it.
 */
import { execFileSync } from 'node:child_process'
import { readdirSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type MountAttributes, Mounter, type Propagation, type Rootfs } from '../../lib/index.js'
import { dist, run } from '../support/child.js'
import { watch } from '../support/left.js'
import { isBelow, type Mount, mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { type Peers, propagations, withPropagation } from '../support/peers.js'
import { type Form, forms, image, merged, owner, tree, type Way, ways } from '../support/rungs.js'
import { type Container, type Scratch, scratch } from '../support/scratch.js'
import { mapping, userNamespace } from '../support/userns.js'

const mountsAt = (dir: string): Mount[] => mounts().filter((mount) => isBelow(mount, dir))
const upperFor = ({ idmap }: Way) => (idmap ? ('shifted' as const) : ('asis' as const))

/** Writes as the container's root would, and looks at what is on disk. */
const write = async (t: Test, way: Way, at: Container) => {
  const inside = await userNamespace(t, way.idmap ? mapping() : mapping(0, 100_000))
  const seen = inside.owners(at.target)
  t.ok(seen.includes('owned f 640 1000:1001'), 'owners inside')
  t.ok(seen.includes('each f 644 0:0') && seen.includes('dir d 755 5:6'), 'root owns root’s files inside')
  inside.sh(`cd '${at.target}'
    echo more >> owned; mkdir made; echo new > made/file; chown 3:4 made/file; rm only-3; rm -r dir`)
  const { shift } = way
  t.equal(owner(join(at.upperdir, 'owned')), `${1000 + shift}:${1001 + shift}`, 'copied up with its owner')
  t.equal(tree(at.target)['owned'], `file 640 ${1000 + shift}:${1001 + shift} of 1000:1001more\n`)
  t.equal(owner(join(at.upperdir, 'made/file')), `${3 + shift}:${4 + shift}`)
  t.match(tree(at.upperdir)['only-3'], /^device 0 0 0:0$/, 'a whiteout is 0:0 on disk')
  t.notOk(readdirSync(at.target).some((name) => name === 'dir' || name === 'only-3'))
}

const compose = async (t: Test, way: Way, form: Form, area: Scratch, peers: Peers, isShared: boolean) => {
  const lowerdir = image(area)
  const at = area.container(form.name)
  const mounter = new Mounter({ rung: way.rung })
  const left = watch()
  const rootfs = await form.mount(mounter, {
    lowerdir,
    ...at,
    idmap: way.idmap,
    upper: upperFor(way),
  })
  t.equal(rootfs.rung, way.rung)
  t.equal(rootfs.path, at.target)
  t.notOk(rootfs.detached)
  t.equal(rootfs.fd, undefined, 'no fd keeps it busy')
  t.same(tree(at.target), merged(way.shift))
  for (const kind of ['peer', 'slave'] as const) {
    const seen = peers.mounts(kind, at.target).map(({ type }) => type)
    t.same(seen, isShared ? ['overlay'] : [], `one mount in the ${kind}, and only of a shared one`)
  }
  await write(t, way, at)
  await form.unmount(rootfs)
  t.same(mountsAt(at.target), [])
  for (const kind of ['peer', 'slave'] as const) t.same(peers.mounts(kind, at.target), [], kind)
  await mounter.close()
  t.same(await left({ threads: true }), [])
}

for (const way of ways) {
  for (const propagation of propagations) {
    for (const form of forms) {
      t.test(`${way.rung}, / ${propagation}, ${form.name}`, privileged, async (t) => {
        const area = scratch(t)
        await withPropagation(t, propagation, (peers) =>
          compose(t, way, form, area, peers, propagation === 'shared'),
        )
      })
    }
  }
}

/** Attributes as mountinfo shows them; relatime is shown unless another atime was asked for. */
const attributes: readonly [MountAttributes, string][] = [
  [{}, 'rw,relatime'],
  [{ nosuid: true, nodev: true, noexec: true }, 'rw,nosuid,nodev,noexec,relatime'],
  [{ readonly: true }, 'ro,relatime'],
  [{ atime: 'relatime' }, 'rw,relatime'],
  [{ atime: 'noatime' }, 'rw,noatime'],
  [{ atime: 'strictatime' }, 'rw'],
  [{ nodiratime: true, nosuid: false }, 'rw,nodiratime,relatime'],
  [{ nosymfollow: true, atime: 'noatime' }, 'rw,noatime,nosymfollow'],
]
const spread: readonly [Propagation, RegExp][] = [
  ['shared', /^shared:\d+$/],
  ['private', /^$/],
  ['slave', /^$/],
  ['unbindable', /^unbindable$/],
]

for (const way of ways) {
  t.test(`${way.rung}: attributes and propagation`, privileged, async (t) => {
    const area = scratch(t)
    const lowerdir = area.layers(2)
    const mounter = new Mounter({ rung: way.rung })
    t.teardown(() => mounter.close())
    const left = watch()
    const stack = mounter.openSync({ lowerdir, idmap: way.idmap })
    for (const [given, shown] of attributes) {
      const at = area.container('attributes')
      for (const options of [at, { target: at.target }]) {
        const rootfs = await stack.mount({ ...options, attributes: given, upper: 'asis' })
        t.same(
          mountsAt(at.target).map((mount) => mount.attributes.join()),
          [shown],
          JSON.stringify(given),
        )
        await rootfs.unmount()
      }
    }
    for (const [propagation, shown] of spread) {
      const at = area.container('propagation')
      const rootfs = stack.mountSync({ ...at, propagation })
      const [mount] = mountsAt(at.target)
      t.match(mount?.propagation.join(), shown, propagation)
      t.match(rootfs.notes.join(), /propagation is set after the attach/)
      rootfs.unmountSync()
    }
    stack.closeSync()
    await mounter.idle()
    t.same(await left(), [])
  })
}

/** What the layer's own mount is, what is asked for, and what the clone is then. */
const sources: readonly [string, MountAttributes, string][] = [
  ['nosuid,nodev,noexec,noatime', {}, 'ro,nosuid,nodev,noexec,noatime'],
  ['nosuid,relatime', { nodev: true }, 'ro,nosuid,nodev,relatime'],
  ['strictatime,nodiratime', { nosuid: true }, 'ro,nosuid,nodiratime'],
  ['noatime', { nodiratime: true }, 'ro,noatime,nodiratime'],
  ['noatime,noexec', { atime: 'strictatime' }, 'ro,noexec'],
  ['noatime,noexec', { atime: 'relatime' }, 'ro,noexec,relatime'],
  ['ro', { atime: 'noatime' }, 'ro,noatime'],
]

for (const { rung } of ways.filter(({ idmap }) => !idmap)) {
  t.test(`${rung}: a clone keeps the attributes of the layer’s mount`, privileged, async (t) => {
    const area = scratch(t)
    const { target } = area.container('clone')
    const mounter = new Mounter({ rung })
    t.teardown(() => mounter.close())
    for (const [given, asked, shown] of sources) {
      const dir = area.mkdir('source')
      execFileSync('mount', ['-n', '-t', 'tmpfs', '-o', given, 'overlayfd-test', dir])
      for (const form of forms) {
        const rootfs = await form.mount(mounter, { lowerdir: [dir], target, attributes: asked })
        const found = mountsAt(target).map((mount) => mount.attributes.join())
        t.same(found, [shown], `${given}, ${JSON.stringify(asked)}, ${form.name}`)
        await form.unmount(rootfs)
      }
      await mounter.idle()
      execFileSync('umount', ['-n', dir])
    }
  })

  t.test(`${rung}: a clone in a user namespace, where attributes are locked`, privileged, async (t) => {
    const area = scratch(t)
    const dir = area.mkdir('source')
    const { target } = area.container('clone')
    execFileSync('mount', ['-n', '-t', 'tmpfs', '-o', 'nosuid,nodev,noatime', 'overlayfd-test', dir])
    const inside = ['--user', '--map-root-user', '--mount', process.execPath, '--input-type=module', '-e']
    const script = `
      import { Mounter } from '${dist('index.js')}'
      import { execFileSync } from 'node:child_process'
      const mounter = new Mounter({ rung: '${rung}' })
      const rootfs = mounter.mountSync({ lowerdir: ['${dir}'], target: '${target}' })
      console.log(execFileSync('findmnt', ['-n', '-o', 'VFS-OPTIONS', '${target}']).toString().trim())
      rootfs.unmountSync()`
    const { stdout, stderr, status } = await run('unshare', [...inside, script])
    t.match({ stdout, status }, { stdout: 'ro,nosuid,nodev,noatime\n', status: 0 }, stderr)
    execFileSync('umount', ['-n', dir])
  })
}

t.test(
  'below a shared parent, copies stay where they have gone, and the notes say so',
  privileged,
  async (t) => {
    const area = scratch(t)
    const lowerdir = area.layers(2)
    await withPropagation(t, 'shared', async (peers) => {
      for (const { rung, idmap } of ways) {
        const at = area.container(rung)
        const mounter = new Mounter({ rung })
        const rootfs = mounter.mountSync({ lowerdir, ...at, idmap, propagation: 'private' })
        t.same(mountsAt(at.target)[0]?.propagation, [])
        t.equal(peers.mounts('slave', at.target).length, 1, 'as the note says')
        rootfs.unmountSync()
        await mounter.close()
      }
      // a mount made private is taken out of the group: its copies are the peers' own
      for (const kind of ['peer', 'slave'] as const) {
        for (const { target } of peers.mounts(kind, area.dir).filter(({ type }) => type === 'overlay')) {
          execFileSync('nsenter', ['-t', String(peers.pid(kind)), '-m', 'umount', '-l', target.toString()])
        }
      }
    })
  },
)

for (const way of ways.filter(({ rung }) => rung !== 'classic')) {
  for (const form of forms) {
    t.test(`${way.rung}: detached, then attached, ${form.name}`, privileged, async (t) => {
      const area = scratch(t)
      const lowerdir = image(area)
      const mounter = new Mounter({ rung: way.rung })
      t.teardown(() => mounter.close())
      const { upperdir, workdir, target } = area.container('detached')
      const before = mounts().length
      const left = watch()
      const options = { lowerdir, upperdir, workdir, idmap: way.idmap, upper: upperFor(way) }
      const rootfs = await form.mount(mounter, options)
      t.ok(rootfs.detached)
      t.equal(mounts().length, before, 'attached nowhere')
      t.equal(rootfs.path, `/proc/self/fd/${rootfs.fd}`)
      t.same(tree(rootfs.path), merged(way.shift), 'node:fs reads it while it is detached')
      writeFileSync(join(rootfs.path, 'written'), 'detached')
      t.throws(() => writeFileSync(join(rootfs.path, 'written/below'), ''), { code: 'ENOTDIR' })

      await refusesBadTargets(t, form, rootfs, area)
      const other = area.mkdir('other')
      await form.attach(rootfs, target)
      t.notOk(rootfs.detached)
      t.equal(rootfs.path, target)
      t.equal(rootfs.fd, undefined)
      t.equal(tree(target)['written'], 'file 644 0:0 detached')
      await t.rejects(form.attach(rootfs, other), { code: 'ERR_INVALID_STATE', message: /attached: .* once/ })
      t.same(mountsAt(other), [])
      await form.unmount(rootfs)
      const again = await form.mount(mounter, options)
      await form.unmount(again)
      t.throws(() => again.path, { code: 'ERR_INVALID_STATE' }, 'unmounted while it was detached')
      await mounter.trim()
      t.same(await left(), [])
    })
  }
}

/** A target that cannot be keeps it detached and usable. */
const refusesBadTargets = async (t: Test, form: Form, rootfs: Rootfs, area: Scratch) => {
  symlinkSync(area.mkdir('elsewhere'), area.path('symlink'))
  writeFileSync(area.path('file'), '')
  const bad: readonly [string, string, RegExp][] = [
    [area.path('missing'), 'ENOENT', /target .*missing.* does not exist/],
    [area.path('file'), 'EINVAL', /target is not a directory/],
    [area.path('symlink'), 'EINVAL', /target is a symbolic link/],
  ]
  for (const [target, code, hint] of bad) {
    await t.rejects(form.attach(rootfs, target), { code, hint, syscall: 'move_mount', path: target })
    t.ok(rootfs.detached, `still detached after ${code}`)
  }
  t.same(tree(rootfs.path)['each']?.split(' ')[0], 'file')
  await t.rejects(form.attach(rootfs, '/'), { code: 'ERR_INVALID_ARG_VALUE' })
  unlinkSync(area.path('symlink'))
}

t.test('a rung that does not serve says why, and mounts nothing', privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(2)
  const at = area.container('refused')
  const cases = [
    ['direct', { ...at, idmap: mapping() }, /direct cannot compose this: it does not idmap/],
    ['classic', { ...at, idmap: mapping() }, /mount\(2\) does not idmap/],
    ['classic', { upperdir: at.upperdir, workdir: at.workdir }, /mount\(2\) needs a target/],
    ['detached-tree', at, /there is no idmap/],
  ] as const
  for (const [rung, options, message] of cases) {
    for (const form of forms) {
      const mounter = new Mounter({ rung })
      await t.rejects(form.mount(mounter, { lowerdir, ...options }), { code: 'ERR_OVERLAYFD_RUNG', message })
      await mounter.close()
    }
  }
  t.same(mountsAt(at.target), [])
})
