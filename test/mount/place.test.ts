/**
 * Mounts inside another mount, before and after that one is attached: what a hostile image has in it leads nowhere
 * else, nothing of it is visible before all is there, and what is inside goes with what it is inside of.
 */
import { execFileSync } from 'node:child_process'
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type Mount, Mounter, type Rootfs } from '../../lib/index.js'
import { createSteps } from '../../lib/mount/place.js'
import * as c from '../../lib/program/calls.js'
import { cwd, PlanBuilder } from '../../lib/program/plan.js'
import { nativePool } from '../program/programs.js'
import { watch } from '../support/left.js'
import { mountForms, optionsAt, umount, volume } from '../support/mount-forms.js'
import { privileged } from '../support/needs.js'
import { propagations, withPropagation } from '../support/peers.js'
import { type Scratch, scratch } from '../support/scratch.js'

interface Given {
  readonly area: Scratch
  readonly mounter: Mounter
  readonly source: string
  readonly target: string
  /** a detached rootfs whose image is hostile */
  image(): Promise<Rootfs>
}

/** Names of the image, and what of the host they would hit if they led out. */
function hostile(area: Scratch): string[] {
  const lowerdir = area.layers(2)
  const [top] = lowerdir as [string, string]
  for (const dir of ['proc', 'dev', 'run/secrets', 'var', 'etc'])
    mkdirSync(join(top, dir), { recursive: true })
  symlinkSync('/run', join(top, 'var/run'))
  symlinkSync('../../../../../../../../run', join(top, 'var/up'))
  symlinkSync(area.dir, join(top, 'host'))
  symlinkSync('/etc/passwd-of-nobody', join(top, 'etc/dangling'))
  symlinkSync('/proc/self/root', join(top, 'magic'))
  symlinkSync('loop', join(top, 'loop'))
  return lowerdir
}

const onEach = (name: string, body: (t: Test, given: Given) => Promise<void>) => {
  for (const propagation of propagations) {
    t.test(`${name}: / ${propagation}`, privileged, async (t) => {
      const area = scratch(t)
      const source = volume(area)
      const lowerdir = hostile(area)
      const { upperdir, workdir, target } = area.container('c')
      await withPropagation(t, propagation, async () => {
        const mounter = new Mounter()
        const left = watch()
        const image = () => mounter.mount({ lowerdir, upperdir, workdir })
        await body(t, { area, mounter, source, target, image })
        await mounter.close()
        t.same(await left({ threads: true }), [])
      })
      umount(join(source, 'sub'))
    })
  }
}

onEach('before the rootfs is attached', async (t, { mounter, source, target, image }) => {
  for (const form of mountForms) {
    const rootfs = await image()
    const inside = (path: string) => ({ mount: rootfs, path })
    const secrets = await form.bind(mounter, {
      source,
      target: inside('/var/run/secrets'),
      recursive: true,
      attributes: { readonly: true },
    })
    const run = await form.tmpfs(mounter, { target: inside('dev'), options: { size: '64k', mode: 0o755 } })
    t.equal(secrets.path, `${rootfs.path}/run/secrets`, 'where the links lead inside')
    t.notOk(secrets.detached)
    t.equal(readFileSync(join(secrets.path, 'sub/file'), 'utf8'), 'of the mount below')
    t.same(optionsAt(target), {}, 'nothing can be seen yet')
    await t.rejects(form.unmount(secrets), { code: 'ERR_INVALID_STATE', message: /inside a detached one/ })
    await t.rejects(form.setAttributes(secrets, { readonly: false }), { code: 'ERR_INVALID_STATE' })
    await t.rejects(form.moveTo(secrets, target), { code: 'ERR_INVALID_STATE' })
    await form.attach(rootfs, target)
    t.equal(secrets.path, join(target, 'run/secrets'))
    const seen = optionsAt(target)
    t.same(Object.keys(seen).sort(), ['', '/dev', '/run/secrets', '/run/secrets/sub'])
    t.equal(seen['/run/secrets/sub'], 'ro,relatime')
    await form.unmount(run)
    t.same(Object.keys(optionsAt(target)).sort(), ['', '/run/secrets', '/run/secrets/sub'])
    await form.unmount(run)
    await form.unmount(rootfs)
    t.same(optionsAt(target), {})
    t.throws(() => secrets.path, { code: 'ERR_INVALID_STATE' }, 'it has gone with the rootfs')
    await form.unmount(secrets)
    t.equal(readFileSync(join(source, 'sub/file'), 'utf8'), 'of the mount below', 'the source is as it was')
  }
})

onEach('links that lead out', async (t, { area, mounter, source, target, image }) => {
  for (const form of mountForms) {
    for (const attached of [false, true]) {
      const rootfs = await image()
      if (attached) await form.attach(rootfs, target)
      const bind = (path: string, create = false) =>
        form.bind(mounter, { source, target: { mount: rootfs, path }, create })
      // the image's /run, however it is named, and never the host's
      for (const path of ['/var/run', '/var/up', 'var/up/']) {
        const mount = await bind(path)
        t.equal(mount.path, join(rootfs.path, 'run'), path)
        if (attached) await form.unmount(mount)
      }
      const nowhere = { code: 'ELOOP', hint: /leads to nothing inside the mount/ }
      await t.rejects(bind('/host/c'), nowhere)
      await t.rejects(bind('/etc/dangling'), nowhere)
      await t.rejects(bind('/etc/dangling', true), nowhere)
      await t.rejects(bind('/loop/x'), { code: 'ELOOP' })
      await t.rejects(bind('/magic/etc'), { code: 'ELOOP' })
      await t.rejects(bind('/host/made/below', true), nowhere)
      t.notOk(existsSync(area.path('made')), 'nor is anything made')
      const made = await bind('/var/up/made/below', true)
      t.equal(made.path, join(rootfs.path, 'run/made/below'), 'made inside the image, where its link leads')
      await t.rejects(
        form.bind(mounter, { source: { mount: rootfs, path: '/etc/dangling' }, target: area.dir }),
        { code: 'ELOOP' },
      )
      await form.unmount(rootfs)
      execFileSync('rm', [
        '-rf',
        ...readdirSync(area.path('containers/c/upper')).map((n) => area.path('containers/c/upper', n)),
      ])
    }
  }
})

