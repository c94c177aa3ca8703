/**
 * mountBind, really mounted: what is shown, with which ids and attributes; that nothing of it is seen elsewhere or left
 * behind; with `/` private, and shared with a peer and a slave alive.
 */
import { execFileSync } from 'node:child_process'
import { closeSync, lstatSync, openSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Mounter, type RungChoice } from '../../lib/index.js'
import { watch } from '../support/left.js'
import { mountForms, optionsAt, propagationAt, umount, volume } from '../support/mount-forms.js'
import { privileged } from '../support/needs.js'
import { type Peers, propagations, withPropagation } from '../support/peers.js'
import { type Scratch, scratch } from '../support/scratch.js'
import { mapping } from '../support/userns.js'

const rungs: readonly RungChoice[] = ['auto', 'classic']

interface Given {
  readonly area: Scratch
  readonly mounter: Mounter
  readonly source: string
  readonly target: string
  readonly peers: Peers
}

const onEach = (name: string, of: readonly RungChoice[], body: (t: Test, given: Given) => Promise<void>) => {
  for (const rung of of) {
    for (const propagation of propagations) {
      t.test(`${name}: ${rung}, / ${propagation}`, privileged, async (t) => {
        const area = scratch(t)
        const source = volume(area)
        const target = area.mkdir('target')
        await withPropagation(t, propagation, async (peers) => {
          const mounter = new Mounter({ rung })
          const left = watch()
          await body(t, { area, mounter, source, target, peers })
          await mounter.close()
          t.same(await left({ threads: true }), [])
        })
        umount(join(source, 'sub'))
      })
    }
  }
}

onEach('a directory', rungs, async (t, { mounter, source, target, peers }) => {
  for (const form of mountForms) {
    const bind = await form.bind(mounter, { source, target })
    t.equal(bind.path, target)
    t.equal(bind.rung, mounter.rung === 'classic' ? 'classic' : 'direct')
    t.equal(readFileSync(join(target, 'file'), 'utf8'), 'of the volume')
    t.throws(() => lstatSync(join(target, 'sub/file')), { code: 'ENOENT' }, 'not the mount below')
    t.same(Object.keys(optionsAt(target)), [''])
    await form.unmount(bind)
    await form.unmount(bind)
    t.same(optionsAt(target), {}, form.name)
    t.same(peers.mounts('peer', target), [], 'nor in the peer')
    t.throws(() => bind.path, { code: 'ERR_INVALID_STATE' })
  }
})

onEach('recursive, idmapped, with attributes', ['auto'], async (t, { mounter, source, target }) => {
  for (const form of mountForms) {
    const attributes = { readonly: true, nosuid: true, nodev: true, noexec: true, atime: 'noatime' } as const
    const options = { source, target, recursive: true, idmap: mapping(), attributes }
    const bind = await form.bind(mounter, options)
    for (const file of ['file', 'sub/file']) t.equal(lstatSync(join(target, file)).uid, 100_000, file)
    const wanted = 'ro,nosuid,nodev,noexec,noatime,idmapped'
    t.same(optionsAt(target), { '': wanted, '/sub': wanted })
    for (const file of ['new', 'sub/new']) {
      t.throws(() => writeFileSync(join(target, file), ''), { code: 'EROFS' }, file)
    }
    writeFileSync(join(source, 'sub/other'), 'the source is writable still')
    await form.unmount(bind)
    const top = await form.bind(mounter, { ...options, attributes: { readonly: true, recursive: false } })
    t.same(optionsAt(target), { '': 'ro,relatime,idmapped', '/sub': 'rw,relatime,idmapped' })
    await form.unmount(top)
  }
})

onEach('attributes of one mount', rungs, async (t, { mounter, source, target }) => {
  execFileSync('mount', ['-n', '-o', 'bind', source, source])
  execFileSync('mount', ['-n', '-o', 'remount,bind,ro,nosuid,nodev,noatime', source])
  for (const form of mountForms) {
    const inherited = await form.bind(mounter, { source, target, attributes: { noexec: true } })
    t.same(optionsAt(target), { '': 'ro,nosuid,nodev,noexec,noatime' }, "and those of the source's mount")
    await form.unmount(inherited)
    const attributes = { readonly: false, nosuid: false, atime: 'relatime' } as const
    const cleared = await form.bind(mounter, { source, target, attributes })
    t.same(optionsAt(target), { '': 'rw,nodev,relatime' }, 'false takes away')
    await form.unmount(cleared)
  }
  umount(source)
})

onEach('a file, an fd, a symbolic link as source', rungs, async (t, { area, mounter, source, target }) => {
  symlinkSync('file', join(source, 'link'))
  const fd = openSync(source, 'r')
  for (const form of mountForms) {
    const file = join(area.dir, `${form.name}/below/file`)
    const bind = await form.bind(mounter, { source: join(source, 'link'), target: file, create: true })
    t.equal(readFileSync(file, 'utf8'), 'of the volume', 'the link of a source is followed')
    await form.unmount(bind)
    t.equal(lstatSync(file).size, 0, 'an empty file was made')
    const again = await form.bind(mounter, { source: join(source, 'file'), target: file, create: true })
    await form.unmount(again)
    const made = join(area.dir, `${form.name}/made/dir`)
    const dir = await form.bind(mounter, { source: fd, target: made, create: true })
    t.equal(readFileSync(join(made, 'file'), 'utf8'), 'of the volume')
    await form.unmount(dir)
    const wrong = { source: join(source, 'file'), target }
    await t.rejects(form.bind(mounter, wrong), { code: /EINVAL|ENOTDIR/, hint: /directory|regular/ })
  }
  closeSync(fd)
})

