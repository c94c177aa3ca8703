import { closeSync, existsSync, openSync, symlinkSync, writeFileSync } from 'node:fs'
import t from 'tap'
import * as sys from '../../lib/sys.js'
import { mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { read, scratch } from '../support/scratch.js'
import { captured, refusal } from './owned.js'

t.test('a new mount, with options', privileged, async (t) => {
  const target = scratch(t).mkdir('target')
  sys.mount('a source', target, 'tmpfs', [sys.MS_NOSUID, sys.MS_NOEXEC], 'size=64k,mode=700')
  t.match(mounts().at(-1), {
    source: Buffer.from('a source'),
    type: 'tmpfs',
    attributes: ['rw', 'nosuid', 'noexec', 'relatime'],
    options: ['rw', 'size=64k', 'mode=700'],
  })
  sys.umount(target)
})

t.test('an overlay', privileged, async (t) => {
  const area = scratch(t)
  const target = area.mkdir('target')
  sys.mount('overlay', target, 'overlay', 0, `lowerdir=${area.layers(2).join(':')}`)
  t.same(read(target, 'each', 'only-1'), ['layer 0', 'layer 1'])
  sys.umount(target)
})

t.test('bind, remount, propagation: a call each', privileged, async (t) => {
  const area = scratch(t)
  const [source, target] = [area.mkdir('source'), area.mkdir('target')]
  sys.mount(source, target, null, [sys.MS_BIND, sys.MS_RDONLY])
  writeFileSync(`${target}/file`, 'MS_RDONLY was ignored')
  sys.mount(null, target, null, [sys.MS_REMOUNT, sys.MS_BIND, sys.MS_RDONLY])
  t.match(
    captured(() => writeFileSync(`${target}/file`, '')),
    { code: 'EROFS' },
  )
  sys.mount(null, target, null, [sys.MS_SHARED, sys.MS_REC])
  t.match(mounts().at(-1)?.propagation, [/^shared:/])
  sys.umount(target)
})

t.test('data that the kernel would cut', async (t) => {
  const error = captured(() => sys.mount('none', '/nonexistent', 'tmpfs', 0, 'x'.repeat(4096)))
  t.match(error, { name: 'RangeError', code: 'ERR_OUT_OF_RANGE', message: '"data"' })
  const kernels = captured(() => sys.mount('none', '/nonexistent', 'tmpfs', 0, 'x'.repeat(4095)))
  t.match(kernels, { syscall: 'mount' })
})

t.test('unmounting: what is in use, and a symbolic link', privileged, async (t) => {
  const area = scratch(t)
  const target = area.mkdir('target')
  sys.mount('none', target, 'tmpfs')
  symlinkSync(target, area.path('link'))
  const error = refusal(() => sys.umount(area.path('link'), sys.UMOUNT_NOFOLLOW))
  t.match(error, { code: 'EINVAL', syscall: 'umount2', path: area.path('link') })
  t.equal(error.call, `umount2("${area.path('link')}", UMOUNT_NOFOLLOW)`)
  writeFileSync(`${target}/file`, 'kept')
  const fd = openSync(`${target}/file`, 'r')
  t.equal(refusal(() => sys.umount(target)).code, 'EBUSY')
  sys.umount(target, [sys.MNT_DETACH, sys.UMOUNT_NOFOLLOW])
  t.notOk(existsSync(`${target}/file`))
  closeSync(fd)
  t.equal(refusal(() => sys.umount(target)).code, 'EINVAL')
})

t.test('both paths are in the error', privileged, async (t) => {
  const error = refusal(() => sys.mount('/source', '/nonexistent', 'tmpfs', [sys.MS_NODEV], 'size=1k'))
  t.match(error, { code: 'ENOENT', syscall: 'mount', path: '/source', dest: '/nonexistent' })
  t.equal(error.call, 'mount("/source", "/nonexistent", "tmpfs", MS_NODEV, "size=1k")')
  const propagation = refusal(() => sys.mount(null, '/nonexistent', null, [sys.MS_REC, sys.MS_PRIVATE]))
  t.match(propagation, { path: '/nonexistent', dest: undefined })
  t.equal(propagation.call, 'mount(NULL, "/nonexistent", NULL, MS_REC|MS_PRIVATE, NULL)')
})
