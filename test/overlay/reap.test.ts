import t from 'tap'
import {
  type Attached,
  openAbove,
  planCloseMount,
  planDiscard,
  planUnmount,
  type UnmountWay,
} from '../../lib/overlay/reap.js'
import { renderCall, renderPlan } from '../../lib/program/explain.js'
import { fillPlan } from '../../lib/program/fill.js'
import type { Plan } from '../../lib/program/plan.js'
import { statxField } from '../../lib/program/step.js'
import { kernels, lacking } from './kernels.js'

const attached: Attached = {
  target: Buffer.from('/c/7/rootfs'),
  mountId: 4711n,
  dev: 0x1_0000_0030n,
  kind: 'overlay',
  claim: 12,
  namespace: 1,
}
const early: UnmountWay = { lazy: true, early: true }
const newest = kernels['6.18']
const lines = (plan: Plan) =>
  renderPlan(plan)
    .split('\n')
    .slice(1)
    .map((line) => line.trim())
/** As it is run, with its holes filled. */
const unmountOf = (mount: Attached, way: UnmountWay, features = newest): Plan => {
  const { plan, fills } = planUnmount(mount, way, features)
  return fillPlan(plan, fills)
}
const at = (plan: Plan, call: string) => plan.steps.find((step) => step.call === call)!
/** What of weight happens before the answer, and what behind it. */
const around = (plan: Plan): string[] => {
  const answer = plan.steps.findIndex(({ answers }) => answers)
  const names = plan.steps.map((step) => (step.endsSuperblock ? renderCall(step) : step.call))
  const isOfWeight = (name: string) => /^(umount2|.*_claim|close\(mount\))$/.test(name)
  return [names.slice(0, answer + 1), names.slice(answer + 1)].map((some) =>
    some.filter(isOfWeight).join(' '),
  )
}
const above =
  'openat2(AT_FDCWD, "/c/7", {flags=O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_PATH, resolve=RESOLVE_NO_SYMLINKS}, 24) = parent'

t.test('an unmount looks before it leaps, and keeps what it saw until the mount has left', async (t) => {
  const plan = unmountOf(attached, early)
  t.match(lines(plan), [
    above,
    /^openat\(parent, "rootfs", O_RDONLY\|O_NOFOLLOW\|O_CLOEXEC\|O_PATH, 0\) = mount$/,
    /^statx\(mount, "", AT_EMPTY_PATH, .*\|STATX_MNT_ID_UNIQUE, statx\) {2}expect stx_mnt_id=4711$/,
    'fchdir(parent)',
    'retire_claim(12)',
    'umount2("rootfs", MNT_DETACH|UMOUNT_NOFOLLOW)',
    'on failure: restore_claim(12)',
    'close(parent)',
    'chdir("/")',
    'close(mount)',
    'drop_claim(12)',
  ])
  t.equal(plan.at(openAbove)?.call, 'openat2')
  t.equal(at(plan, 'statx').report, true)
  t.equal(at(plan, 'umount2').commits, true)
  t.same(
    around(plan),
    ['retire_claim umount2 restore_claim', 'close(mount) drop_claim'],
    'who waits for the directories is told to before anybody is answered',
  )
  t.equal(at(plan, 'drop_claim').ifDone, at(plan, 'umount2'), 'no claim is dropped of what stays mounted')
  t.match(plan.cost, { namespaceSemWrites: 1, gracePeriods: 2, temporaryMounts: 0 })
  const readOnly = unmountOf({ ...attached, claim: 0 }, early)
  t.same(
    readOnly.steps.map(({ call }) => call),
    ['openat2', 'openat', 'statx', 'fchdir', 'umount2', 'close', 'chdir', 'close'],
    'without an upper there is nothing to be claimed',
  )
  t.same(around(readOnly), ['umount2', 'close(mount)'])
  t.match(readOnly.cost, { namespaceSemWrites: 1, gracePeriods: 2 })
})

