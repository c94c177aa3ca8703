import { statfsSync, statSync, symlinkSync, utimesSync } from 'node:fs'
import t from 'tap'
import { parseStatx } from '../../lib/sys/stat.js'
import * as sys from '../../lib/sys.js'
import { mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { scratch } from '../support/scratch.js'
import { owned, refusal } from './owned.js'

const { AT_EMPTY_PATH, AT_FDCWD } = sys

t.test('statx answers what stat answers', async (t) => {
  const dir = t.testdir({ file: 'x'.repeat(5000) })
  utimesSync(`${dir}/file`, 1000.25, 2000.5)
  for (const path of [`${dir}/file`, dir, '/dev/null', '/proc/self']) {
    const model = statSync(path, { bigint: true })
    const stat = sys.statx(AT_FDCWD, path)
    for (const key of ['ino', 'size', 'blocks', 'atimeNs', 'ctimeNs', 'mtimeNs'] as const) {
      t.equal(stat[key], model[key], `${key} of ${path}`)
    }
    for (const key of ['mode', 'nlink', 'uid', 'gid'] as const) t.equal(stat[key], Number(model[key]), key)
    t.equal(stat.blksize, Number(model.blksize))
    // makedev(3)
    const device = (major: number, minor: number) =>
      (BigInt(major & 0xfff) << 8n) | BigInt(minor & 0xff) | (BigInt(minor & ~0xff) << 12n)
    t.equal(device(stat.devMajor, stat.devMinor), model.dev)
    t.equal(device(stat.rdevMajor, stat.rdevMinor), model.rdev)
  }
})

t.test('a symbolic link, an fd, a missing file', async (t) => {
  const dir = t.testdir({})
  symlinkSync('none', `${dir}/link`)
  t.equal(sys.statx(AT_FDCWD, `${dir}/link`, sys.AT_SYMLINK_NOFOLLOW).mode >> 12, 0o12)
  const fd = owned(t, sys.openat2(AT_FDCWD, dir, { flags: sys.O_PATH }))
  t.equal(sys.statx(fd, '', AT_EMPTY_PATH).ino, statSync(dir, { bigint: true }).ino)
  const error = refusal(() => sys.statx(fd, 'link', sys.AT_STATX_DONT_SYNC, sys.STATX_INO))
  t.equal(
    error.message,
    `ENOENT: no such file or directory, statx(${fd}, "link", AT_STATX_DONT_SYNC, STATX_INO, {...})`,
  )
  t.equal(error.path, 'link')
})

t.test('two mount ids that look alike', privileged, async (t) => {
  const { dir } = scratch(t)
  const ofInfo = mounts().find((mount) => mount.target.equals(Buffer.from(dir)))?.id
  const reused = sys.statx(AT_FDCWD, dir, 0, sys.STATX_MNT_ID)
  t.equal(reused.mntId, BigInt(ofInfo as number))
  t.equal(reused.mntIdUnique, undefined)
  t.equal(reused.isMountRoot, true)
  const unique = sys.statx(AT_FDCWD, dir, 0, sys.STATX_MNT_ID_UNIQUE)
  if (unique.mask & sys.STATX_MNT_ID_UNIQUE) {
    t.ok(unique.mntIdUnique !== undefined && unique.mntIdUnique > 2n ** 31n)
    t.equal(unique.mntId, undefined)
  } else {
    t.equal(unique.mntIdUnique, undefined, 'before Linux 6.8')
    t.equal(unique.mntId, BigInt(ofInfo as number))
  }
  t.equal(sys.statx(AT_FDCWD, scratch(t).mkdir('plain')).isMountRoot, false)
})

t.test('what the kernel did not answer is undefined', async (t) => {
  const empty = parseStatx(Buffer.alloc(256))
  t.match(empty, { mask: 0, btimeNs: undefined, mntId: undefined, mntIdUnique: undefined })
  t.equal(empty.isMountRoot, undefined)
  const full = parseStatx(Buffer.alloc(256, 0xff))
  t.equal(full.size, 2n ** 64n - 1n)
  t.equal(full.uid, 2 ** 32 - 1)
  t.equal(full.atimeNs, -1_000_000_000n + 4_294_967_295n, 'before 1970, and nanoseconds after it')
  t.equal(full.isMountRoot, true)
})

t.test('statfs and fstatfs', privileged, async (t) => {
  const { dir } = scratch(t)
  const model = statfsSync(dir, { bigint: true })
  const fd = owned(t, sys.openat2(AT_FDCWD, dir, { flags: sys.O_PATH }))
  for (const stat of [sys.statfs(dir), sys.fstatfs(fd)]) {
    for (const key of ['bsize', 'blocks', 'bfree', 'bavail', 'files', 'ffree'] as const) {
      t.equal(stat[key], model[key], key)
    }
    t.equal(stat.type, sys.TMPFS_MAGIC)
    t.equal(stat.namelen, 255n)
    t.equal(stat.flags & sys.ST_RDONLY, 0)
  }
  sys.mountSetattr(AT_FDCWD, dir, 0, { attrSet: [sys.MOUNT_ATTR_RDONLY, sys.MOUNT_ATTR_NOSYMFOLLOW] })
  const flags = sys.ST_RDONLY | sys.ST_NOSYMFOLLOW
  t.equal(sys.fstatfs(fd).flags & flags, flags)
  t.match(
    refusal(() => sys.statfs('/nonexistent')),
    {
      code: 'ENOENT',
      call: 'statfs("/nonexistent", {...})',
      path: '/nonexistent',
    },
  )
  const closed = sys.openTree(AT_FDCWD, dir)
  sys.close(closed)
  t.match(
    refusal(() => sys.fstatfs(closed)),
    { code: 'EBADF', call: `fstatfs(${closed}, {...})` },
  )
})
