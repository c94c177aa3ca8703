/** Whether images can be mounted, on kernels that answer in other ways. */
import { readFileSync } from 'node:fs'
import t from 'tap'
import * as f from '../../lib/flags.js'
import { probeImages } from '../../lib/host/erofs.js'
import { fds, mountCount } from '../support/counts.js'
import { privileged } from '../support/needs.js'
import { withProbing } from '../support/probing.js'

const [ENOENT, ENODEV, ENOTBLK, EINVAL, ENOSYS, EPERM] = [-2, -19, -15, -22, -38, -1]

/** An addon with one answer to fsopen, and one for each file. */
const kernelOf = (fsopen: number, ...creates: number[]) => {
  const calls: string[] = []
  const open = new Set<number>()
  let fd = fsopen
  const binding = {
    fsopen: (type: Buffer) => {
      calls.push(String(type))
      if (fd >= 0) open.add(++fd)
      return fd
    },
    fsconfig: (_fs: number, command: number, _key: Buffer | null, value: Buffer | null) => {
      if (command === f.FSCONFIG_CMD_CREATE) return creates.shift() ?? 0
      calls.push(String(value))
      return 0
    },
    close: (closed: number) => (open.delete(closed) ? 0 : -9),
  }
  return { binding, calls, open }
}

t.test('this kernel', privileged, async (t) => {
  const before = [fds(), mountCount()]
  const isBuiltIn = /\berofs$/m.test(readFileSync('/proc/filesystems', 'utf8'))
  const { there, reason } = probeImages(true, true)
  if (isBuiltIn) t.same([there, reason], [true, undefined])
  else t.ok(there || reason, 'missing for a reason')
  t.same([fds(), mountCount()], before, 'nothing is left')
})

t.test('other kernels', async (t) => {
  const [sysfs, program] = ['/sys/kernel/uevent_seqnum\0', '/proc/self/exe\0']
  const table: [string, number, number[], boolean, RegExp | undefined, string[]][] = [
    ['images in files', 900, [EINVAL], true, undefined, [sysfs]],
    ['devices only', 900, [ENOTBLK], false, /^ENOTBLK: erofs mounts devices only/, [sysfs]],
    ['no /sys', 900, [ENOENT, EINVAL], true, undefined, [sysfs, program]],
    ['neither file', 900, [ENOENT, ENOENT], false, /^ENOENT/, [sysfs, program]],
    ['inside a user namespace', 900, [EPERM], false, /^EPERM: .*user namespace/, [sysfs]],
    ['something else', 900, [-5], false, /^EIO/, [sysfs]],
    ['no erofs', ENODEV, [], false, /^ENODEV: the kernel has no erofs/, []],
    ['no fsopen', ENOSYS, [], false, /^ENOSYS/, []],
  ]
  for (const [name, fsopen, creates, there, reason, files] of table) {
    const { binding, calls, open } = kernelOf(fsopen, ...creates)
    const { probeImages: probe } = await t.mockImport<typeof import('../../lib/host/erofs.js')>(
      '../../lib/host/erofs.js',
      await withProbing(t, { '../../lib/binding.js': { binding } }),
    )
    const found = probe(true, true)
    t.equal(found.there, there, name)
    if (reason) t.match(found.reason, reason, name)
    else t.equal(found.reason, undefined, name)
    t.same(calls, fsopen < 0 ? ['erofs\0'] : files.flatMap((file) => ['erofs\0', file]), name)
    t.equal(open.size, 0, `${name}: nothing is left open`)
    t.same(probe(false, false).there, false, 'not tried')
    t.match(probe(false, true), { there: true, reason: /^inferred/ })
  }
})
