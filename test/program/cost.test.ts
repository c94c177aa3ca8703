import t from 'tap'
import * as f from '../../lib/flags.js'
import * as c from '../../lib/program/calls.js'
import { costOf } from '../../lib/program/cost.js'
import { cwd, held, type PlanBuilder } from '../../lib/program/plan.js'
import type { Slot } from '../../lib/program/step.js'
import { planOf } from './programs.js'

const dir = held(7, '/dir')
const cost = (...plans: ((b: PlanBuilder) => void)[]) => costOf(plans.map((add) => planOf(add)))
type Row = readonly [string, (b: PlanBuilder) => void, [writes: number, grace: number]]

const tree = (b: PlanBuilder, name = 'tree'): Slot => {
  const slot = b.slot(name)
  b.add(c.cloneTree(slot, dir))
  return slot
}
const mounted = (b: PlanBuilder): Slot => {
  const [fs, mount] = [b.slot('fs'), b.slot('mount')]
  b.add(c.fsopen(fs, 'overlay'), c.create(fs), c.fsmount(mount, fs, 0), c.close(fs))
  return mount
}

t.test('what takes the lock, and what waits for a grace period', async (t) => {
  const rows: readonly Row[] = [
    ['nothing', () => {}, [0, 0]],
    ['a thread that goes to another namespace', (b) => b.add(c.setns(dir, f.CLONE_NEWNS)), [0, 0]],
    ['a namespace of its own', (b) => b.add(c.unshare(f.CLONE_NEWNS), c.pivotRoot('.', '.')), [2, 0]],
    ['a directory of its own', (b) => b.add(c.unshare(f.CLONE_FS), c.chroot('.')), [0, 0]],
    ['directories', (b) => b.add(c.mkdir('/d', 0), c.openat(b.slot('d'), cwd, '/d', 0)), [0, 0]],
    ['a context, a superblock, a detached mount', (b) => void mounted(b), [0, 0]],
    ['… that is closed', (b) => b.add(c.close(mounted(b))), [1, 2]],
    ['… that is attached', (b) => b.add(c.attach(mounted(b), '/t')), [1, 0]],
    [
      '… that is attached, and its fd closed',
      (b) => {
        const mount = mounted(b)
        b.add(c.attach(mount, '/t'), c.close(mount))
      },
      [1, 0],
    ],
    ['a clone', (b) => void tree(b), [1, 0]],
    ['a clone that is closed', (b) => b.add(c.close(tree(b))), [2, 1]],
    ['a clone that is closed at the end', (b) => b.always(c.close(tree(b))), [2, 1]],
    [
      'two closes of it',
      (b) => {
        const slot = tree(b)
        b.add(c.close(slot), c.close(slot))
      },
      [2, 1],
    ],
    ['a clone with attributes, closed', (b) => {
        const slot = b.slot('tree')
        b.add(c.cloneTreeAttr(slot, dir, { set: f.MOUNT_ATTR_RDONLY }), c.close(slot))
      }, [2, 1]], // biome-ignore format: a table
    [
      'a clone hung below another',
      (b) => {
        const [one, two] = [tree(b, 'one'), tree(b, 'two')]
        b.add(c.hangBelow(two, one), c.close(two), c.close(one))
      },
      [4, 1],
    ],
    ['attributes', (b) => b.add(c.mountSetattr(dir, { set: f.MOUNT_ATTR_RDONLY })), [0, 0]],
    ['a propagation', (b) => b.add(c.mountSetattr(dir, { propagation: f.MS_SLAVE })), [1, 0]],
    ['mount(2)', (b) => b.add(c.mount('x', '/t', 'overlay', 0, null)), [1, 0]],
    ['a bind', (b) => b.add(c.mount('/a', '/t', null, f.MS_BIND, null)), [1, 0]],
    ['a remount', (b) => b.add(c.mount(null, '/t', null, f.MS_REMOUNT | f.MS_BIND, null)), [0, 0]],
    ['a propagation by mount(2)', (b) => b.add(c.mount(null, '/t', null, f.MS_PRIVATE, null)), [1, 0]],
    ['an unmount of something in use', (b) => b.add(c.umount('/t', true)), [1, 1]],
    [
      'an unmount that ends a superblock',
      (b) => b.add(c.umount('/t', true, true, { endsSuperblock: true })),
      [1, 2],
    ],
    ['close of a tree that was taken over', (b) => b.add(c.close(b.input('tree', 9, 'tree'))), [1, 1]],
    ['… of a superblock', (b) => b.add(c.close(b.input('mount', 9, 'superblock'))), [1, 2]],
    ['… of an ordinary fd', (b) => b.add(c.close(b.input('fd', 9))), [0, 0]],
  ]
  for (const [name, add, [namespaceSemWrites, gracePeriods]] of rows) {
    t.match(cost(add), { namespaceSemWrites, gracePeriods }, name)
  }
})

t.test('calls are counted by name, undo steps not at all', async (t) => {
  const found = cost((b) => {
    const made = c.mkdir('/a', 0o700)
    b.add(made, c.mkdir('/b', 0o700), c.chdir('/'))
    b.undo(made, c.rmdir(cwd, '/a'), c.umount('/t', true)).always(c.chdir('/'))
  })
  t.same(found, {
    namespaceSemWrites: 0,
    gracePeriods: 0,
    syscalls: 4,
    temporaryMounts: 0,
    calls: { mkdirat: 2, chdir: 2 },
  })
})

t.test('a user namespace is several calls', async (t) => {
  const { syscalls, calls } = cost((b) => b.add(c.userns(b.slot('userns'), '', '')))
  t.equal(syscalls, 14)
  const own = { prctl: 1, getppid: 1, exit: 1 }
  t.same(calls, { getpid: 1, readlinkat: 1, clone: 1, ...own, openat: 3, write: 2, close: 2, wait4: 1 })
})

t.test('attached besides what was asked for', async (t) => {
  const attached = (count: number) => (b: PlanBuilder) => {
    for (let i = 0; i < count; i++) b.add(c.attach(held(3, 'm'), '/t'))
  }
  for (const [count, temporaryMounts] of [
    [0, 0],
    [1, 0],
    [3, 2],
  ] as const) {
    t.match(cost(attached(count)), { temporaryMounts }, `${count} in one plan`)
  }
  t.match(cost(attached(1), attached(1)), { temporaryMounts: 0 }, 'each plan has one of its own')
})

t.test('several plans', async (t) => {
  const found = cost(
    (b) => void tree(b),
    // slots are a plan's own: this is no close of that tree
    (b) => b.add(c.close(b.slot('another'))),
    (b) => b.add(c.umount('/t', false)),
  )
  t.same(found, {
    namespaceSemWrites: 2,
    gracePeriods: 1,
    syscalls: 3,
    temporaryMounts: 0,
    calls: { open_tree: 1, close: 1, umount2: 1 },
  })
})
