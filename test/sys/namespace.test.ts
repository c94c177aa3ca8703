import { readlinkSync } from 'node:fs'
import t from 'tap'
import * as sys from '../../lib/sys.js'
import { privileged } from '../support/needs.js'
import { owned, refusal } from './owned.js'

t.test('a namespace is left and entered again', privileged, async (t) => {
  const uts = () => readlinkSync('/proc/thread-self/ns/uts')
  const before = uts()
  const fd = owned(t, sys.openat2(sys.AT_FDCWD, '/proc/thread-self/ns/uts', {}))
  sys.unshare(sys.CLONE_NEWUTS)
  t.not(uts(), before)
  t.equal(readlinkSync('/proc/self/ns/uts'), uts(), 'this is the main thread')
  const wrong = refusal(() => sys.setns(fd, sys.CLONE_NEWNS))
  t.match(wrong, { code: 'EINVAL', call: `setns(${fd}, CLONE_NEWNS)` })
  sys.setns(fd, sys.CLONE_NEWUTS)
  t.equal(uts(), before)
  sys.setns(fd)
})

t.test('refusals', async (t) => {
  const user = refusal(() => sys.unshare([sys.CLONE_NEWUSER, sys.CLONE_NEWNS]))
  t.match(user, { code: 'EINVAL', syscall: 'unshare', call: 'unshare(CLONE_NEWNS|CLONE_NEWUSER)' })
  const unknown = refusal(() => sys.unshare(sys.flag<'CLONE'>(0x8000_0001)))
  t.match(unknown, { code: 'EINVAL', call: 'unshare(0x80000001)' }, 'the 32nd bit passes')
})
