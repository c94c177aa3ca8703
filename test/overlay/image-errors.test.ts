/** Images that cannot be mounted: which layer it is and why, and that nothing is left. */
import { execFileSync, spawn } from 'node:child_process'
import { closeSync, copyFileSync, openSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { type ImageLayer, type MountError, Mounter, mountOverlay } from '../../lib/index.js'
import { dist, run } from '../support/child.js'
import { fds } from '../support/counts.js'
import { erofsImage, hasMkfsErofs } from '../support/images.js'
import { all, privileged, programs } from '../support/needs.js'
import { scratch } from '../support/scratch.js'
import { straceModule } from '../support/strace.js'
import { mapping } from '../support/userns.js'

const needs = all(privileged, hasMkfsErofs)

t.test('the layer, the file and the reason are named', needs, async (t) => {
  const area = scratch(t)
  const [top, base] = area.layers(2) as [string, string]
  const disk = area.ext4('disk')
  const at = (name: string) => join(disk, name)
  const good = erofsImage(at('good'), top)
  writeFileSync(at('junk'), Buffer.alloc(65_536, 'x'))
  writeFileSync(at('empty'), '')
  const broken = readFileSync(good)
  broken.writeUInt16LE(0xffff, 1024 + 14)
  writeFileSync(at('broken'), broken)
  execFileSync('mkfifo', [at('pipe')])
  copyFileSync(good, area.path('on-tmpfs'))
  const fd = openSync(disk, 'r')
  const table: [string, ImageLayer | string, string, RegExp][] = [
    ['no image', { image: at('junk') }, 'EINVAL', /^lowerdir\[1\] \(".*junk"\) is no valid erofs image: it has no superblock of erofs$/],
    ['empty', { image: at('empty') }, 'EINVAL', /is no valid erofs image: it has no superblock/],
    ['a wrong offset', { image: good, options: { fsoffset: 4096 } }, 'EINVAL', /superblock of erofs at options.fsoffset, 4096/],
    ['corrupted', { image: at('broken') }, 'EBADMSG', /^lowerdir\[1\] \(".*broken"\) is no valid erofs image: it is corrupted/],
    ['not there', { image: at('none') }, 'ENOENT', /^lowerdir\[1\] \(".*none"\) does not exist$/],
    ['below a file', { image: join(good, 'x') }, 'ENOTDIR', /lowerdir\[1\]/],
    ['a directory', { image: top }, 'EISDIR', /^lowerdir\[1\] \(".*"\) is a directory, and an image is a file/],
    ['an fd of a directory', { image: fd }, 'EISDIR', /^lowerdir\[1\] \("fd \d+"\) is a directory/],
    ['a pipe', { image: at('pipe') }, 'EINVAL', /is no regular file/],
    ['a device', { image: '/dev/null' }, 'EINVAL', /is no regular file/],
    ['no fd', { image: 99_999 }, 'ENOENT', /^lowerdir\[1\] \("fd 99999"\) is not an open fd$/],
    ['on a tmpfs', { image: area.path('on-tmpfs') }, 'ENOTBLK', /is on a file system \(type 0x1021994\) that erofs cannot read an image from/],
    ['a device that is not there', { image: good, devices: [at('none')] }, 'ENOENT', /^lowerdir\[1\]\.devices\[0\] \(".*none"\) does not exist$/],
    ['a device that is a pipe', { image: good, devices: [good, at('pipe')] }, 'EINVAL', /^lowerdir\[1\]\.devices\[1\] .*is no regular file/],
    ['devices of another image', { image: good, devices: [at('junk')] }, 'EINVAL', /does not fit its devices/],
    ['an image given as a directory', good, 'ENOTDIR', /^lowerdir\[1\] \(".*good"\) is an erofs image: it is given as { image: path }$/],
  ] // biome-ignore format: a table
  const mounter = new Mounter()
  for (const idmap of [undefined, mapping()]) {
    for (const [name, layer, code, hint] of table) {
      const before = fds().size
      const options = { lowerdir: [{ image: good }, layer, base], idmap }
      const error = (await mounter.mount(options).catch((error) => error)) as MountError
      t.match(error, { name: 'MountError', code, hint }, name)
      t.equal(error.path, typeof layer === 'object' && layer.image === fd ? `fd ${fd}` : error.path)
      await mounter.trim()
      t.equal(fds().size, before, `${name}: nothing is left open`)
      t.throws(() => mounter.openSync(options), { code, hint }, name)
      await mounter.trim()
    }
  }
  closeSync(fd)
  const data = { lowerdir: [top, base], datadir: [base, { image: at('junk') }] }
  await t.rejects(mounter.mount(data), { code: 'EINVAL', hint: /^datadir\[1\] .*no valid erofs image/ })
  await t.rejects(mounter.mount({ lowerdir: [{ image: good }, { image: good }] }), {
    code: 'ELOOP',
    hint: 'lowerdir[0] and lowerdir[1] are the same directory',
  })
  await mounter.close()
})

t.test('what is missing at the end of a file shows when it is read', needs, async (t) => {
  const area = scratch(t)
  const [top, base] = area.layers(2) as [string, string]
  writeFileSync(join(top, 'large'), Buffer.alloc(100_000, 'x'))
  const image = erofsImage(join(area.ext4('disk'), 'image'), top)
  truncateSync(image, 8192)
  const rootfs = await mountOverlay({ lowerdir: [{ image }, base] })
  t.throws(() => readFileSync(join(rootfs.path, 'large')), { code: /EIO|EUCLEAN/ })
  await rootfs.unmount()
  await Mounter.default.trim()
})

t.test('what the kernel may answer besides', all(needs, programs('strace')), async (t) => {
  const area = scratch(t)
  const [top, base] = area.layers(2) as [string, string]
  const disk = area.ext4('disk')
  const images = [0, 1, 2, 3, 4, 5].map((i) => ({ image: erofsImage(join(disk, `${i}`), top) }))
  const script = `
    import { Mounter } from ${JSON.stringify(dist('index.js'))}
    const mounter = new Mounter({ threads: 1 })
    const lowerdir = ${JSON.stringify([...images, base])}
    const { code, hint } = await mounter.mount({ lowerdir }).catch((error) => error)
    console.log(JSON.stringify({ code, hint }))
    await mounter.close()`
  // source and CREATE of each image; the probe makes fewer
  const table: [string, RegExp][] = [
    ['EUCLEAN', /^lowerdir\[5\] .* is no valid erofs image: it is corrupted/],
    ['EIO', /^lowerdir\[5\] .* is no valid erofs image, or has features that this kernel lacks/],
    [
      'EOPNOTSUPP',
      /^lowerdir\[5\] .* is an erofs image with features or a compression that this kernel lacks/,
    ],
    ['EACCES', /^no permission to read lowerdir\[5\]/],
    ['EPERM', /^no permission to read lowerdir\[5\]/],
  ]
  for (const [code, hint] of table) {
    const inject = `--inject=fsconfig:error=${code}:when=12`
    const { stdout, stderr } = await straceModule(script, { trace: 'fsconfig', strace: [inject] })
    t.equal(stderr, '')
    t.match(JSON.parse(stdout), { code, hint }, code)
  }
})

t.test('inside a user namespace: the feature is named', needs, async (t) => {
  const script = `
    import { features, mountOverlay } from ${JSON.stringify(dist('index.js'))}
    const { code, message } = await mountOverlay({ lowerdir: [{ image: '/i' }, '/'], target: '/mnt' }).catch((error) => error)
    console.log(JSON.stringify({ code, message, there: features().erofsImages, reasons: features().reasons }))`
  const args = [
    '--user',
    '--map-root-user',
    '--mount',
    process.execPath,
    '--input-type=module',
    '--eval',
    script,
  ]
  const { stdout, stderr } = await run('unshare', args)
  t.equal(stderr, '')
  t.match(JSON.parse(stdout), {
    code: 'ERR_OVERLAYFD_RUNG',
    message: /erofsImages is missing \(EPERM: .*user namespace/,
    there: false,
    reasons: { erofsImages: /^EPERM/ },
  })
})

t.test('a pipe given as a layer is not opened to look for a reason', privileged, async (t) => {
  const area = scratch(t)
  const pipe = area.path('pipe')
  execFileSync('mkfifo', [pipe])
  // held up until somebody reads
  const writer = spawn('sh', ['-c', 'exec 3>"$0"', pipe], { stdio: 'ignore' })
  t.teardown(() => writer.kill())
  await sleep(300)
  const refused = { code: 'ENOTDIR', message: /lowerdir\[1\]/ }
  await t.rejects(mountOverlay({ lowerdir: [area.layers(1)[0] as string, pipe] }), refused)
  await sleep(300)
  t.equal(writer.exitCode, null, 'who writes to it still waits')
})