onEach('sources inside, and one in the other', async (t, { area, mounter, target, image }) => {
  for (const form of mountForms) {
    const rootfs = await image()
    const from = { mount: rootfs as Mount, path: '/dir' }
    const copy = await form.bind(mounter, { source: from, attributes: { readonly: true } })
    t.same(readdirSync(copy.path).sort(), ['from-0', 'from-1'])
    t.throws(() => writeFileSync(join(copy.path, 'new'), ''), { code: 'EROFS' })
    await form.attach(copy, { mount: rootfs, path: 'proc' })
    t.equal(copy.path, join(rootfs.path, 'proc'))
    const tmpfs = await form.tmpfs(mounter)
    mkdirSync(join(tmpfs.path, 'deep'))
    await form.attach(tmpfs, { mount: rootfs, path: '/run' })
    const deep = await form.bind(mounter, { source: from, target: { mount: tmpfs, path: 'deep' } })
    t.equal(deep.path, join(rootfs.path, 'run/deep'), 'a mount in a mount in a mount')
    await form.attach(rootfs, target)
    t.same(readdirSync(join(target, 'run/deep')).sort(), ['from-0', 'from-1'])
    t.equal(deep.path, join(target, 'run/deep'))
    await form.setAttributes(deep, { readonly: true })
    t.equal(optionsAt(target)['/run/deep'], 'ro,relatime')
    await form.moveTo(deep, join(target, 'dev')).then(
      () => t.equal(deep.path, join(target, 'dev')),
      (error) => t.match(error, { code: 'EINVAL', hint: /shared parent/ }),
    )
    await form.unmount(deep, { lazy: false })
    await form.unmount(tmpfs, { lazy: false })
    await form.unmount(copy, { lazy: false })
    await form.unmount(rootfs, { lazy: false })
    t.same(optionsAt(target), {})
    t.ok(area)
  }
})

onEach('another mount on top, another at its place', async (t, { mounter, source, target, image }) => {
  for (const form of mountForms) {
    const rootfs = await image()
    await form.attach(rootfs, target)
    const bind = await form.bind(mounter, { source, target: { mount: rootfs, path: 'proc' } })
    execFileSync('mount', ['-n', '-t', 'tmpfs', 'theirs', join(target, 'proc')])
    await t.rejects(form.unmount(bind), { code: 'EBUSY', hint: /another mount .* covers this one/ })
    await t.rejects(form.setAttributes(bind, { readonly: true }), { code: 'EBUSY' })
    execFileSync('umount', ['-n', join(target, 'proc')])
    execFileSync('umount', ['-n', join(target, 'proc')])
    await t.rejects(form.unmount(bind), { code: 'EINVAL', hint: /not mounted there any more/ })
    await form.unmount(rootfs)
    await form.unmount(bind)
  }
})

t.test('a rootfs that is unmounted while something is mounted in it', privileged, async (t) => {
  const area = scratch(t)
  const mounter = new Mounter()
  const left = watch()
  const rootfs = await mounter.mount({ lowerdir: hostile(area) })
  const made = mounter.mountTmpfs({ target: { mount: rootfs, path: 'run' } })
  const gone = rootfs.unmount()
  const tmpfs = await made
  await gone
  t.throws(() => tmpfs.path, { code: 'ERR_INVALID_STATE' })
  await t.rejects(mounter.mountTmpfs({ target: { mount: rootfs, path: 'run' } }), {
    code: 'ERR_INVALID_STATE',
  })
  const again = await mounter.mount({ lowerdir: area.layers(2) })
  const pending = mounter.mountTmpfs({ target: { mount: again, path: 'dir' } })
  t.throws(() => again.unmountSync(), { code: 'ERR_INVALID_STATE', message: /another operation/ })
  t.throws(() => mounter.mountTmpfsSync({ target: { mount: again, path: 'dir' } }), {
    message: /another operation/,
  })
  await pending
  await again.unmount()
  await mounter.close()
  t.same(await left({ threads: true }), [])
  t.ok(lstatSync(area.dir).isDirectory())
})

t.test(
  'a file that create made goes again, and no other that stands there by then',
  privileged,
  async (t) => {
    const area = scratch(t)
    const pool = nativePool(t)
    const fail = c.mkdir(area.dir, 0o700)
    for (const isReplaced of [false, true]) {
      const path = Buffer.from(area.path(`file-${isReplaced}`))
      const b = new PlanBuilder('made')
      createSteps(b, { path }, undefined, { isDirectory: false, parents: false })
      if (isReplaced) b.add(c.unlink(cwd, path), c.createFile(b.slot('other'), cwd, path, 0o600))
      b.add(fail)
      t.match(pool.run(b.build()), { status: 'failed', errno: 17 })
      t.equal(existsSync(path), isReplaced)
    }
  },
)
