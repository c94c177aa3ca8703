/**
 * What stands behind layers that are images: one superblock each, which file it is of, what is taken over from it,
 * fds and their budget. The images lie on an ext4: tmpfs cannot hold any.
 */
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  closeSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { type ImageLayer, LayerStack, Mounter } from '../../lib/index.js'
import { lgetxattr, llistxattr } from '../../lib/sys/file.js'
import { fds } from '../support/counts.js'
import { erofsImage, hasMkfsErofs, imagesOf } from '../support/images.js'
import { all, privileged } from '../support/needs.js'
import { imageWays, setXattrs } from '../support/rungs.js'
import { scratch } from '../support/scratch.js'
import { mapping, userNamespace } from '../support/userns.js'

const needs = all(privileged, hasMkfsErofs)

t.test('one superblock for an image, whoever mounts it', needs, async (t) => {
  const area = scratch(t)
  const { images } = imagesOf(area, area.layers(2))
  const mounter = new Mounter()
  // without xino, a file of a lower layer shows its superblock by a device of its own in each overlay
  const superblock = async (stack: LayerStack): Promise<number> => {
    const clone = await stack.mount({})
    try {
      return statSync(join(clone.path, 'each')).dev
    } finally {
      await clone.unmount()
    }
  }
  const open = (image: ImageLayer, idmap?: ReturnType<typeof mapping>) =>
    mounter.open({ lowerdir: [image], idmap })
  const [plain, same, mapped, other, shown] = await Promise.all([
    open(images[0]!),
    open({ image: Buffer.from(images[0]!.image) }),
    open(images[0]!, mapping()),
    open(images[1]!),
    open({ ...images[0]!, options: { acl: false } }),
  ])
  const first = await superblock(plain)
  t.equal(await superblock(same), first, 'two stacks')
  t.equal(await superblock(mapped), first, 'with a mapping: a clone of the mount')
  t.not(await superblock(other), first)
  t.not(await superblock(shown), first, 'other options')
  writeFileSync(images[0]!.image, readFileSync(images[0]!.image))
  const changed = await open(images[0]!)
  t.not(await superblock(changed), first, 'a file that was written to is another image')
  await Promise.all([plain, same, mapped, other, shown, changed].map((stack) => stack.close()))
  await mounter.close()
})

t.test('a mapping of its own costs a clone of each image, which explain counts', needs, async (t) => {
  const area = scratch(t)
  const { images } = imagesOf(area, area.layers(3))
  const container = await userNamespace(t, mapping(300_000))
  for (const idmap of [undefined, mapping()]) {
    const stack = await LayerStack.open({ lowerdir: [...images, ...area.layers(2, { below: 'd' })], idmap })
    const own = { ...area.container('c'), idmap: { userns: container.path } }
    const explained = stack.explain(own)
    t.equal(explained.cost.calls['open_tree_attr'], 4, 'three images, and the directory above the others')
    t.equal(explained.cost.namespaceSemWrites, 5)
    t.match(explained.notes.join(), /a clone of each of them \(3 more writes\)/)
    t.notMatch(stack.explain(area.container('d')).notes.join(), /clone/)
    const rootfs = await stack.mount(own)
    t.equal(lstatSync(join(rootfs.path, 'only-2')).uid, 300_000)
    t.match(container.owners(rootfs.path), ['dir d 755 0:0'], 'root of the container owns it')
    await rootfs.unmount()
    await stack.close()
  }
})

t.test('a file replaced or deleted: the stack serves what it has opened', needs, async (t) => {
  const area = scratch(t)
  const [top, other, base] = area.layers(3) as [string, string, string]
  const disk = area.ext4('disk')
  const image = erofsImage(join(disk, 'image'), top)
  const stack = await LayerStack.open({ lowerdir: [{ image }, base] })
  renameSync(erofsImage(join(disk, 'new'), other), image)
  const names = async (from: LayerStack) => {
    const rootfs = await from.mount({})
    const found = readdirSync(rootfs.path).filter((name) => name.startsWith('only'))
    await rootfs.unmount()
    return found.sort()
  }
  t.same(await names(stack), ['only-0', 'only-2'])
  const newer = await LayerStack.open({ lowerdir: [{ image }, base] })
  t.same(await names(newer), ['only-1', 'only-2'])
  unlinkSync(image)
  t.same(await names(newer), ['only-1', 'only-2'])
  await stack.close()
  await newer.close()
  await Mounter.default.idle()
  execFileSync('umount', ['-n', disk])
})

t.test('by fd: the file may have no name, and the fd stays the caller’s', needs, async (t) => {
  const area = scratch(t)
  const [top, base] = area.layers(2) as [string, string]
  const file = erofsImage(join(area.ext4('disk'), 'image'), top)
  const fd = openSync(file, 'r')
  unlinkSync(file)
  const stack = await LayerStack.open({ lowerdir: [{ image: fd }, base] })
  t.ok(statSync(`/proc/self/fd/${fd}`).isFile(), 'still open')
  closeSync(fd)
  const rootfs = await stack.mount(area.container('c'))
  t.equal(readFileSync(join(rootfs.path, 'each'), 'utf8'), 'layer 0')
  await rootfs.unmount()
  await stack.close()
})

