/**
 * erofs images as layers: their plans, and what is mounted of them on each rung: what is seen, whose it is, what
 * others see, and that the file and its device are free afterwards.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync, statSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { explain, Mounter } from '../../lib/index.js'
import { planImages } from '../../lib/overlay/images.js'
import { planLook } from '../../lib/overlay/look.js'
import { parseStack } from '../../lib/overlay/spec.js'
import { renderPlan } from '../../lib/program/explain.js'
import { held, type Plan } from '../../lib/program/plan.js'
import { fds } from '../support/counts.js'
import { hasMkfsErofs, imagesOf } from '../support/images.js'
import { mounts } from '../support/mountinfo.js'
import { all, privileged } from '../support/needs.js'
import { propagations, withPropagation } from '../support/peers.js'
import { forms, image as fourLayers, imageWays, merged, tree } from '../support/rungs.js'
import { scratch } from '../support/scratch.js'
import { mapping } from '../support/userns.js'
import { kernels } from './kernels.js'

const needs = all(privileged, hasMkfsErofs)
const lines = (plan: Plan) =>
  renderPlan(plan)
    .split('\n')
    .slice(1)
    .map((line) => line.trim().replace(/STATX_.*\b, statx/, '…'))

t.test('plans', async (t) => {
  const options = { acl: false, fsoffset: 4096 }
  const spec = parseStack({ lowerdir: ['/l', { image: '/i', devices: [7], options }, { image: 8 }] })
  const look = planLook(spec, kernels['6.18'])
  t.same(lines(look.plan).slice(2), [
    'openat(AT_FDCWD, "/i", O_RDONLY|O_CLOEXEC|O_PATH, 0) = file /i',
    'statx(file /i, "", AT_EMPTY_PATH, …)',
    'openat(AT_FDCWD, "/proc/self/fd/7", O_RDONLY|O_CLOEXEC|O_PATH, 0) = file fd 7',
    'statx(file fd 7, "", AT_EMPTY_PATH, …)',
    'openat(AT_FDCWD, "/proc/self/fd/8", O_RDONLY|O_CLOEXEC|O_PATH, 0) = file fd 8',
    'statx(file fd 8, "", AT_EMPTY_PATH, …)',
  ])
  t.same([...look.directories.keys()], [0])
  t.same([...look.images.keys()], [1, 2])
  const subjects = look.images.get(1)?.map(({ open }) => open.subject)
  t.match(subjects, [
    { option: 'lowerdir', index: 1 },
    { option: 'lowerdir[1].devices', index: 0, path: 'fd 7' },
  ])
  const { plan } = planImages(
    spec,
    [{ layer: 1, files: [held(20, '/i'), held(21, 'fd 7')] }],
    kernels['6.18'],
  )
  t.same(lines(plan), [
    'note: each image is a superblock of its own: a clone of it for each mapping, a grace period when it ends',
    'fsopen("erofs", FSOPEN_CLOEXEC) = fs',
    'fsconfig(fs, FSCONFIG_SET_STRING, "source", "/proc/self/fd/20", 0)',
    'fsconfig(fs, FSCONFIG_SET_STRING, "device", "/proc/self/fd/21", 0)',
    'fsconfig(fs, FSCONFIG_SET_FLAG, "noacl", NULL, 0)',
    'fsconfig(fs, FSCONFIG_SET_STRING, "fsoffset", "4096", 0)',
    'fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0)',
    'fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY) = image /i',
    'close(fs)',
    'statx(image /i, "", AT_EMPTY_PATH, …)',
  ])
  t.match(plan.cost, { namespaceSemWrites: 0, gracePeriods: 0, temporaryMounts: 0 })
})

t.test('kernels without: an error that names the feature, before anything is opened', async (t) => {
  const options = { lowerdir: [{ image: '/i' }, '/l'], target: '/t' }
  const rung = { code: 'ERR_OVERLAYFD_RUNG' }
  t.throws(() => explain(options, { features: kernels['6.13'] }), {
    ...rung,
    message: /direct: detachedLayers is missing \(.*\); erofs images as layers need Linux 6\.15/,
  })
  const reasons = { erofsImages: 'ENODEV: the kernel has no erofs' }
  const features = { ...kernels['6.18'], erofsImages: false, reasons }
  for (const name of ['direct', 'classic'] as const) {
    const message = /erofsImages is missing \(ENODEV: the kernel has no erofs\)/
    t.throws(() => explain(options, { features, rung: name }), { ...rung, message }, name)
  }
  t.throws(() => explain({ ...options, idmap: mapping() }, { features }), { ...rung, message: /erofsImages/ })
  t.ok(explain({ ...options, lowerdir: ['/l', '/m'] }, { features }), 'directories need none of it')
})

t.test('explain counts the clones', async (t) => {
  const lowerdir = [{ image: '/a' }, { image: '/b' }, '/l/1', '/l/2']
  const cost = (idmap?: ReturnType<typeof mapping>) =>
    explain({ lowerdir, target: '/t', idmap }, { features: kernels['6.18'] }).cost
  t.equal(cost().calls['fsopen'], 3, 'two images and the overlay')
  t.equal(cost().calls['open_tree_attr'], undefined)
  t.equal(cost(mapping()).calls['open_tree_attr'], 3, 'one for both directories, one for each image')
  const { notes } = explain({ lowerdir, target: '/t' }, { features: kernels['6.18'] })
  t.match(notes.join(), /each image is a superblock of its own: a clone of it for each mapping/)
})

for (const { rung, idmap, shift } of imageWays) {
  for (const form of forms) {
    t.test(`${rung}, ${form.name}: the same rootfs as from directories`, needs, async (t) => {
      const area = scratch(t)
      const layers = fourLayers(area)
      const { disk, images } = imagesOf(area, layers)
      const mounter = new Mounter({ rung })
      const before = fds().size
      // an image between directories, too
      for (const lowerdir of [images, [images[0]!, layers[1]!, layers[2]!, images[3]!]]) {
        const stack = await form.open(mounter, { lowerdir, idmap })
        const at = area.container('c')
        const rootfs = await form.stackMount(stack, at)
        t.equal(rootfs.rung, rung)
        t.same(tree(rootfs.path), merged(shift))
        writeFileSync(join(rootfs.path, 'each'), 'written')
        t.equal(readFileSync(join(at.upperdir, 'each'), 'utf8'), 'written', 'copied up')
        unlinkSync(join(at.upperdir, 'each'))
        await form.unmount(rootfs)
        await form.close(stack)
      }
      const once = await form.mount(mounter, { lowerdir: images, idmap, target: area.mkdir('t') })
      t.same(tree(once.path), merged(shift))
      await form.unmount(once)
      await mounter.close()
      t.equal(fds().size, before, 'every fd is closed')
      for (const { image } of images) unlinkSync(image)
      execFileSync('umount', ['-n', disk])
    })
  }

  t.test(`${rung}: one image alone is a read-only clone`, needs, async (t) => {
    const area = scratch(t)
    const { images } = imagesOf(area, area.layers(1))
    const mounter = new Mounter({ rung })
    const stack = await mounter.open({ lowerdir: images, idmap })
    const target = area.mkdir('t')
    const rootfs = await stack.mount({ target })
    t.match(rootfs.notes.join(), /read-only clone of that layer/)
    t.equal(readFileSync(join(target, 'each'), 'utf8'), 'layer 0')
    t.equal(statSync(join(target, 'each')).uid, shift)
    t.throws(() => writeFileSync(join(target, 'new'), ''), { code: 'EROFS' })
    await rootfs.unmount()
    await stack.close()
    await mounter.close()
  })

  for (const propagation of propagations) {
    t.test(`${rung}, / ${propagation}: nothing but the target is ever attached`, needs, async (t) => {
      const area = scratch(t)
      const { images } = imagesOf(area, area.layers(2))
      const mounter = new Mounter({ rung })
      await withPropagation(t, propagation, async () => {
        const before = mounts().length
        const stack = await mounter.open({ lowerdir: images, idmap })
        t.equal(mounts().length, before, 'an open stack is in no table')
        const rootfs = await stack.mount(area.container('c'))
        t.equal(mounts().length, before + 1)
        t.notOk(mounts().some(({ type }) => String(type) === 'erofs'))
        await rootfs.unmount()
        await stack.close()
        t.equal(mounts().length, before)
      })
      await mounter.close()
    })
  }
}
