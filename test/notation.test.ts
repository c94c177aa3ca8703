import t from 'tap'
import * as n from '../lib/notation.js'
import { dist } from './support/child.js'
import { all, privileged, programs } from './support/needs.js'
import { straceModule } from './support/strace.js'

t.test('each kind of argument', async (t) => {
  t.equal(n.callNotation('fsopen', n.stringNotation('tmpfs'), '0'), 'fsopen("tmpfs", 0)')
  t.equal(n.fdNotation(-100), 'AT_FDCWD')
  t.equal(n.fdNotation(-1), '-1')
  t.equal(n.stringNotation(null), 'NULL')
  t.equal(n.stringNotation(''), '""')
  t.equal(n.stringNotation(Buffer.from('a\n\0')), '"a\\n"', 'the NUL at the end is not shown')
  t.equal(n.bytesNotation(Buffer.from([0, 255])), '"\\x00\\xff"')
  t.equal(n.bytesNotation(Buffer.alloc(33)), `"${'\\x00'.repeat(32)}"...`)
  t.equal(n.openFlagsNotation(0), 'O_RDONLY')
  t.equal(n.openFlagsNotation(0x200001), 'O_WRONLY|O_PATH')
  t.equal(
    n.openHowNotation(0x200000, 0o644, 0x28),
    '{flags=O_RDONLY|O_PATH, mode=0644, resolve=RESOLVE_BENEATH|RESOLVE_CACHED}, 24',
  )
  t.equal(
    n.mountAttrNotation(0x100001, 0x70, 0, 7),
    '{attr_set=MOUNT_ATTR_RDONLY|MOUNT_ATTR_IDMAP, attr_clr=MOUNT_ATTR__ATIME, propagation=0, userns_fd=7}, 32',
  )
})

// a propagation of 0 and MOUNT_ATTR__ATIME are left out: strace 6.1 adds comments to them
t.test('errors show calls as strace does', all(privileged, programs('strace')), async (t) => {
  const script = `
    import * as sys from '${dist('sys.js')}'
    const odd = Buffer.from([0x2f, 0xff, 0x31, 0x0a, 0x22, 0x5c, 0x01])
    const calls = [
      () => sys.fsopen('none\\u00e9'),
      () => sys.fsopen('none', 0, { cloexec: false }),
      () => sys.fsmount(0, 0, [sys.MOUNT_ATTR_RDONLY, sys.MOUNT_ATTR_NODIRATIME]),
      () => sys.fspick(sys.AT_FDCWD, odd, [sys.FSPICK_NO_AUTOMOUNT, sys.FSPICK_SYMLINK_NOFOLLOW]),
      () => sys.fsconfigSetFlag(0, 'ro'),
      () => sys.fsconfigSetString(0, 'key', odd),
      () => sys.fsconfigSetBinary(0, 'key', odd),
      () => sys.fsconfigSetPath(0, 'key', 'p'),
      () => sys.fsconfigSetPathEmpty(0, 'key', '', 1),
      () => sys.fsconfigSetFd(0, 'key', 1),
      () => sys.fsconfigCreate(0),
      () => sys.fsconfigReconfigure(0),
      () => sys.openTree(sys.AT_FDCWD, odd, [sys.OPEN_TREE_CLONE, sys.AT_RECURSIVE, sys.AT_NO_AUTOMOUNT]),
      () => sys.moveMount(0, '', sys.AT_FDCWD, odd, [sys.MOVE_MOUNT_F_EMPTY_PATH, sys.MOVE_MOUNT_SET_GROUP]),
      () => sys.mountSetattr(0, 'x', [sys.AT_EMPTY_PATH, sys.AT_RECURSIVE], {
        attrSet: [sys.MOUNT_ATTR_IDMAP, sys.MOUNT_ATTR_NOSUID],
        attrClr: sys.MOUNT_ATTR_RDONLY,
        propagation: sys.MS_PRIVATE,
        usernsFd: 1,
      }),
      () => sys.mount(odd, odd, 'none', [sys.MS_NODEV, sys.MS_RELATIME], 'a,b'),
      () => sys.mount(null, odd, null, [sys.MS_REC, sys.MS_PRIVATE]),
      () => sys.umount(odd, [sys.MNT_DETACH, sys.UMOUNT_NOFOLLOW]),
      () => sys.openat2(sys.AT_FDCWD, odd, { resolve: [sys.RESOLVE_BENEATH, sys.RESOLVE_NO_XDEV] }),
      () => sys.openat2(1, 'x', { flags: [sys.O_RDWR, sys.O_CREAT, sys.O_EXCL], mode: 0o644 }, { cloexec: false }),
      () => sys.setns(0, sys.CLONE_NEWNS),
      () => sys.unshare([sys.CLONE_NEWUSER, sys.CLONE_NEWNS, sys.flag(1)]),
      () => sys.close(4711),
    ]
    mark('begin')
    const shown = []
    for (const call of calls) {
      try { call(); shown.push(String(call)) } catch (error) { shown.push(error.call ?? String(error)) }
    }
    mark('end')
    console.log(JSON.stringify(shown))
  `
  const { stdout, stderr, calls } = await straceModule(script)
  const shown = JSON.parse(stdout || '[]') as string[]
  t.equal(shown.length, 23, stderr)
  const seen = new Set(calls.map(({ name, args }) => `${name}(${args})`))
  for (const call of shown) t.ok(seen.has(call), call)
})
