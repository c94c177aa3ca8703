import t from 'tap'
import { lockWrites } from './lock-writes.js'
import { parseStrace } from './strace.js'

t.test('a number that one thread gives up while another is given it', async (t) => {
  const calls = parseStrace(
    [
      '7<ofd-compose> open_tree(5, "", OPEN_TREE_CLONE|AT_EMPTY_PATH <unfinished ...>',
      '8<ofd-reap> close(6) = 0',
      '7<ofd-compose> <... open_tree resumed>) = 6',
      '7<ofd-compose> move_mount(6, "", AT_FDCWD, "/target", MOVE_MOUNT_F_EMPTY_PATH) = 0',
      '7<ofd-compose> close(6) = 0',
    ].join('\n'),
  )
  t.same(lockWrites(calls, [], false), { writes: 2, grace: 0 })
})

t.test('a number whose mount was closed by somebody who is not looked at', async (t) => {
  const calls = parseStrace(
    [
      '7<ofd-compose> fsmount(5, FSMOUNT_CLOEXEC, 0) = 6',
      '7<ofd-compose> openat(AT_FDCWD, "/upper", O_PATH) = 6',
      '7<ofd-compose> close(6) = 0',
    ].join('\n'),
  )
  t.same(lockWrites(calls, [], false), { writes: 0, grace: 0 })
})

t.test('a clone that is closed while it is detached', async (t) => {
  const calls = parseStrace(
    [
      '7<ofd-compose> open_tree(5, "", OPEN_TREE_CLONE|AT_EMPTY_PATH) = 6',
      '8<ofd-reap> close(6 <unfinished ...>',
      '7<ofd-compose> openat(AT_FDCWD, "/upper", O_PATH) = 6',
      '8<ofd-reap> <... close resumed>) = 0',
    ].join('\n'),
  )
  t.same(lockWrites(calls, [], false), { writes: 2, grace: 1 })
})
