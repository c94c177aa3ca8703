import t from 'tap'
import { binding } from '../../lib/binding.js'
import * as f from '../../lib/flags.js'
import * as c from '../../lib/program/calls.js'
import { renderCall } from '../../lib/program/explain.js'
import { cwd, held } from '../../lib/program/plan.js'
import { type Arg, calls, type Hole, type Slot, type Step, statxField } from '../../lib/program/step.js'

const out: Slot = { slot: 0, name: 'out' }
const fs: Slot = { slot: 1, name: 'fs' }
const dir = held(7, '/dir')
const hole: Hole = { hole: 0, name: 'claim' }

/** Every constructor, and how its step looks in strace's notation. */
const table: Record<string, readonly [Step, string][]> = {
  openat: [
    [c.openat(out, cwd, '/a"b', f.O_PATH), 'openat(AT_FDCWD, "/a\\"b", O_RDONLY|O_CLOEXEC|O_PATH, 0)'],
    [
      c.openat(out, fs, ['x', dir], f.O_WRONLY | f.O_CREAT),
      'openat(fs, "x7", O_WRONLY|O_CREAT|O_CLOEXEC, 0)',
    ],
  ],
  openat2: [
    [
      c.openat2(out, dir, 'a', f.O_PATH | f.O_DIRECTORY, f.RESOLVE_BENEATH | f.RESOLVE_NO_XDEV),
      'openat2(7</dir>, "a", {flags=O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_PATH, resolve=RESOLVE_NO_XDEV|RESOLVE_BENEATH}, 24)',
    ],
  ],
  close: [[c.close(out), 'close(out)']],
  fsopen: [[c.fsopen(out, 'overlay'), 'fsopen("overlay", FSOPEN_CLOEXEC)']],
  setFlag: [[c.setFlag(fs, 'volatile'), 'fsconfig(fs, FSCONFIG_SET_FLAG, "volatile", NULL, 0)']],
  setString: [
    [
      c.setString(fs, 'lowerdir+', ['/proc/self/fd/', out]),
      'fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir+", "/proc/self/fd/{out}", 0)',
    ],
  ],
  setFd: [
    [c.setFd(fs, 'lowerdir+', dir), 'fsconfig(fs, FSCONFIG_SET_FD, "lowerdir+", NULL, 7</dir>)'],
    [c.setFd(fs, 'upperdir', out), 'fsconfig(fs, FSCONFIG_SET_FD, "upperdir", NULL, out)'],
  ],
  create: [[c.create(fs), 'fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0)']],
  fsmount: [
    [
      c.fsmount(out, fs, f.MOUNT_ATTR_NOSUID | f.MOUNT_ATTR_NODEV),
      'fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID|MOUNT_ATTR_NODEV)',
    ],
  ],
  cloneTree: [
    [c.cloneTree(out, dir), 'open_tree(7</dir>, "", OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC|AT_EMPTY_PATH)'],
  ],
  cloneTreeAt: [[c.cloneTreeAt(out, dir, 'a'), 'open_tree(7</dir>, "a", OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC)']],
  cloneTreeAttr: [
    [
      c.cloneTreeAttr(out, dir, { set: f.MOUNT_ATTR_IDMAP | f.MOUNT_ATTR_RDONLY, userns: held(9, 'userns') }),
      'open_tree_attr(7</dir>, "", OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC|AT_EMPTY_PATH, ' +
        '{attr_set=MOUNT_ATTR_RDONLY|MOUNT_ATTR_IDMAP, attr_clr=0, propagation=0, userns_fd=9<userns>}, 32)',
    ],
  ],
  cloneOf: [
    [
      c.cloneOf(out, { dirFd: cwd, path: '/v', recursive: true }),
      'open_tree(AT_FDCWD, "/v", OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC|AT_RECURSIVE)',
    ],
    [
      c.cloneOf(out, { dirFd: dir, path: '', recursive: false }),
      'open_tree(7</dir>, "", OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC|AT_EMPTY_PATH)',
    ],
  ],
  cloneOfAttr: [
    [
      c.cloneOfAttr(out, { dirFd: dir, path: '', recursive: true }, { set: f.MOUNT_ATTR_RDONLY }),
      'open_tree_attr(7</dir>, "", OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC|AT_EMPTY_PATH|AT_RECURSIVE, ' +
        '{attr_set=MOUNT_ATTR_RDONLY, attr_clr=0, propagation=0}, 32)',
    ],
  ],
  fspick: [[c.fspick(fs, dir), 'fspick(7</dir>, "", FSPICK_CLOEXEC|FSPICK_EMPTY_PATH)']],
  reconfigure: [[c.reconfigure(fs), 'fsconfig(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0)']],
  attachTo: [
    [
      c.attachTo(out, { path: '/t', beneath: true }),
      'move_mount(out, "", AT_FDCWD, "/t", MOVE_MOUNT_F_EMPTY_PATH|MOVE_MOUNT_BENEATH)',
    ],
    [
      c.attachTo(out, { fd: dir, beneath: false }),
      'move_mount(out, "", 7</dir>, "", MOVE_MOUNT_F_EMPTY_PATH|MOVE_MOUNT_T_EMPTY_PATH)',
    ],
  ],
  mkdirat: [[c.mkdirat(dir, 'd', 0o755), 'mkdirat(7</dir>, "d", 0755)']],
  createFile: [
    [
      c.createFile(out, dir, 'f', 0o644),
      'openat(7</dir>, "f", O_WRONLY|O_CREAT|O_EXCL|O_NOFOLLOW|O_CLOEXEC, 0644)',
    ],
  ],
  mountSetattr: [
    [
      c.mountSetattr(dir, { set: f.MOUNT_ATTR_NODEV }, undefined, true),
      'mount_setattr(7</dir>, "", AT_EMPTY_PATH|AT_RECURSIVE, {attr_set=MOUNT_ATTR_NODEV, attr_clr=0, propagation=0}, 32)',
    ],
    [
      c.mountSetattr(out, { clear: f.MOUNT_ATTR__ATIME, propagation: f.MS_SLAVE }),
      'mount_setattr(out, "", AT_EMPTY_PATH, {attr_set=0, attr_clr=MOUNT_ATTR__ATIME, propagation=MS_SLAVE}, 32)',
    ],
  ],
  attach: [[c.attach(out, '/target'), 'move_mount(out, "", AT_FDCWD, "/target", MOVE_MOUNT_F_EMPTY_PATH)']],
  attachAt: [
    [c.attachAt(out, fs), 'move_mount(out, "", fs, "", MOVE_MOUNT_F_EMPTY_PATH|MOVE_MOUNT_T_EMPTY_PATH)'],
  ],
  attachBelow: [
    [c.attachBelow(out, dir, [fs]), 'move_mount(out, "", 7</dir>, "{fs}", MOVE_MOUNT_F_EMPTY_PATH)'],
  ],
  hangBelow: [
    [c.hangBelow(out, fs), 'move_mount(out, "", fs, "", MOVE_MOUNT_F_EMPTY_PATH|MOVE_MOUNT_T_EMPTY_PATH)'],
  ],
  mount: [
    [
      c.mount('overlay', [out], 'overlay', f.MS_NODEV, ['lowerdir=', dir]),
      'mount("overlay", "{out}", "overlay", MS_NODEV, "lowerdir=7")',
    ],
    [c.mount(null, '/t', null, 0, null), 'mount(NULL, "/t", NULL, 0, NULL)'],
  ],
  umount: [
    [c.umount('t', true), 'umount2("t", MNT_DETACH|UMOUNT_NOFOLLOW)'],
    [c.umount('t', false), 'umount2("t", UMOUNT_NOFOLLOW)'],
    [c.umount(['/proc/self/fd/', out], true, false), 'umount2("/proc/self/fd/{out}", MNT_DETACH)'],
    [c.umount('t', false, false), 'umount2("t", 0)'],
  ],
  statxFd: [
    [
      c.statxFd(dir, true),
      'statx(7</dir>, "", AT_EMPTY_PATH, STATX_TYPE|STATX_MODE|STATX_NLINK|STATX_UID|STATX_GID|STATX_INO|STATX_MNT_ID_UNIQUE, statx)',
    ],
    [
      c.statxFd(out, false),
      'statx(out, "", AT_EMPTY_PATH, STATX_TYPE|STATX_MODE|STATX_NLINK|STATX_UID|STATX_GID|STATX_INO|STATX_MNT_ID, statx)',
    ],
  ],
  statxFile: [
    [
      c.statxFile(out),
      'statx(out, "", AT_EMPTY_PATH, STATX_TYPE|STATX_MODE|STATX_CTIME|STATX_INO|STATX_SIZE, statx)',
    ],
  ],
  statxPath: [
    [
      c.statxPath(cwd, 'a', true),
      'statx(AT_FDCWD, "a", AT_SYMLINK_NOFOLLOW|AT_NO_AUTOMOUNT, ' +
        'STATX_TYPE|STATX_MODE|STATX_NLINK|STATX_UID|STATX_GID|STATX_INO|STATX_MNT_ID_UNIQUE, statx)',
    ],
  ],
  fstatfs: [[c.fstatfs(out), 'fstatfs(out, statfs)']],
  fchdir: [[c.fchdir(dir), 'fchdir(7</dir>)']],
  chdir: [[c.chdir('/'), 'chdir("/")']],
  mkdir: [[c.mkdir('/d', 0o711), 'mkdirat(AT_FDCWD, "/d", 0711)']],
  unlink: [[c.unlink(out, 'd'), 'unlinkat(out, "d", 0)']],
  rmdirMounted: [[c.rmdirMounted(dir, [out]), 'unlinkat(7</dir>, "{out}", AT_REMOVEDIR)']],
  rmdir: [[c.rmdir(out, 'd'), 'unlinkat(out, "d", AT_REMOVEDIR)']],
  fchown: [[c.fchown(out, 100000, 0xffff_fffe), 'fchownat(out, "", 100000, 4294967294, AT_EMPTY_PATH)']],
  chmod: [[c.chmod(['/proc/self/fd/', out], 0o4755), 'fchmodat(AT_FDCWD, "/proc/self/fd/{out}", 04755)']],
  lsetxattr: [
    [c.lsetxattr('/d', 'user.x', Buffer.from([1, 255])), 'lsetxattr("/d", "user.x", "\\1\\377", 2, 0)'],
  ],
  assumeFsids: [[c.assumeFsids(0xffff_fffe, 5), 'assume_fsids(4294967294, 5)']],
  restoreFsids: [[c.restoreFsids(0, 0), 'restore_fsids(0, 0)']],
  inotifyAddWatch: [
    [
      c.inotifyAddWatch(dir, 'a', { kind: 'int', value: 0x400, symbol: 'IN_DELETE_SELF' }),
      'inotify_add_watch(7</dir>, "a", IN_DELETE_SELF)',
    ],
  ],
  claim: [[c.claim(dir), 'claim(7</dir>, statx)']],
  retireClaim: [
    [c.retireClaim(7), 'retire_claim(7)'],
    [c.retireClaim(hole), 'retire_claim({claim})'],
  ],
  restoreClaim: [
    [c.restoreClaim(7), 'restore_claim(7)'],
    [c.restoreClaim(hole), 'restore_claim({claim})'],
  ],
  dropClaim: [
    [c.dropClaim(7), 'drop_claim(7)'],
    [c.dropClaim(hole), 'drop_claim({claim})'],
  ],
  setns: [[c.setns(out, f.CLONE_NEWNS), 'setns(out, CLONE_NEWNS)']],
  unshare: [[c.unshare(f.CLONE_NEWNS | f.CLONE_FS), 'unshare(CLONE_FS|CLONE_NEWNS)']],
  pivotRoot: [[c.pivotRoot('.', 'old'), 'pivot_root(".", "old")']],
  chroot: [[c.chroot('.'), 'chroot(".")']],
  dup: [[c.dup(out, out), 'fcntl(out, F_DUPFD_CLOEXEC, 3)']],
  userns: [[c.userns(out, '0 100000 65536\n', '0 1 2\n'), 'userns("0 100000 65536\\n", "0 1 2\\n")']],
}
const steps = Object.values(table).flat()

