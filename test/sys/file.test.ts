import { execFileSync } from 'node:child_process'
import { mkdirSync, readlinkSync, rmdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import t from 'tap'
import * as sys from '../../lib/sys.js'
import { all, privileged, programs } from '../support/needs.js'
import { scratch } from '../support/scratch.js'
import { captured, owned, refusal } from './owned.js'

const { AT_FDCWD } = sys

const setxattr = (path: string, name: string, value: string): void => {
  const script = 'import os, sys; os.setxattr(sys.argv[1], sys.argv[2], sys.argv[3].encode())'
  execFileSync('python3', ['-c', script, path, name, value])
}

t.test('openat2 keeps a path where it belongs', async (t) => {
  const dir = t.testdir({ inside: { file: '' }, out: t.fixture('symlink', '/etc') })
  const root = owned(t, sys.openat2(AT_FDCWD, dir, { flags: [sys.O_PATH, sys.O_DIRECTORY] }))
  const open = (path: string, resolve: sys.Flags<'RESOLVE'>) =>
    owned(t, sys.openat2(root, path, { flags: sys.O_PATH, resolve }))
  const file = open('inside/file', [sys.RESOLVE_BENEATH, sys.RESOLVE_NO_SYMLINKS])
  t.equal(readlinkSync(`/proc/self/fd/${file}`), `${dir}/inside/file`)
  t.match(
    refusal(() => open('inside/../..', sys.RESOLVE_BENEATH)),
    { code: 'EXDEV', path: 'inside/../..' },
  )
  t.equal(refusal(() => open('out', sys.RESOLVE_BENEATH)).code, 'EXDEV')
  const symlink = refusal(() => open('out/x', [sys.RESOLVE_NO_SYMLINKS]))
  t.equal(symlink.code, 'ELOOP')
  t.equal(
    symlink.call,
    `openat2(${root}, "out/x", {flags=O_RDONLY|O_CLOEXEC|O_PATH, resolve=RESOLVE_NO_SYMLINKS}, 24)`,
  )
  t.equal(refusal(() => open('/etc', sys.RESOLVE_IN_ROOT)).code, 'ENOENT')
})

t.test('openat2 makes files with the mode given', async (t) => {
  const dir = t.testdir()
  const flags = [sys.O_CREAT, sys.O_EXCL, sys.O_WRONLY]
  const umask = process.umask(0)
  t.teardown(() => process.umask(umask))
  owned(t, sys.openat2(AT_FDCWD, `${dir}/new`, { flags, mode: 0o640 }))
  t.equal(sys.statx(AT_FDCWD, `${dir}/new`).mode & 0o7777, 0o640)
  const error = refusal(() => sys.openat2(AT_FDCWD, `${dir}/new`, { flags, mode: 0o640 }))
  t.match(error, {
    code: 'EEXIST',
    call: /{flags=O_WRONLY\|O_CREAT\|O_EXCL\|O_CLOEXEC, mode=0640, resolve=0}/,
  })
  t.equal(refusal(() => sys.openat2(AT_FDCWD, dir, { mode: 0o600 })).code, 'EINVAL', 'no file is made')
  t.equal(refusal(() => sys.openat2(AT_FDCWD, dir, { flags: sys.flag<'O'>(2 ** 40) })).code, 'EINVAL')
  for (const mode of [-1, 0o10000, 1.5]) {
    t.match(
      captured(() => sys.openat2(AT_FDCWD, dir, { mode })),
      { code: 'ERR_OUT_OF_RANGE' },
    )
  }
})

t.test('close', async (t) => {
  const fd = sys.openat2(AT_FDCWD, '/', { flags: sys.O_PATH })
  sys.close(fd)
  t.match(
    refusal(() => sys.close(fd)),
    {
      code: 'EBADF',
      message: `EBADF: bad file descriptor, close(${fd})`,
    },
  )
})

t.test('extended attributes', all(privileged, programs('python3')), async (t) => {
  const area = scratch(t)
  const [layer = ''] = area.layers(1)
  const { upperdir, workdir, target } = area.container('c')
  sys.mount('none', target, 'overlay', 0, `lowerdir=${layer},upperdir=${upperdir},workdir=${workdir}`)
  t.teardown(() => sys.umount(target, sys.MNT_DETACH))
  // a directory in place of a removed one hides what was in it: overlay marks it
  writeFileSync(`${target}/plain`, '')
  rmSync(`${target}/dir`, { recursive: true })
  mkdirSync(`${target}/dir`)
  const names = sys.llistxattr(`${upperdir}/dir`)
  t.ok(names.some((name) => name.equals(Buffer.from('trusted.overlay.opaque'))))
  t.same(sys.lgetxattr(`${upperdir}/dir`, 'trusted.overlay.opaque'), Buffer.from('y'))
  t.same(sys.lgetxattr(Buffer.from(`${upperdir}/dir`), names[0] as Buffer).constructor, Buffer)
  t.same(sys.llistxattr(`${upperdir}/plain`), [])
  setxattr(`${upperdir}/plain`, 'trusted.one', '1')
  setxattr(`${upperdir}/plain`, 'trusted.other', 'of several words')
  const both = sys.llistxattr(`${upperdir}/plain`).map(String).sort()
  t.same(both, ['trusted.one', 'trusted.other'])
  t.equal(sys.lgetxattr(`${upperdir}/plain`, 'trusted.other').toString(), 'of several words')
  const missing = refusal(() => sys.lgetxattr(upperdir, 'trusted.none'))
  t.match(missing, { code: 'ENODATA', path: upperdir })
  t.equal(missing.call, `lgetxattr("${upperdir}", "trusted.none", {...}, 0)`)
  symlinkSync('/', `${upperdir}/link`)
  t.same(sys.llistxattr(`${upperdir}/link`), [], 'of the link itself')
  t.match(
    refusal(() => sys.llistxattr(`${upperdir}/none`)),
    { code: 'ENOENT', syscall: 'llistxattr' },
  )
  rmdirSync(`${target}/dir`)
})
