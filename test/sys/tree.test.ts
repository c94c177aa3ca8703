import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, readlinkSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import t from 'tap'
import * as sys from '../../lib/sys.js'
import { settled } from '../support/counts.js'
import { mounts } from '../support/mountinfo.js'
import { all, privileged, programs } from '../support/needs.js'
import { scratch, type Teardown } from '../support/scratch.js'
import { captured, owned, refusal } from './owned.js'

const { AT_EMPTY_PATH, AT_FDCWD, OPEN_TREE_CLONE } = sys

/** A user namespace in which 0 is `outside`, held by a process until the test is over. */
const userns = async (t: Teardown, outside: number): Promise<number> => {
  const child = spawn('unshare', ['--user', 'sleep', '60'], { stdio: 'ignore' })
  t.teardown(() => void child.kill('SIGKILL'))
  const own = readlinkSync('/proc/self/ns/user')
  await settled(
    () => {
      try {
        return readlinkSync(`/proc/${child.pid}/ns/user`)
      } catch {
        return own
      }
    },
    (link) => link !== own,
  )
  for (const map of ['uid_map', 'gid_map']) writeFileSync(`/proc/${child.pid}/${map}`, `0 ${outside} 1000`)
  return owned(t, sys.openat2(AT_FDCWD, `/proc/${child.pid}/ns/user`, { flags: sys.O_RDONLY }))
}

t.test('a clone is changed, then attached', privileged, async (t) => {
  const area = scratch(t)
  const source = area.mkdir('source')
  const target = area.mkdir('target')
  const tree = sys.openTree(AT_FDCWD, source, OPEN_TREE_CLONE)
  t.notOk(
    mounts().some((mount) => mount.root.toString() === '/source'),
    'it is nowhere',
  )
  sys.mountSetattr(tree, '', AT_EMPTY_PATH, { attrSet: [sys.MOUNT_ATTR_RDONLY, sys.MOUNT_ATTR_NODEV] })
  writeFileSync(`${source}/file`, 'seen through it')
  t.equal(readFileSync(`/proc/self/fd/${tree}/file`, 'utf8'), 'seen through it')
  t.match(
    captured(() => writeFileSync(`/proc/self/fd/${tree}/file`, '')),
    { code: 'EROFS' },
  )
  sys.moveMount(tree, '', AT_FDCWD, target, sys.MOVE_MOUNT_F_EMPTY_PATH)
  sys.close(tree)
  t.match(mounts().at(-1), { attributes: ['ro', 'nodev', 'relatime'], target: Buffer.from(target) })
  sys.mountSetattr(AT_FDCWD, target, 0, { attrClr: sys.MOUNT_ATTR_RDONLY })
  writeFileSync(`${target}/file`, 'written')
  sys.umount(target)
})

t.test('access times: the mask is cleared, a number is set', privileged, async (t) => {
  const tree = owned(t, sys.openTree(AT_FDCWD, scratch(t).dir, OPEN_TREE_CLONE))
  const attr = { attrSet: sys.MOUNT_ATTR_NOATIME, attrClr: sys.MOUNT_ATTR__ATIME }
  t.equal(refusal(() => sys.mountSetattr(tree, '', AT_EMPTY_PATH, { attrSet: attr.attrSet })).code, 'EINVAL')
  sys.mountSetattr(tree, '', AT_EMPTY_PATH, attr)
  t.ok(sys.fstatfs(tree).flags & sys.ST_NOATIME)
})

t.test('propagation', privileged, async (t) => {
  const target = scratch(t).dir
  sys.mountSetattr(AT_FDCWD, target, 0, { propagation: sys.MS_SHARED })
  const shared = () => mounts().find((mount) => mount.target.equals(Buffer.from(target)))?.propagation
  t.match(shared(), [/^shared:\d+$/])
  sys.mountSetattr(AT_FDCWD, target, 0, { propagation: sys.MS_UNBINDABLE })
  t.same(shared(), ['unbindable'])
  t.equal(refusal(() => sys.openTree(AT_FDCWD, target, OPEN_TREE_CLONE)).code, 'EINVAL')
})

t.test('recursive, or not', privileged, async (t) => {
  const area = scratch(t)
  sys.mount('none', area.mkdir('below'), 'tmpfs')
  t.teardown(() => sys.umount(area.path('below'), sys.MNT_DETACH))
  writeFileSync(area.path('below', 'file'), '')
  const open = (flags: sys.Flags<'OPEN_TREE' | 'AT'>) => {
    const tree = owned(t, sys.openTree(AT_FDCWD, area.dir, flags))
    return sys.statx(tree, 'below').isMountRoot
  }
  t.equal(open(OPEN_TREE_CLONE), false, 'what lies under the mount')
  t.equal(open([OPEN_TREE_CLONE, sys.AT_RECURSIVE]), true)
})