t.test('the table of calls is the addon’s', async (t) => {
  const own = Object.entries(calls).map(([name, signature]) => `${name}:${signature}`)
  t.same(own, binding.programCalls())
})

t.test('every constructor and every call is in the table', async (t) => {
  const constructors = Object.keys(c).filter((name) => name !== 'sameInode')
  t.same(Object.keys(table).sort(), constructors.sort())
  t.same([...new Set(steps.map(([{ call }]) => call))].sort(), Object.keys(calls).sort())
})

t.test('strace’s notation', async (t) => {
  for (const [step, text] of steps) t.equal(renderCall(step), text)
})

t.test('arguments are of the kinds that the signature says', async (t) => {
  const kinds: Record<string, readonly Arg['kind'][]> = {
    f: ['fd'],
    i: ['int'],
    v: ['fd', 'int'],
    p: ['text'],
    P: ['text', 'null'],
    b: ['bytes'],
    a: ['mount_attr'],
    h: ['open_how'],
    x: ['out'],
    s: ['out'],
  }
  for (const [{ call, args }] of steps) {
    const signature = calls[call]
    t.equal(args.length, signature.length, call)
    args.forEach(({ kind }, i) => {
      t.ok(kinds[signature[i]!]?.includes(kind), `${call}, argument ${i + 1}: ${kind}`)
    })
  }
})

t.test('what makes an fd has a slot for it', async (t) => {
  const making = [
    'openat',
    'openat2',
    'fsopen',
    'fsmount',
    'open_tree',
    'open_tree_attr',
    'userns',
    'fcntl',
    'fspick',
  ]
  for (const [step, text] of steps) t.equal(step.out !== undefined, making.includes(step.call), text)
})

t.test('what is the same for every call', async (t) => {
  const subject = { option: 'lowerdir', index: 3 }
  const extra: c.Extra = { subject, tolerate: [17], report: true, when: 'always', ifDone: c.chdir('/') }
  t.match(c.openat(out, cwd, '/a', 0, extra), { ...extra, call: 'openat', out })
  t.match(c.mkdir('/a', 0o755, extra), extra)
  t.equal(c.attach(out, '/t').commits, true, 'the attach is what becomes visible')
  t.equal(c.hangBelow(out, fs).commits, undefined)
  t.same(c.sameInode({ dev: 5n, ino: 6n }), [
    { field: statxField.ino, value: 6n },
    { field: statxField.dev, value: 5n },
  ])
})
