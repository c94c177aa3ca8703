/**
 * On a real kernel, what else hangs on it: options that overlay does not know yet, layers that cannot be idmapped,
 * images, a rootfs handed over and found again by ids that may be used again, binds and tmpfs by fd and by mount(2).
 */
import { spawnSync } from 'node:child_process'
import { lstatSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { Mounter, type OverlayOptions, Rootfs, reconcile } from '../../lib/index.js'
import { watch } from '../support/left.js'
import { isBelow, mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { ways } from '../support/rungs.js'
import { mapping } from '../support/userns.js'
import { area, memory } from './area.js'
import { isSince, serving } from './expected.js'

const shownAt = (dir: string) => mounts().filter((mount) => isBelow(mount, dir))
const servingWays = ways.filter(({ rung }) => serving.includes(rung))

/** Options of several ages, and how mountinfo shows them. */
const options: readonly [OverlayOptions, since: string, shown: RegExp | undefined][] = [
  [{ volatile: true }, '5.10', /\bvolatile\b/],
  [{ index: 'on' }, '4.13', /,index=on\b/],
  [{ redirect_dir: 'on' }, '4.10', /,redirect_dir=on\b/],
  [{ metacopy: 'on' }, '4.19', /,metacopy=on\b/],
  [{ xino: 'on' }, '4.17', undefined],
  [{ uuid: 'null' }, '6.6', /,uuid=null\b/],
  [{ verity: 'on', metacopy: 'on' }, '6.6', /,verity=on\b/],
  [{ override_creds: true }, '6.15', undefined],
]

for (const { rung, idmap } of servingWays) {
  t.test(`options of this kernel’s overlay, and later ones: ${rung}`, privileged, async (t) => {
    const lowerdir = area.layers(2, { below: 'plain' })
    const mounter = new Mounter({ rung })
    const left = watch()
    for (const [option, since, shown] of options) {
      const [name] = Object.keys(option) as [string]
      const at = area.container(`${name}-${rung}`)
      const mount = () => mounter.mount({ lowerdir, ...at, idmap, options: option })
      if (isSince(since)) {
        const rootfs = await mount()
        if (shown) t.match(`,${shownAt(at.target)[0]?.options.join()}`, shown, name)
        await rootfs.unmount({ wait: 'teardown' })
      } else {
        // by name: before the mount where overlay's context tells (6.5), else after it has failed
        await t.rejects(
          mount(),
          { message: new RegExp(`\\b${name}\\b`), code: /^(ERR_OVERLAYFD_UNSUPPORTED|EINVAL)$/ },
          name,
        )
        t.same(shownAt(at.target), [])
      }
    }
    await mounter.close()
    t.same(await left({ threads: true }), [])
  })
}

t.test('layers on a tmpfs take an idmap since Linux 6.3', privileged, async (t) => {
  const lowerdir = memory.layers(2)
  for (const { rung, idmap, shift } of servingWays.filter(({ idmap }) => idmap)) {
    const mounter = new Mounter({ rung })
    const left = watch()
    const at = memory.container(rung)
    if (isSince('6.3')) {
      const rootfs = await mounter.mount({ lowerdir, ...at, idmap })
      t.equal(lstatSync(join(at.target, 'each')).uid, shift)
      await rootfs.unmount()
    } else {
      const error = { code: 'EINVAL', syscall: 'mount_setattr', hint: /does not support idmapped mounts/ }
      await t.rejects(mounter.mount({ lowerdir, ...at, idmap }), error, rung)
    }
    await mounter.close()
    t.same(await left({ threads: true }), [], rung)
  }
})

t.test('erofs images as layers take 6.15', privileged, async (t) => {
  if (isSince('6.15')) return t.pass('images.test.ts mounts them')
  writeFileSync(area.path('image'), '')
  const options = {
    lowerdir: [{ image: area.path('image') }, ...area.layers(1, { below: 'plain' })],
    target: area.mkdir('image-target'),
  }
  await t.rejects(new Mounter().mount(options), {
    code: 'ERR_OVERLAYFD_RUNG',
    message: /erofs images as layers need Linux 6\.15/,
  })
})

for (const { rung, idmap } of servingWays) {
  t.test(`handed over, and what is in its way told apart: ${rung}`, privileged, async (t) => {
    const lowerdir = area.layers(2, { below: 'plain' })
    const at = area.container(`handed-over-${rung}`)
    const mounter = new Mounter({ rung })
    const left = watch()
    const first = await mounter.mount({ lowerdir, ...at, idmap })
    const json = JSON.stringify(first)
    t.equal(JSON.parse(json).unique, isSince('6.8'), 'ids that are never used again')
    first.release()
    const second = await Rootfs.open(json, { mounter })
    t.equal(second.mountId, first.mountId)
    const cover = await mounter.mountTmpfs({ target: at.target })
    await t.rejects(Rootfs.open(json, { mounter }), { code: 'ERR_OVERLAYFD_MOUNT_COVERED' })
    await t.rejects(second.unmount(), /covers/, 'what covers it is not taken away')
    await cover.unmount()
    await second.unmount({ wait: 'teardown' })
    await t.rejects(Rootfs.open(json, { mounter }), { code: 'ERR_OVERLAYFD_MOUNT_GONE' })
    await mounter.close()
    t.same(await left({ threads: true }), [])
  })
}

t.test('reconcile finds what a killed process has left, whatever its rung', privileged, async (t) => {
  const lowerdir = area.layers(2, { below: 'plain' })
  const wanted = servingWays.map(({ rung, idmap }) => ({ rung, idmap, target: area.mkdir('run', rung) }))
  const text = `
    import { Mounter } from ${JSON.stringify(new URL('../../.tap/kernels/lib.mjs', import.meta.url).href)}
    for (const { rung, idmap, target } of ${JSON.stringify(wanted)})
      await new Mounter({ rung }).mount({ lowerdir: ${JSON.stringify(lowerdir)}, target, idmap })
    process.kill(process.pid, 'SIGKILL')`
  const { signal, stderr } = spawnSync(
    'env',
    ['--unset=NODE_OPTIONS', process.execPath, '--input-type=module', '-e', text],
    {
      encoding: 'utf8',
    },
  )
  t.equal(signal, 'SIGKILL', stderr)
  const listed = await reconcile(area.path('run'))
  t.same(listed.map(({ target }) => target).sort(), wanted.map(({ target }) => target).sort())
  for (const { owner, mountId } of listed) {
    t.match(owner, { isAlive: false })
    t.type(mountId, 'bigint')
  }
  const done = await reconcile(area.path('run'), { unmount: true })
  t.ok(done.every(({ isUnmounted }) => isUnmounted))
  t.same(shownAt(area.path('run')), [])
})

for (const rung of ['auto', 'classic'] as const) {
  t.test(`binds and tmpfs: ${rung}`, privileged, async (t) => {
    const source = area.container(`source-${rung}`).upperdir
    const target = area.mkdir(`target-${rung}`)
    writeFileSync(join(source, 'file'), 'of the volume')
    const mounter = new Mounter({ rung })
    const left = watch()
    const attributes = {
      readonly: true,
      nosuid: true,
      nodev: true,
      atime: 'noatime',
      recursive: false,
    } as const
    const bind = await mounter.mountBind({ source, target, attributes })
    t.equal(bind.rung, rung === 'classic' ? 'classic' : 'direct')
    t.equal(readFileSync(join(target, 'file'), 'utf8'), 'of the volume')
    t.equal(shownAt(target)[0]?.attributes.join(), 'ro,nosuid,nodev,noatime')
    await bind.setAttributes({ noexec: true })
    t.match(shownAt(target)[0]?.attributes, ['ro', 'nosuid', 'nodev', 'noexec', 'noatime'])
    await bind.unmount()
    const idmapped = mounter.mountBind({ source, target, idmap: mapping() })
    if (rung === 'classic') await t.rejects(idmapped, { code: 'ERR_OVERLAYFD_RUNG' })
    else {
      const shifted = await idmapped
      t.equal(lstatSync(join(target, 'file')).uid, 100_000)
      await shifted.unmount()
    }
    const tmpfs = await mounter.mountTmpfs({
      target,
      options: { size: 1 << 20, mode: 0o700, nr_inodes: 10 },
      attributes: { noexec: true },
    })
    t.match(shownAt(target)[0], { type: 'tmpfs', attributes: ['rw', 'noexec', 'relatime'] })
    t.match(shownAt(target)[0]?.options.join(), /size=1024k.*nr_inodes=10.*mode=700/)
    await tmpfs.unmount()
    t.same(shownAt(target), [])
    await mounter.close()
    t.same(await left({ threads: true }), [])
  })
}
