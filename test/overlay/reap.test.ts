import t from 'tap'
import { planCloseMount, planDiscard, planUnmount } from '../../lib/overlay/reap.js'
import { renderPlan } from '../../lib/program/explain.js'
import { statxField } from '../../lib/program/step.js'
import { kernels, lacking } from './kernels.js'

const attached = {
  target: Buffer.from('/c/7/rootfs'),
  mountId: 4711n,
  dev: 0x1_0000_0030n,
  kind: 'overlay',
} as const
const newest = kernels['6.18']
const lines = (plan: Parameters<typeof renderPlan>[0]) =>
  renderPlan(plan)
    .split('\n')
    .slice(1)
    .map((line) => line.trim())

t.test('an unmount looks before it leaps', async (t) => {
  const { plan, open, check } = planUnmount(attached, true, newest)
  t.match(lines(plan), [
    'openat2(AT_FDCWD, "/c/7", {flags=O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_PATH, resolve=RESOLVE_NO_SYMLINKS}, 24) = parent',
    /^statx\(parent, "rootfs", AT_SYMLINK_NOFOLLOW\|AT_NO_AUTOMOUNT, .*\|STATX_MNT_ID_UNIQUE, statx\) {2}expect stx_mnt_id=4711$/,
    'fchdir(parent)',
    'umount2("rootfs", MNT_DETACH|UMOUNT_NOFOLLOW)',
    'close(parent)',
    'chdir("/")',
  ])
  t.equal(plan.at(0), open)
  t.equal(plan.at(1), check)
  t.equal(check.report, true)
  t.equal(plan.at(3)?.commits, true)
  t.match(plan.cost, { namespaceSemWrites: 1, gracePeriods: 2, temporaryMounts: 0 })
})

t.test('what differs', async (t) => {
  t.equal(lines(planUnmount(attached, false, newest).plan)[3], 'umount2("rootfs", UMOUNT_NOFOLLOW)')
  t.match(planUnmount({ ...attached, kind: 'clone' }, true, newest).plan.cost, { gracePeriods: 1 })
  const old = planUnmount(attached, true, kernels['6.7'])
  t.same(
    old.check.expect,
    [
      { field: statxField.mountId, value: 4711n },
      { field: statxField.dev, value: attached.dev },
    ],
    'an id that may be given again is not enough',
  )
  const oldest = planUnmount(attached, true, lacking(newest, { openat2: 'ENOSYS' }))
  t.equal(oldest.open.call, 'openat', 'before 5.6, a path with links in it')
  const top = planUnmount({ ...attached, target: Buffer.from('/rootfs') }, true, newest)
  t.match(lines(top.plan)[0], /^openat2\(AT_FDCWD, "\/", /)
  for (const step of [top.open, top.check]) t.match(step.subject, { option: 'target' })
})

t.test('a mount that was never attached', async (t) => {
  const plan = planCloseMount(7)
  t.same(lines(plan), ['close(mount)'])
  t.match(plan.inputs, [[{ name: 'mount' }, 7]])
  t.match(plan.cost, { namespaceSemWrites: 1, gracePeriods: 2 })
})

t.test('leftovers: trees are closed as one', async (t) => {
  const plan = planDiscard({ trees: [5, 6, 7], fds: [8, 9] })
  t.same(lines(plan), [
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
  t.match(plan.cost, { namespaceSemWrites: 3, gracePeriods: 1, syscalls: 7, temporaryMounts: 0 })
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
