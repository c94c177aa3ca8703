import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import t from 'tap'
import * as sys from '../../lib/sys.js'
import { privileged } from '../support/needs.js'
import { read, scratch } from '../support/scratch.js'
import { captured, owned, refusal } from './owned.js'

const { AT_FDCWD, MOVE_MOUNT_F_EMPTY_PATH } = sys

t.test('a tmpfs, from context to mount', privileged, async (t) => {
  const target = scratch(t).mkdir('target')
  const fs = owned(t, sys.fsopen('tmpfs'))
  sys.fsconfigSetString(fs, 'size', '64k')
  sys.fsconfigSetFlag(fs, 'ro')
  sys.fsconfigCreate(fs)
  const mount = sys.fsmount(fs, 0, [sys.MOUNT_ATTR_NOSUID, sys.MOUNT_ATTR_NOATIME])
  const detached = sys.fstatfs(mount)
  t.equal(detached.type, sys.TMPFS_MAGIC)
  t.equal(detached.blocks * detached.frsize, 65536n)
  const wanted = sys.ST_RDONLY | sys.ST_NOSUID | sys.ST_NOATIME
  t.equal(detached.flags & (wanted | sys.ST_NODEV), wanted)
  sys.moveMount(mount, '', AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH)
  sys.close(mount)
  t.ok(sys.statx(AT_FDCWD, target).isMountRoot)
  t.match(
    captured(() => writeFileSync(`${target}/file`, '')),
    { code: 'EROFS' },
  )
  sys.umount(target)
  t.notOk(sys.statx(AT_FDCWD, target).isMountRoot)
})

t.test('an overlay by file descriptors', privileged, async (t) => {
  const area = scratch(t)
  const { upperdir, workdir, target } = area.container('c')
  const open = (path: string): number =>
    owned(t, sys.openat2(AT_FDCWD, path, { flags: [sys.O_PATH, sys.O_DIRECTORY] }))
  const fs = owned(t, sys.fsopen('overlay'))
  for (const layer of area.layers(2)) sys.fsconfigSetFd(fs, 'lowerdir+', open(layer))
  sys.fsconfigSetFd(fs, 'upperdir', open(upperdir))
  sys.fsconfigSetFd(fs, 'workdir', open(workdir))
  sys.fsconfigCreate(fs)
  const mount = sys.fsmount(fs)
  t.equal(sys.fstatfs(mount).type, sys.OVERLAYFS_SUPER_MAGIC)
  t.same(read(`/proc/self/fd/${mount}`, 'each', 'only-1'), ['layer 0', 'layer 1'])
  sys.moveMount(mount, '', AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH)
  sys.close(mount)
  writeFileSync(`${target}/new`, 'of the container')
  t.equal(readFileSync(`${upperdir}/new`, 'utf8'), 'of the container')
  sys.umount(target)
})

t.test('names of any bytes, without escapes', privileged, async (t) => {
  const area = scratch(t)
  const names = ['a:b,c\\d', 'new\nline', Buffer.from([0x6c, 0xff, 0xfe])]
  const fs = owned(t, sys.fsopen('overlay'))
  for (const [index, name] of names.entries()) {
    const path = Buffer.concat([Buffer.from(`${area.dir}/`), Buffer.from(name)])
    mkdirSync(path)
    writeFileSync(Buffer.concat([path, Buffer.from(`/only-${index}`)]), `layer ${index}`)
    sys.fsconfigSetString(fs, 'lowerdir+', path)
  }
  sys.fsconfigCreate(fs)
  const mount = owned(t, sys.fsmount(fs))
  t.same(read(`/proc/self/fd/${mount}`, 'only-0', 'only-1', 'only-2'), ['layer 0', 'layer 1', 'layer 2'])
})

t.test('a superblock of its own, or none', privileged, async (t) => {
  const create = (make: (fsFd: number) => void): void => {
    const fs = owned(t, sys.fsopen('sysfs'))
    make(fs)
  }
  create(sys.fsconfigCreate)
  const error = refusal(() => create(sys.fsconfigCreateExclusive))
  t.match(error, { code: 'EBUSY', call: /^fsconfig\(\d+, FSCONFIG_CMD_CREATE_EXCL, NULL, NULL, 0\)$/ })
  const tmpfs = owned(t, sys.fsopen('tmpfs'))
  sys.fsconfigCreateExclusive(tmpfs)
})

t.test('a superblock is changed for all of its mounts', privileged, async (t) => {
  const area = scratch(t)
  const other = area.mkdir('other')
  sys.mount(area.dir, other, null, sys.MS_BIND)
  t.teardown(() => sys.umount(other))
  const fs = owned(t, sys.fspick(AT_FDCWD, area.dir, sys.FSPICK_NO_AUTOMOUNT))
  sys.fsconfigSetFlag(fs, 'ro')
  sys.fsconfigReconfigure(fs)
  t.match(
    captured(() => writeFileSync(`${other}/file`, '')),
    { code: 'EROFS' },
  )
  const back = owned(t, sys.fspick(owned(t, sys.openTree(AT_FDCWD, other)), '', sys.FSPICK_EMPTY_PATH))
  sys.fsconfigSetFlag(back, 'rw')
  sys.fsconfigReconfigure(back)
  writeFileSync(`${area.dir}/file`, '')
  const inside = refusal(() => sys.fspick(AT_FDCWD, area.mkdir('inside')))
  t.match(inside, { code: 'EINVAL', syscall: 'fspick', path: area.path('inside') })
})

t.test('a mount is made once, and after the superblock', privileged, async (t) => {
  const fs = owned(t, sys.fsopen('tmpfs'))
  t.match(
    refusal(() => sys.fsmount(fs)),
    { code: 'EINVAL', call: `fsmount(${fs}, FSMOUNT_CLOEXEC, 0)` },
  )
  sys.fsconfigCreate(fs)
  t.equal(refusal(() => sys.fsconfigCreate(fs)).code, 'EBUSY')
  const noIdmap = refusal(() => sys.fsmount(fs, 0, [sys.MOUNT_ATTR_IDMAP, sys.MOUNT_ATTR_RDONLY]))
  t.match(noIdmap, { code: 'EINVAL', call: /MOUNT_ATTR_RDONLY\|MOUNT_ATTR_IDMAP/ })
  owned(t, sys.fsmount(fs))
  t.equal(refusal(() => sys.fsmount(fs)).code, 'EBUSY')
})

t.test('an unknown filesystem', privileged, async (t) => {
  const error = refusal(() => sys.fsopen('nonsense'))
  t.equal(error.message, 'ENODEV: no such device, fsopen("nonsense", FSOPEN_CLOEXEC)')
})
