/** Every call of native/calls.cc is made, with all of its arguments, and what it changed is looked at. */
import { closeSync, fstatSync, openSync, readdirSync, readFileSync, statSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { binding } from '../../lib/binding.js'
import * as f from '../../lib/flags.js'
import * as c from '../../lib/program/calls.js'
import { cwd, held, type PlanBuilder } from '../../lib/program/plan.js'
import { identityOf, type ProgramResult } from '../../lib/program/result.js'
import { calls, type Slot, statfsField, statxField } from '../../lib/program/step.js'
import * as sys from '../../lib/sys.js'
import { mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { scratch } from '../support/scratch.js'
import { closeOutputs, errno, nativePool, planOf } from './programs.js'

const pool = nativePool(t)
const made = new Set<string>()
const run = (add: (b: PlanBuilder) => void) => {
  const plan = planOf(add)
  const result = pool.run(plan)
  const end = result.status === 'done' ? plan.steps.length : result.step
  for (const { call } of plan.steps.slice(0, end)) made.add(call)
  return result
}
const done = (add: (b: PlanBuilder) => void) => {
  const result = run(add)
  if (result.status !== 'done') throw new Error(JSON.stringify(result))
  return result
}
const reports = (result: ProgramResult, ...steps: number[]) => steps.map((step) => result.report(step))
const dirFlags = f.O_PATH | f.O_DIRECTORY
const openDir = (b: PlanBuilder, path: string): Slot => {
  const slot = b.slot(path)
  b.add(c.openat(slot, cwd, path, dirFlags))
  return slot
}
const mountAt = (path: string) => mounts().find(({ target }) => target.equals(Buffer.from(path)))

t.test('directories and their attributes', privileged, async (t) => {
  const { path, mkdir } = scratch(t)
  const dir = mkdir('dir')
  symlinkSync(dir, path('link'))
  const value = Buffer.from([0, 1, 0, 255])
  const xattr = 'trusted.overlayfd-test'
  const result = done((b) => {
    const slot = openDir(b, dir)
    b.add(c.mkdir(join(dir, 'made'), 0o700), c.mkdir(join(dir, 'gone'), 0o700), c.rmdir(slot, 'gone'))
    b.add(c.chmod(join(dir, 'made'), 0o2751), c.lsetxattr(path('link'), xattr, value))
    b.add(c.lsetxattr(dir, 'trusted.overlayfd-empty', Buffer.alloc(0)))
    b.add(c.fchown(slot, 100_000, 0xffff_fffe))
    b.add(c.statxFd(slot, true, { report: true }), c.statxPath(slot, 'made', false, { report: true }))
    b.add(
      c.fstatfs(slot, {
        report: true,
        expect: [{ field: statfsField.type, value: BigInt(sys.TMPFS_MAGIC) }],
      }),
    )
  })
  t.same(readdirSync(dir), ['made'])
  t.equal(statSync(join(dir, 'made')).mode & 0o7777, 0o2751)
  t.match(statSync(dir), { uid: 100_000, gid: 0xffff_fffe })
  t.same(sys.lgetxattr(path('link'), xattr), value, 'of the link itself')
  t.notOk(sys.llistxattr(dir).some((name) => name.toString() === xattr))
  t.same(sys.lgetxattr(dir, 'trusted.overlayfd-empty'), Buffer.alloc(0))

  const [ofDir, ofMade] = reports(result, 8, 9) as [Buffer, Buffer]
  const node = statSync(dir, { bigint: true })
  const own = sys.statx(sys.AT_FDCWD, dir, 0, [sys.STATX_BASIC_STATS, sys.STATX_MNT_ID_UNIQUE])
  t.equal(identityOf(ofDir).ino, node.ino)
  t.equal(identityOf(ofDir).mountId, own.mntIdUnique)
  t.equal(identityOf(ofDir).dev, BigInt(own.devMajor) | (BigInt(own.devMinor) << 32n))
  t.equal(ofDir.readUInt32LE(statxField.uid.offset), 100_000)
  t.equal(ofDir.readUInt32LE(statxField.gid.offset), 0xffff_fffe)
  t.equal(ofMade.readUInt16LE(statxField.mode.offset), statSync(join(dir, 'made')).mode)
  t.equal(identityOf(ofMade).mountId, BigInt(mountAt(path())?.id ?? 0), 'STATX_MNT_ID')
})

t.test('openat2 keeps below', privileged, async (t) => {
  const { path, mkdir, dir } = scratch(t)
  mkdir('a', 'b')
  symlinkSync('b', path('a', 'link'))
  const below = (name: string, resolve: number) =>
    run((b) => b.add(c.openat2(b.output(b.slot('x')), openDir(b, path('a')), name, dirFlags, resolve)))
  const cases: [string, number, number][] = [
    ['b', f.RESOLVE_BENEATH | f.RESOLVE_NO_SYMLINKS, 0],
    ['link', f.RESOLVE_BENEATH, 0],
    ['link', f.RESOLVE_NO_SYMLINKS, 40],
    ['..', 0, 0],
    ['..', f.RESOLVE_BENEATH, 18],
    [dir, f.RESOLVE_BENEATH, 18],
  ]
  for (const [name, resolve, error] of cases) {
    const result = below(name, resolve)
    t.equal(result.errno, error, `${name} 0x${resolve.toString(16)}`)
    t.equal(closeOutputs(result), error ? 0 : 1)
  }
})

t.test('a superblock, from its context to its unmount', privileged, async (t) => {
  const { path, mkdir } = scratch(t)
  const target = mkdir('target')
  symlinkSync(target, path('link'))
  const attributes = f.MOUNT_ATTR_NOSUID | f.MOUNT_ATTR_NODEV
  const add = (key: string) => (b: PlanBuilder) => {
    const [fs, mount] = [b.slot('fs'), b.slot('mount')]
    b.add(c.fsopen(fs, 'tmpfs'), c.setString(fs, 'size', '64k'), c.setFlag(fs, key))
    b.add(c.create(fs), c.fsmount(mount, fs, attributes), c.attach(mount, target))
    b.add(c.mountSetattr(mount, { set: f.MOUNT_ATTR_NOEXEC, clear: f.MOUNT_ATTR_NOSUID }))
    b.add(c.mountSetattr(mount, { propagation: f.MS_SHARED }))
  }
  const refused = run(add('nonsense'))
  t.match(refused, { status: 'failed', step: 2, errno: errno.EINVAL })
  t.same(refused.log, ["tmpfs: Unknown parameter 'nonsense'"], 'what the context says of it')
  t.equal(mountAt(target), undefined)

  done(add('ro'))
  const found = mountAt(target)
  t.match(found, { type: 'tmpfs', attributes: ['rw', 'nodev', 'noexec', 'relatime'] })
  t.ok(found?.options.includes('size=64k') && found.options.includes('ro'))
  t.match(found?.propagation, [/^shared:/])
  const resize = (size: string) => (b: PlanBuilder) => {
    const fs = b.slot('fs')
    b.add(c.fspick(fs, openDir(b, target)), c.setString(fs, 'size', size), c.reconfigure(fs))
  }
  done(resize('128k'))
  t.ok(mountAt(target)?.options.includes('size=128k'))
  const silent = run(resize('many'))
  t.match(silent, { status: 'failed', errno: errno.EINVAL })
  t.match(silent.log, [/tmpfs: Bad value for 'size'/], 'of a context that was picked too')
  t.match(
    run((b) => b.add(c.umount(path('link'), true))),
    { errno: errno.EINVAL },
    'a link is not followed',
  )
  done((b) => b.add(c.umount(target, false)))
  t.equal(mountAt(target), undefined)
})

t.test('both logs of a program that went on after an error', privileged, async (t) => {
  const { log } = run((b) => {
    const fs = b.slot('fs')
    b.add(c.fsopen(fs, 'tmpfs'), c.setFlag(fs, 'one', { tolerate: [errno.EINVAL] }), c.setFlag(fs, 'two'))
  })
  t.same(log, ["tmpfs: Unknown parameter 'one'", "tmpfs: Unknown parameter 'two'"])
})

t.test('trees', privileged, async (t) => {
  const { path, mkdir } = scratch(t)
  const [from, target] = [mkdir('from'), mkdir('target')]
  mkdir('from', 'sub')
  const result = done((b) => {
    const dir = openDir(b, from)
    const [clone, readonly] = [b.slot('clone'), b.slot('readonly')]
    const [ofClone, ofReadonly] = [b.register('clone'), b.register('readonly')]
    b.add(c.cloneTree(clone, dir), c.cloneTreeAttr(readonly, dir, { set: f.MOUNT_ATTR_RDONLY }))
    const id = (register: typeof ofClone) => [{ field: statxField.mountId, register }]
    b.add(c.statxFd(clone, true, { remember: id(ofClone) }))
    b.add(c.statxFd(readonly, true, { remember: id(ofReadonly) }))
    b.add(c.mkdir(['/proc/self/fd/', clone, '/by-clone'], 0o700))
    b.add(c.mkdir(['/proc/self/fd/', readonly, '/refused'], 0o700, { tolerate: [30] }))
    // one below the other: then both go with one close
    b.add(c.hangBelow(readonly, clone), c.attach(clone, target))
    b.add(c.statxPath(cwd, target, true, { expect: [{ field: statxField.mountId, value: ofReadonly }] }))
    b.output(clone)
  })
  t.same(readdirSync(from), ['by-clone', 'sub'])
  const at = mounts().filter((mount) => mount.target.equals(Buffer.from(target)))
  t.match(at, [{ attributes: ['rw'] }, { attributes: ['ro'] }], 'attached with what hangs below it')
  closeOutputs(result)
  done((b) => b.add(c.umount(target, true), c.umount(target, true)))
  t.same(readdirSync(path('target')), [])
})

t.test('mount(2), with fds in all of its texts', privileged, async (t) => {
  const { mkdir } = scratch(t)
  const [from, target] = [mkdir('from'), mkdir('target')]
  done((b) => {
    const at = openDir(b, target)
    b.add(c.chdir('/proc/self/fd'))
    b.add(c.mount('of-test', [at], 'tmpfs', f.MS_NOSUID, ['size=', held(64, 'kilobytes'), 'k']))
    b.always(c.chdir('/'))
  })
  t.match(mountAt(target), { type: 'tmpfs', source: Buffer.from('of-test'), attributes: ['rw', 'nosuid'] })
  t.ok(mountAt(target)?.options.includes('size=64k'))
  done((b) => b.add(c.umount(target, false)))
  done((b) => {
    const [source, at] = [openDir(b, from), openDir(b, target)]
    b.add(c.fchdir(source), c.mkdir('by-name', 0o700), c.chdir('/proc/self/fd'))
    b.add(c.mount([source], [at], null, f.MS_BIND, null), c.chdir('/'))
  })
  t.same(readdirSync(target), ['by-name'])
  done((b) => b.add(c.umount(target, false)))
})

t.test('ids belong to the thread, and so do the rights that go with them', privileged, async (t) => {
  const { path, dir } = scratch(t)
  const as = (id: number, name: string) =>
    run((b) => {
      const assume = c.assumeFsids(id, id + 1)
      b.add(assume, c.mkdir(path(name), 0o700))
      b.always(c.restoreFsids(0, 0, { ifDone: assume }))
    })
  t.match(as(100_000, 'kept'), { status: 'done' })
  t.match(as(100_000, 'kept'), { status: 'failed', errno: 17 })
  done((b) => b.add(c.mkdir(path('root'), 0o700)))
  t.same(readdirSync(dir), ['kept', 'root'])
  t.match(statSync(path('kept')), { uid: 100_000, gid: 100_001 })
  t.match(statSync(path('root')), { uid: 0, gid: 0 })
  t.match(readFileSync('/proc/thread-self/status', 'utf8'), /^Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0$/m)
})

t.test('a watch, and its number', async (t) => {
  const fd = binding.inotifyInit1(0x800 | 0x80000)
  t.teardown(() => binding.close(fd))
  const dir = t.testdir({ a: {}, b: {} })
  const mask = { kind: 'int', value: 0x400, symbol: 'IN_DELETE_SELF' } as const
  const result = done((b) => {
    for (const name of ['a', 'b']) b.add(c.inotifyAddWatch(held(fd, 'inotify'), join(dir, name), mask))
  })
  const [a, b] = reports(result, 0, 1).map((report) => report?.readBigInt64LE())
  t.ok(a! > 0n && b! > a!, `${a} ${b}`)
  done((builder) => builder.add(c.rmdir(cwd, join(dir, 'b'))))
  const event = Buffer.alloc(64)
  t.ok(binding.read(fd, event) >= 16)
  t.equal(BigInt(event.readInt32LE(0)), b)
  t.equal(event.readUInt32LE(4), 0x400)
})

t.test('an fd under another number, close-on-exec; no other fcntl', privileged, async (t) => {
  const { dir } = scratch(t)
  const given = openSync(dir, 'r')
  const result = done((b) => {
    const slot = b.slot('dup')
    b.add(c.dup(slot, held(given, 'given')))
    b.output(slot)
  })
  const [fd] = result.outputs as [number]
  t.ok(fd > 2 && fd !== given)
  t.equal(fstatSync(fd).ino, statSync(dir).ino)
  const flags = /flags:\s*(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1] ?? ''
  t.not(Number.parseInt(flags, 8) & f.O_CLOEXEC, 0)
  closeOutputs(result)
  const F_SETFD = { kind: 'int', value: 2 } as const
  const refused = run((b) => {
    const slot = b.slot('none')
    const { args, ...dup } = c.dup(slot, held(given, 'given'))
    b.add({ ...dup, args: [args[0]!, F_SETFD, { kind: 'int', value: 0 }] })
  })
  t.match({ status: refused.status, errno: refused.errno }, { status: 'failed', errno: errno.EINVAL })
  closeSync(given)
})

t.test('each call was made', privileged, async (t) => {
  // close is in native.test.ts, userns in userns.test.ts, claims in native-claims.test.ts, and what moves a thread in
  // native-namespaces.test.ts
  const missing = Object.keys(calls).filter((name) => !made.has(name))
  const claims = ['claim', 'retire_claim', 'restore_claim', 'drop_claim']
  t.same(missing, ['close', 'userns', ...claims, 'setns', 'unshare', 'pivot_root', 'chroot'])
})