onEach(
  'what is mounted below the source survives its unmount',
  ['auto'],
  async (t, { mounter, source, target }) => {
    for (const form of mountForms) {
      for (const propagation of [undefined, 'slave'] as const) {
        const bind = await form.bind(mounter, { source, target, recursive: true, propagation })
        const later = await form.tmpfs(mounter, { target: join(source, 'later'), create: true })
        t.equal(lstatSync(join(target, 'sub/file')).size, 18)
        await form.unmount(bind)
        t.equal(lstatSync(join(source, 'sub/file')).size, 18, `${propagation}: ${form.name}`)
        t.same(Object.keys(optionsAt(join(source, 'later'))), [''])
        await form.unmount(later)
      }
    }
  },
)

onEach('propagation', rungs, async (t, { mounter, source, target }) => {
  for (const form of mountForms) {
    for (const propagation of ['private', 'shared', 'unbindable'] as const) {
      const bind = await form.bind(mounter, { source, target, propagation })
      t.same(propagationAt(target), propagation === 'private' ? [] : [propagation])
      await form.unmount(bind)
    }
  }
})

onEach('a slave of its source', rungs, async (t, { mounter, source, target }) => {
  execFileSync('mount', ['-n', '-o', 'bind', source, source])
  execFileSync('mount', ['-n', '--make-shared', source])
  for (const form of mountForms) {
    const bind = await form.bind(mounter, { source, target, propagation: 'slave' })
    t.ok(propagationAt(target).includes('master'))
    const there = await form.tmpfs(mounter, { target: join(source, 'sub') })
    t.same(Object.keys(optionsAt(target)), ['', '/sub'], 'from the source to the bind')
    await form.unmount(there)
    t.same(Object.keys(optionsAt(target)), [''])
    const before = mountedOn(source)
    const here = await form.tmpfs(mounter, { target: join(target, 'sub') })
    t.same(mountedOn(source), before, 'and not back')
    await form.unmount(here)
    await form.unmount(bind)
  }
  umount(source)
})

const mountedOn = (source: string) => Object.keys(optionsAt(source))

onEach('detached, and attached later', ['auto'], async (t, { area, mounter, source, target }) => {
  for (const form of mountForms) {
    const bind = await form.bind(mounter, { source, recursive: true, attributes: { readonly: true } })
    t.ok(bind.detached)
    t.equal(readFileSync(join(bind.path, 'sub/file'), 'utf8'), 'of the mount below')
    t.throws(() => writeFileSync(join(bind.path, 'sub/new'), ''), { code: 'EROFS' })
    await form.attach(bind, target)
    t.same(optionsAt(target), { '': 'ro,relatime', '/sub': 'ro,relatime' })
    await form.unmount(bind, { lazy: true })
    const other = await form.bind(mounter, { source })
    symlinkSync(target, join(area.dir, `link-${form.name}`))
    const refused = { code: 'EINVAL', hint: /symbolic link, which is not followed/ }
    await t.rejects(form.attach(other, join(area.dir, `link-${form.name}`)), refused)
    await form.unmount(other)
  }
})

t.test('what cannot be mounted leaves nothing', privileged, async (t) => {
  const area = scratch(t)
  const source = volume(area)
  const target = area.mkdir('target')
  const mounter = new Mounter()
  const left = watch()
  const failing = async (options: object, error: { code: string; hint?: RegExp }) => {
    for (const form of mountForms) {
      await t.rejects(form.bind(mounter, { source, target, ...options }), error, form.name)
      t.same(optionsAt(target), {})
    }
  }
  await failing({ source: join(source, 'none') }, { code: 'ENOENT', hint: /source \(.*\) does not exist/ })
  await failing({ target: area.path('none') }, { code: 'ENOENT', hint: /target \(.*\) does not exist/ })
  await failing(
    { source: '/proc', idmap: mapping() },
    { code: 'EINVAL', hint: /source .*does not support idmapped/ },
  )
  await failing({ source: 987 }, { code: 'EBADF', hint: /source .*is not an open fd/ })
  execFileSync('mount', ['-n', '--make-unbindable', join(source, 'sub')])
  await failing({ source: join(source, 'sub') }, { code: 'EINVAL', hint: /source .*unbindable/ })
  t.throws(() => lstatSync(area.path('none')), { code: 'ENOENT' })
  const gone = area.path('made/target')
  await failing({ source: join(source, 'sub'), target: gone, create: true }, { code: 'EINVAL' })
  t.throws(() => lstatSync(gone), { code: 'ENOENT' }, 'what was made is gone')
  const signal = AbortSignal.abort(new Error('enough'))
  await t.rejects(mounter.mountBind({ source, target }, { signal }), { message: 'enough' })
  await mounter.close()
  t.same(await left({ threads: true }), [])
  umount(join(source, 'sub'))
})
