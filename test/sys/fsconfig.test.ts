import { closeSync, openSync, readSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { binding } from '../../lib/binding.js'
import { parseLogLine } from '../../lib/sys/log.js'
import * as sys from '../../lib/sys.js'
import { privileged } from '../support/needs.js'
import { scratch } from '../support/scratch.js'
import { captured, owned, refusal } from './owned.js'

t.test('a refused parameter brings its log, and the context stays usable', privileged, async (t) => {
  const fs = owned(t, sys.fsopen('overlay'))
  const error = refusal(() => sys.fsconfigSetString(fs, 'nonsense', 'value'))
  const log = ["overlay: Unknown parameter 'nonsense'"]
  t.match(error, { code: 'EINVAL', errno: -22, syscall: 'fsconfig', log })
  t.equal(
    error.message,
    `EINVAL: invalid argument, fsconfig(${fs}, FSCONFIG_SET_STRING, "nonsense", "value", 0) ` +
      `[overlay: Unknown parameter 'nonsense']`,
  )
  t.same(sys.readLog(fs), [], 'the log is in the error, and nowhere else')
  sys.fsconfigSetFlag(fs, 'userxattr')
})

t.test('each command as a call', privileged, async (t) => {
  const fs = owned(t, sys.fsopen('tmpfs'))
  const odd = Buffer.from([0xff, 0x22, 0x0a, 0x31])
  const cases: [() => void, string][] = [
    [() => sys.fsconfigSetFlag(fs, 'x'), 'FSCONFIG_SET_FLAG, "x", NULL, 0'],
    [() => sys.fsconfigSetString(fs, 'x', 'a,"b'), 'FSCONFIG_SET_STRING, "x", "a,\\"b", 0'],
    [() => sys.fsconfigSetString(fs, 'x', odd), 'FSCONFIG_SET_STRING, "x", "\\377\\"\\n1", 0'],
    [() => sys.fsconfigSetString(fs, 'x', ''), 'FSCONFIG_SET_STRING, "x", "", 0'],
    [() => sys.fsconfigSetBinary(fs, 'x', Buffer.from('a\0')), 'FSCONFIG_SET_BINARY, "x", "\\x61\\x00", 2'],
    [() => sys.fsconfigSetPath(fs, 'x', '/p'), 'FSCONFIG_SET_PATH, "x", "/p", AT_FDCWD'],
    [() => sys.fsconfigSetPath(fs, 'x', 'p', 0), 'FSCONFIG_SET_PATH, "x", "p", 0'],
    [() => sys.fsconfigSetPathEmpty(fs, 'x', '', 0), 'FSCONFIG_SET_PATH_EMPTY, "x", "", 0'],
    [() => sys.fsconfigSetFd(fs, 'x', 0), 'FSCONFIG_SET_FD, "x", NULL, 0'],
    [() => sys.fsconfigReconfigure(fs), 'FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0'],
  ]
  for (const [call, args] of cases) t.equal(refusal(call).call, `fsconfig(${fs}, ${args})`)
  t.match(
    refusal(() => sys.fsconfigSetPath(fs, 'x', '/p')),
    { path: '/p' },
  )
  const bytes = refusal(() => sys.fsconfigSetBinary(fs, 'x', Buffer.alloc(33)))
  t.match(bytes.call, `"${'\\x00'.repeat(32)}"..., 33)`)
})

t.test('a value that is too long: the kernel does not say so', privileged, async (t) => {
  const fs = owned(t, sys.fsopen('overlay'))
  const error = refusal(() => sys.fsconfigSetString(fs, 'lowerdir+', `/${'x'.repeat(255)}`))
  t.match(error, { code: 'EINVAL', log: [], hint: 'the kernel takes at most 255 bytes, the value has 256' })
  const fits = refusal(() => sys.fsconfigSetString(fs, 'lowerdir+', `/${'x'.repeat(254)}`))
  t.match(fits, { code: 'ENOENT', hint: undefined })
  const another = refusal(() => sys.fsconfigSetString(fs, 'nonsense', 'x'.repeat(255)))
  t.match(another, { code: 'EINVAL', hint: undefined })
})

t.test('after a failing create nothing goes any more', privileged, async (t) => {
  const fs = owned(t, sys.fsopen('overlay'))
  t.match(
    refusal(() => sys.fsconfigCreate(fs)),
    {
      code: 'EINVAL',
      call: `fsconfig(${fs}, FSCONFIG_CMD_CREATE, NULL, NULL, 0)`,
    },
  )
  t.equal(refusal(() => sys.fsconfigCreate(fs)).code, 'EBUSY')
  t.equal(refusal(() => sys.fsconfigSetFlag(fs, 'ro')).code, 'EBUSY')
})

t.test('the log is a ring of eight, read once', privileged, async (t) => {
  const fs = owned(t, sys.fsopen('tmpfs'))
  for (let i = 0; i < 10; i++) binding.fsconfig(fs, sys.FSCONFIG_SET_FLAG, Buffer.from(`k${i}\0`), null, 0)
  const lines = sys.readLog(fs)
  t.same(lines[0], { level: 'error', message: "tmpfs: Unknown parameter 'k2'" })
  t.equal(lines.length, 8)
  t.same(sys.readLog(fs), [])
})

t.test('lines of the log', async (t) => {
  t.same(parseLogLine('e overlay: no\n'), { level: 'error', message: 'overlay: no' })
  t.same(parseLogLine('w overlay: hm\n'), { level: 'warning', message: 'overlay: hm' })
  t.same(parseLogLine('i two\nlines\n'), { level: 'info', message: 'two\nlines' })
  t.same(parseLogLine('of another form'), { level: 'info', message: 'of another form' })
})

t.test('nothing is read from an fd that is no context', async (t) => {
  const dir = t.testdir()
  writeFileSync(`${dir}/file`, 'data')
  const fd = openSync(`${dir}/file`, 'r')
  t.teardown(() => closeSync(fd))
  t.match(
    refusal(() => sys.fsconfigSetFlag(fd, 'ro')),
    { code: 'EINVAL', log: [] },
  )
  t.match(
    captured(() => sys.readLog(fd)),
    { code: 'ERR_INVALID_ARG_VALUE' },
  )
  const byte = Buffer.alloc(1)
  readSync(fd, byte)
  t.equal(byte.toString(), 'd', 'still the first byte')
  const closed = openSync(`${dir}/file`, 'r')
  closeSync(closed)
  t.match(
    refusal(() => sys.readLog(closed)),
    { code: 'EBADF', call: `read(${closed}, {...}, 4096)` },
  )
  t.match(
    refusal(() => sys.fsconfigSetFlag(closed, 'ro')),
    { code: 'EBADF', log: [] },
  )
})

t.test('an fd that is handed over may be closed', privileged, async (t) => {
  const [layer = '', other = ''] = scratch(t).layers(2)
  const fs = owned(t, sys.fsopen('overlay'))
  for (const path of [layer, other]) {
    const fd = sys.openat2(sys.AT_FDCWD, path, { flags: sys.O_PATH })
    sys.fsconfigSetFd(fs, 'lowerdir+', fd)
    sys.close(fd)
  }
  sys.fsconfigCreate(fs)
  t.equal(sys.fstatfs(owned(t, sys.fsmount(fs))).type, sys.OVERLAYFS_SUPER_MAGIC)
})

t.test('bytes have a length', async (t) => {
  for (const length of [0, 1024 * 1024 + 1]) {
    const error = captured(() => sys.fsconfigSetBinary(0, 'x', Buffer.alloc(length)))
    t.match(error, { name: 'RangeError', code: 'ERR_OUT_OF_RANGE', message: '"value.length"' })
  }
})
