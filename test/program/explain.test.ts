import t from 'tap'
import * as f from '../../lib/flags.js'
import * as c from '../../lib/program/calls.js'
import { renderCall, renderPlan, renderText } from '../../lib/program/explain.js'
import { cwd, held } from '../../lib/program/plan.js'
import { type Arg, type Slot, statfsField, statxField, type Text } from '../../lib/program/step.js'
import { errno, planOf } from './programs.js'

const slot: Slot = { slot: 0, name: 'layer 0' }

t.test('texts', async (t) => {
  const cases: [Text, string][] = [
    ['/plain', '"/plain"'],
    [Buffer.from([0x2f, 0xff, 0x31, 0x0a]), '"/\\3771\\n"'],
    ['quote"', '"quote\\""'],
    [['/proc/self/fd/', slot, '/x'], '"/proc/self/fd/{layer 0}/x"'],
    [['lowerdir=', held(5, '/a'), ':', held(-1, '/b')], '"lowerdir=5:{/b}"'],
    [['a', Buffer.from('"')], '"a\\""'],
    [[], '""'],
  ]
  for (const [text, expected] of cases) t.equal(renderText(text), expected)
})

t.test('long texts are cut on demand', async (t) => {
  const cases: [Text, number, string][] = [
    ['12345', 5, '"12345"'],
    ['123456', 5, '"12345"...'],
    [Buffer.from('\n\n\n'), 2, '"\\n\\n"...'],
    [['lowerdir=', held(50, '/a'), ':', held(51, '/b')], 11, '"lowerdir=50"...'],
    [['12', '34', '56'], 3, '"123"...'],
  ]
  for (const [text, max, expected] of cases) t.equal(renderText(text, max), expected)
  const step = c.openat(slot, held(5, '/a/long/name'), '/a/long/path', 0)
  t.match(renderCall(step, 7), /^openat\(5<\/a\/long...>, "\/a\/long"\.\.\., /)
  t.match(renderCall(step), /^openat\(5<\/a\/long\/name>, "\/a\/long\/path", /)
})

t.test('fds: a slot by its name, one that is open by number and name', async (t) => {
  const fd = (arg: Arg) => renderCall({ call: 'fchdir', args: [arg] })
  t.equal(fd({ kind: 'fd', fd: slot }), 'fchdir(layer 0)')
  t.equal(fd({ kind: 'fd', fd: held(7, '/a') }), 'fchdir(7</a>)')
  t.equal(fd({ kind: 'fd', fd: held(-1, '/a') }), 'fchdir(/a)', 'one that is only explained')
  t.equal(fd({ kind: 'fd', fd: cwd }), 'fchdir(AT_FDCWD)')
})

t.test('numbers', async (t) => {
  const int = (arg: Omit<Arg & { kind: 'int' }, 'kind'>) =>
    renderCall({ call: 'chdir', args: [{ kind: 'int', ...arg }] })
  t.equal(int({ value: 7n }), 'chdir(7)')
  t.equal(int({ value: 0o711, flags: '0' }), 'chdir(0711)')
  t.equal(int({ value: 0, flags: 'O' }), 'chdir(O_RDONLY)')
  t.equal(int({ value: 0x1001, flags: 'OPEN_TREE AT' }), 'chdir(OPEN_TREE_CLONE|AT_EMPTY_PATH)')
  t.equal(int({ value: 28, symbol: 'PR_SET_SECUREBITS' }), 'chdir(PR_SET_SECUREBITS)')
})

t.test('structs carry their size', async (t) => {
  t.match(renderCall(c.openat2(slot, cwd, 'x', f.O_PATH, 0)), /resolve=0}, 24\)$/)
  t.match(renderCall(c.mountSetattr(slot, {})), /attr_set=0, attr_clr=0, propagation=0}, 32\)$/)
  t.match(renderCall(c.mountSetattr(slot, { userns: slot })), /propagation=0, userns_fd=layer 0}, 32\)$/)
})

t.test('a plan, line by line', async (t) => {
  const plan = planOf((b) => {
    const ino = b.register('upper.ino')
    const upper = b.output(b.slot('upper'))
    const open = c.openat(upper, cwd, '/u', f.O_PATH)
    b.note('first note').note('second note')
    b.add(open)
    const mode = { field: statxField.mode, mask: 0xf000n, value: 0x4000n }
    b.add(c.statxPath(cwd, '/u', false, { expect: [{ field: statxField.ino, value: ino }, mode] }))
    b.add(c.fstatfs(upper, { expect: [{ field: statfsField.flags, value: 0n }], tolerate: [errno.ENOENT] }))
    b.add(c.mkdir('/new', 0o755))
    b.undo(open, c.rmdir(cwd, '/new')).always(c.chdir('/'))
  })
  t.same(renderPlan(plan).split('\n'), [
    'test: 5 system calls, 0 namespace_sem writes, 0 grace periods, 0 temporary mounts',
    '  note: first note',
    '  note: second note',
    '  openat(AT_FDCWD, "/u", O_RDONLY|O_CLOEXEC|O_PATH, 0) = upper',
    '  statx(AT_FDCWD, "/u", AT_SYMLINK_NOFOLLOW|AT_NO_AUTOMOUNT, ' +
      'STATX_TYPE|STATX_MODE|STATX_NLINK|STATX_UID|STATX_GID|STATX_INO|STATX_MNT_ID, statx)' +
      '  expect stx_ino=upper.ino stx_mode&0xf000=16384',
    '  fstatfs(upper, statfs)  expect f_flags=0',
    '  mkdirat(AT_FDCWD, "/new", 0755)',
    '  on failure: unlinkat(AT_FDCWD, "/new", AT_REMOVEDIR)',
    '  chdir("/")',
  ])
})
