/**
 * On a real kernel, what hangs on the architecture: numbers of flags and errnos, which lib/ writes down and the addon
 * has of the headers that it was built with, and what the kernel makes of them.
 */
import { lstatSync, readlinkSync, readSync, statfsSync, symlinkSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { binding } from '../../lib/binding.js'
import { errnoNumber } from '../../lib/errno.js'
import { flagValues } from '../../lib/flags/names.js'
import * as sys from '../../lib/sys.js'
import { privileged } from '../support/needs.js'
import { area } from './area.js'

t.test('flags are the addon’s, errnos are the runtime’s', async (t) => {
  const differing = Object.entries(flagValues).filter(([name, value]) => binding.constants[name] !== value)
  t.ok(Object.keys(flagValues).length >= 140)
  t.same(differing, [])
  const errnos = Object.entries(constants.errno)
  t.ok(errnos.length > 70)
  t.same(
    errnos.filter(([name, number]) => errnoNumber(name) !== number),
    [],
  )
})

t.test('the flags that architectures number differently', privileged, async (t) => {
  const dir = area.container('flags').upperdir
  writeFileSync(join(dir, 'file'), 'x'.repeat(4096))
  symlinkSync('file', join(dir, 'link'))
  const open = (name: string, ...flags: sys.Flag<'O'>[]) => {
    const fd = sys.openat2(sys.AT_FDCWD, join(dir, name), { flags })
    t.teardown(() => sys.close(fd))
    return fd
  }
  t.throws(() => open('file', sys.O_DIRECTORY), { code: 'ENOTDIR' })
  t.throws(() => open('link', sys.O_NOFOLLOW), { code: 'ELOOP' })
  t.equal(readSync(open('link'), Buffer.alloc(1)), 1, 'it is followed otherwise')
  t.throws(
    () => readSync(open('file', sys.O_DIRECT), Buffer.alloc(1)),
    { code: 'EINVAL' },
    'not a whole block',
  )
  t.match(
    readlinkSync(`/proc/self/fd/${open('.', sys.O_TMPFILE, sys.O_RDWR)}`),
    /\(deleted\)$/,
    'without a name',
  )
})

t.test('fields of statx and statfs are where Node finds them', privileged, async (t) => {
  const { upperdir } = area.container('fields')
  for (const path of [upperdir, '/dev/null']) {
    const model = lstatSync(path, { bigint: true })
    const { mode, nlink, uid, gid, ...found } = sys.statx(sys.AT_FDCWD, path)
    t.match(found, { ino: model.ino, size: model.size, mtimeNs: model.mtimeNs, ctimeNs: model.ctimeNs }, path)
    t.same([mode, nlink, uid, gid].map(BigInt), [model.mode, model.nlink, model.uid, model.gid], path)
  }
  const model = statfsSync(upperdir, { bigint: true })
  const { type, blocks, bsize, files } = sys.statfs(upperdir)
  t.same([type, blocks, bsize, files].map(BigInt), [model.type, model.blocks, model.bsize, model.files])
})