t.test('an unmount that is waited for to its end', async (t) => {
  const expected = [
    above,
    /^statx\(parent, "rootfs", AT_SYMLINK_NOFOLLOW\|AT_NO_AUTOMOUNT, .*\|STATX_MNT_ID_UNIQUE, statx\) {2}expect stx_mnt_id=4711$/,
    'fchdir(parent)',
    'retire_claim(12)',
    'umount2("rootfs", MNT_DETACH|UMOUNT_NOFOLLOW)',
    'on failure: restore_claim(12)',
    'close(parent)',
    'chdir("/")',
    'drop_claim(12)',
  ]
  const whole = unmountOf(attached, { lazy: true, early: false })
  t.match(lines(whole), expected)
  t.notOk(whole.steps.some(({ answers }) => answers))
  t.equal(at(whole, 'statx').report, true)
  t.equal(at(whole, 'umount2').commits, true)
  t.match(whole.cost, { namespaceSemWrites: 1, gracePeriods: 2, temporaryMounts: 0 })
  for (const isEarly of [true, false]) {
    const busy = unmountOf(attached, { lazy: false, early: isEarly })
    t.match(lines(busy), expected.with(4, 'umount2("rootfs", UMOUNT_NOFOLLOW)'), 'an fd would make it busy')
    t.notOk(busy.steps.some(({ answers }) => answers))
    t.match(busy.cost, { namespaceSemWrites: 1, gracePeriods: 2 })
  }
  const { openat = 0, close = 0, ...others } = unmountOf(attached, early).cost.calls
  const { openat: opened = 0, close: closed = 0, ...same } = whole.cost.calls
  t.same(others, same)
  t.same([openat - opened, close - closed], [1, 1], 'what the early answer costs')
})