t.test('idmapped, in one call or two', all(privileged, programs('unshare')), async (t) => {
  const area = scratch(t)
  const [first, second] = [await userns(t, 100_000), await userns(t, 200_000)]
  const attr = (usernsFd: number): sys.MountAttr => ({ attrSet: sys.MOUNT_ATTR_IDMAP, usernsFd })
  const owner = (tree: number) => sys.statx(tree, '', AT_EMPTY_PATH).uid
  const two = owned(t, sys.openTree(AT_FDCWD, area.dir, OPEN_TREE_CLONE))
  sys.mountSetattr(two, '', AT_EMPTY_PATH, attr(first))
  t.equal(owner(two), 100_000)
  const again = refusal(() => sys.mountSetattr(two, '', AT_EMPTY_PATH, attr(second)))
  t.equal(
    again.message,
    `EPERM: operation not permitted, mount_setattr(${two}, "", AT_EMPTY_PATH, ` +
      `{attr_set=MOUNT_ATTR_IDMAP, attr_clr=0, propagation=0, userns_fd=${second}}, 32)`,
  )
  let one: number
  try {
    one = owned(t, sys.openTreeAttr(AT_FDCWD, area.dir, OPEN_TREE_CLONE, attr(first)))
  } catch (error) {
    // before Linux 6.15
    t.match(error, { code: 'ENOSYS', syscall: 'open_tree_attr' })
    return
  }
  t.equal(owner(one), 100_000)
  const other = owned(t, sys.openTreeAttr(two, '', [OPEN_TREE_CLONE, AT_EMPTY_PATH], attr(second)))
  t.equal(owner(other), 200_000, 'another mapping for a copy')
  const none = { attrClr: sys.MOUNT_ATTR_IDMAP }
  const plain = owned(t, sys.openTreeAttr(two, '', [OPEN_TREE_CLONE, AT_EMPTY_PATH], none))
  t.equal(owner(plain), 0)
})

t.test('an idmap wants a user namespace', async (t) => {
  for (const call of [sys.mountSetattr, sys.openTreeAttr]) {
    t.match(
      captured(() => call(AT_FDCWD, '/', 0, { attrSet: sys.MOUNT_ATTR_IDMAP })),
      {
        code: 'ERR_INVALID_ARG_TYPE',
        message: '"attr.usernsFd" argument must be of type number. Received undefined',
      },
    )
  }
})

t.test('a target that is a symbolic link', privileged, async (t) => {
  const area = scratch(t)
  mkdirSync(area.path('real'))
  symlinkSync(area.path('real'), area.path('link'))
  const tree = owned(t, sys.openTree(AT_FDCWD, area.mkdir('source'), OPEN_TREE_CLONE))
  const error = refusal(() =>
    sys.moveMount(tree, '', AT_FDCWD, area.path('link'), sys.MOVE_MOUNT_F_EMPTY_PATH),
  )
  t.match(error, { syscall: 'move_mount', path: '', dest: area.path('link') })
  t.equal(error.call, `move_mount(${tree}, "", AT_FDCWD, "${area.path('link')}", MOVE_MOUNT_F_EMPTY_PATH)`)
  const follow = [sys.MOVE_MOUNT_F_EMPTY_PATH, sys.MOVE_MOUNT_T_SYMLINKS]
  sys.moveMount(tree, '', AT_FDCWD, area.path('link'), follow)
  t.ok(sys.statx(AT_FDCWD, area.path('real')).isMountRoot)
  sys.umount(area.path('real'), sys.MNT_DETACH)
})

t.test('a path of any bytes', privileged, async (t) => {
  const area = scratch(t)
  const path = Buffer.concat([Buffer.from(`${area.dir}/`), Buffer.from([0xff, 0x2c, 0x0a])])
  mkdirSync(path)
  const tree = owned(t, sys.openTree(AT_FDCWD, path))
  t.equal(statSync(path, { bigint: true }).ino, sys.statx(tree, '', AT_EMPTY_PATH).ino)
  const missing = Buffer.concat([path, Buffer.from('/none')])
  const error = refusal(() => sys.openTree(AT_FDCWD, missing))
  t.equal(error.path, `${area.dir}/\\377,\\n/none`)
})