t.test('create: a new upper takes over what the root of the image has', needs, async (t) => {
  const area = scratch(t)
  const [top, base] = area.layers(2) as [string, string]
  chownSync(top, 12, 34)
  chmodSync(top, 0o2750)
  setXattrs(top, { 'trusted.of-the-image': 'yes' })
  const image = erofsImage(join(area.ext4('disk'), 'image'), top)
  for (const { rung, idmap, shift } of imageWays) {
    const mounter = new Mounter({ rung })
    const dir = area.mkdir(rung)
    const [upperdir, workdir, target] = ['upper', 'work', 'rootfs'].map((name) => join(dir, name))
    const rootfs = await mounter.mount({
      lowerdir: [{ image }, base],
      ...{ upperdir, workdir, target },
      create: true,
      idmap,
    })
    const { mode, uid, gid } = statSync(upperdir!)
    t.same([mode & 0o7777, uid, gid], [0o2750, 12 + shift, 34 + shift], rung)
    t.equal(String(lgetxattr(upperdir!, 'trusted.of-the-image')), 'yes')
    await rootfs.unmount()
    await mounter.close()
  }
})

t.test('devices and options reach erofs', needs, async (t) => {
  const area = scratch(t)
  const [top, base] = area.layers(2) as [string, string]
  const disk = area.ext4('disk')
  writeFileSync(join(top, 'large'), Buffer.alloc(100_000, 'x'))
  setXattrs(join(top, 'each'), { 'user.shown': 'yes' })
  const blob = join(disk, 'blob')
  const image = erofsImage(join(disk, 'image'), top, '--chunksize=4096', `--blobdev=${blob}`)
  const plain = erofsImage(join(disk, 'plain'), top)
  const shifted = join(disk, 'shifted')
  writeFileSync(shifted, Buffer.concat([Buffer.alloc(8192), readFileSync(plain)]))
  const open = async <T>(layer: ImageLayer, look: (dir: string) => T): Promise<T> => {
    const stack = await LayerStack.open({ lowerdir: [layer, base] })
    const rootfs = await stack.mount({})
    try {
      return look(rootfs.path)
    } finally {
      await rootfs.unmount()
      await stack.close()
    }
  }
  const large = (dir: string) => readFileSync(join(dir, 'large')).equals(Buffer.alloc(100_000, 'x'))
  t.ok(await open({ image, devices: [blob] }, large))
  const fd = openSync(blob, 'r')
  t.ok(await open({ image, devices: [fd] }, large), 'a device by fd')
  closeSync(fd)
  t.ok(await open({ image: shifted, options: { fsoffset: 8192 } }, large))
  t.ok(
    await open({ image: plain, options: { directio: true, cache_strategy: 'disabled', acl: true } }, large),
  )
  const shown = (dir: string) => String(llistxattr(join(dir, 'each')))
  t.equal(await open({ image: plain }, shown), 'user.shown')
  t.equal(await open({ image: plain, options: { user_xattr: false } }, shown), '')
})

t.test('a budget without room: images are kept all the same, and counted', needs, async (t) => {
  const area = scratch(t)
  const layers = area.layers(4)
  const { images } = imagesOf(area, layers.slice(0, 2))
  for (const idmap of [undefined, mapping()]) {
    const mounter = new Mounter({ maxLayerFds: 4 })
    const before = fds().size
    const rest = layers.slice(2)
    const stack = await mounter.open({ lowerdir: [...images, ...rest], idmap })
    const calls = stack.explain(area.container('c')).cost.calls
    t.equal(calls['fchdir'] ?? 0, idmap ? 1 : 0, 'with a mapping an image takes two: directories go by name')
    const rootfs = await stack.mount(area.container('c'))
    t.equal(readFileSync(join(rootfs.path, 'only-1'), 'utf8'), 'layer 1')
    t.equal(readFileSync(join(rootfs.path, 'only-3'), 'utf8'), 'layer 3')
    await rootfs.unmount()
    await stack.close()
    const again = await mounter.open({ lowerdir: layers, idmap })
    t.equal(again.explain(area.container('c')).cost.calls['fchdir'] ?? 0, 0, 'given back')
    await again.close()
    await mounter.close()
    t.equal(fds().size, before)
  }
})

t.test('500 images', needs, async (t) => {
  const area = scratch(t)
  const layers = area.layers(500)
  const disk = area.ext4('disk', 64)
  const lowerdir = layers.map((dir, i) => ({ image: erofsImage(join(disk, String(i)), dir) }))
  const mounter = new Mounter()
  const before = fds().size
  const stack = await mounter.open({ lowerdir, idmap: mapping() })
  await mounter.idle()
  t.ok(fds().size - before < 1010, 'the root and its clone of each')
  const rootfs = await stack.mount(area.container('c'))
  t.equal(readdirSync(rootfs.path).filter((name) => name.startsWith('only-')).length, 500)
  await rootfs.unmount()
  await stack.close()
  await mounter.close()
  t.equal(fds().size, before)
})