t.test('what differs', async (t) => {
  const clone: Attached = { ...attached, kind: 'clone', claim: 0 }
  t.match(unmountOf(clone, early).cost, { gracePeriods: 1 })
  t.same(
    unmountOf(clone, early).steps.map(({ call }) => call),
    ['openat2', 'statx', 'fchdir', 'umount2', 'close', 'chdir'],
    'no superblock ends with it',
  )
  for (const way of [early, { lazy: true, early: false }]) {
    t.same(
      at(unmountOf(attached, way, kernels['6.7']), 'statx').expect,
      [
        { field: statxField.mountId, value: 4711n },
        { field: statxField.dev, value: attached.dev },
      ],
      'an id that may be given again is not enough',
    )
  }
  const oldest = unmountOf(attached, early, lacking(newest, { openat2: 'ENOSYS' }))
  t.equal(oldest.at(openAbove)?.call, 'openat', 'before 5.6, a path with links in it')
  const top = unmountOf({ ...attached, target: Buffer.from('/rootfs') }, early)
  t.match(lines(top)[0], /^openat2\(AT_FDCWD, "\/", /)
  for (const step of [top.at(openAbove)!, at(top, 'statx')]) t.match(step.subject, { option: 'target' })
})

t.test('one plan serves all unmounts of a kind', async (t) => {
  const other: Attached = { ...attached, target: Buffer.from('/d'), mountId: 1n, dev: 2n, claim: 3 }
  for (const features of [newest, kernels['6.7']]) {
    const one = planUnmount(attached, early, features)
    t.equal(planUnmount(other, early, features).plan, one.plan)
    t.equal(one.fills.length, one.plan.holes)
    t.equal(String(fillPlan(one.plan, one.fills)), String(unmountOf(attached, early, features)))
    t.notMatch(String(fillPlan(one.plan, one.fills)), /\{(directory above|name|mount id|device|claim)\}/)
    const different = [
      planUnmount({ ...attached, claim: 0 }, early, features),
      planUnmount({ ...attached, kind: 'clone', claim: 0 }, early, features),
      planUnmount(attached, { lazy: false, early: true }, features),
      planUnmount(attached, { lazy: true, early: false }, features),
    ]
    const plans = new Set([one, ...different].map(({ plan }) => plan))
    t.equal(plans.size, 5)
    for (const { plan, fills } of different) t.equal(fills.length, plan.holes)
  }
})

t.test('a mount that was never attached', async (t) => {
  const plan = planCloseMount(7, 0, early)
  t.same(lines(plan), ['close(mount)'])
  t.match(plan.inputs, [[{ name: 'mount' }, 7]])
  t.match(plan.cost, { namespaceSemWrites: 1, gracePeriods: 2 })
  for (const isEarly of [true, false]) {
    const claimed = planCloseMount(7, 12, { early: isEarly })
    t.same(lines(claimed), ['retire_claim(12)', 'close(mount)', 'drop_claim(12)'])
    t.equal(claimed.at(0)?.answers, isEarly)
    t.match(claimed.cost, { namespaceSemWrites: 1, gracePeriods: 2, syscalls: 1 })
  }
})

t.test(
  'who wants to know when the superblock is gone watches it while the mount is still there',
  async (t) => {
    const way = { lazy: true, early: false, inotify: 9 }
    for (const kind of ['overlay', 'clone'] as const) {
      const names = unmountOf({ ...attached, kind }, way).steps.map(({ call }) => call)
      t.same(
        names.slice(1, 6),
        ['statx', 'fchdir', 'inotify_add_watch', 'retire_claim', 'umount2'],
        'once it is known to be ours',
      )
    }
    t.same(
      planCloseMount(7, 12, way).steps.map(({ call }) => call),
      ['inotify_add_watch', 'retire_claim', 'close', 'drop_claim'],
    )
    t.not(
      planUnmount(attached, way, newest).plan,
      planUnmount(attached, { ...way, inotify: 10 }, newest).plan,
    )
  },
)

t.test('leftovers: trees are closed as one', async (t) => {
  const plan = planDiscard({ trees: [5, 6, 7], fds: [8, 9] })
  t.same(lines(plan), [
    'mount_setattr(tree 0, "", AT_EMPTY_PATH, {attr_set=0, attr_clr=0, propagation=MS_PRIVATE}, 32)',
    'mount_setattr(tree 1, "", AT_EMPTY_PATH, {attr_set=0, attr_clr=0, propagation=MS_PRIVATE}, 32)',
    'move_mount(tree 1, "", tree 0, "", MOVE_MOUNT_F_EMPTY_PATH|MOVE_MOUNT_T_EMPTY_PATH)',
    'close(tree 1)',
    'move_mount(tree 2, "", tree 0, "", MOVE_MOUNT_F_EMPTY_PATH|MOVE_MOUNT_T_EMPTY_PATH)',
    'close(tree 2)',
    'close(tree 0)',
    'close(fd 0)',
    'close(fd 1)',
  ])
  t.same(
    plan.inputs.map(([, fd]) => fd),
    [5, 6, 7, 8, 9],
  )
  t.match(plan.cost, { namespaceSemWrites: 5, gracePeriods: 1, syscalls: 9, temporaryMounts: 0 })
  const hang = plan.steps.filter(({ call }) => call === 'move_mount')
  t.ok(
    hang.every(({ tolerate }) => tolerate?.includes(22)),
    'where it cannot be hung up, its close is as good',
  )
})

t.test('a single tree, only fds, nothing', async (t) => {
  t.same(lines(planDiscard({ trees: [5] })), ['close(tree 0)'])
  t.match(planDiscard({ trees: [5] }).cost, { namespaceSemWrites: 1, gracePeriods: 1 })
  t.same(lines(planDiscard({ fds: [5] })), ['close(fd 0)'])
  t.match(planDiscard({ fds: [5] }).cost, { namespaceSemWrites: 0, gracePeriods: 0 })
  t.same(planDiscard({}).steps, [])
})
