/**
 * What traced storms are made to tell: which lock a kernel stack is taken to wait for, and how what bpftrace writes
 * is read. The stacks are those of Linux 6.18.
 */
import t from 'tap'

interface Wait {
  kind: string
  isRead: boolean
  lock: string
  frames: string[]
}
interface Modules {
  waitOf(flags: number, stack: string[]): Wait
  sumBy(rows: object[], keyOf: (row: { key: string }) => string): object[]
  parseTrace(text: string): {
    waits: (Wait & { count: number; nanoseconds: number })[]
    gracePeriods: number
    rest: string
  }
}
const files = ['locks', 'trace'].map(
  (name) => new URL(`../../bench/contention/${name}.mjs`, import.meta.url).href,
)
const { waitOf, sumBy, parseTrace }: Modules = Object.assign(
  {},
  ...(await Promise.all(files.map((file) => import(file)))),
)

t.test('locks are told by the function that takes them', (t) => {
  const [spin, read, write, mutex] = [1, 2, 4, 32]
  const tail = ['do_syscall_64', 'entry_SYSCALL_64_after_hwframe']
  const slow = ['__pv_queued_spin_lock_slowpath', '_raw_spin_lock']
  for (const [flags, stack, lock] of [
    [
      mutex,
      ['__mutex_lock.constprop.0', 'exp_funnel_lock', 'synchronize_rcu_expedited', 'namespace_unlock'],
      'exp_funnel_lock (queue for a grace period)',
    ],
    [mutex, ['__mutex_lock.constprop.0', 'pcpu_alloc_noprof', 'alloc_vfsmnt'], 'pcpu_alloc_mutex'],
    [write, ['rwsem_down_write_slowpath', 'down_write', 'path_umount', '__x64_sys_umount'], 'namespace_sem'],
    [
      read,
      ['rwsem_down_read_slowpath', 'down_read', 'clone_private_mount', 'ovl_fill_super'],
      'namespace_sem',
    ],
    [write, ['rwsem_down_write_slowpath', 'down_write', 'vfs_open_tree'], 'namespace_sem'],
    [
      write,
      ['rwsem_down_write_slowpath', 'down_write', 'do_lock_mount.part.0', 'do_move_mount.isra.0'],
      'namespace_sem',
    ],
    [
      write,
      ['rwsem_down_write_slowpath', 'down_write_killable', '__vm_munmap'],
      'mmap_lock (of the process)',
    ],
    [spin, [...slow, 'clone_mnt', 'clone_private_mount'], 'mount_lock'],
    [spin, [...slow, '__legitimize_mnt', 'lookup_mnt', '__traverse_mounts'], 'mount_lock'],
    [spin, [...slow, 'mntput_no_expire', 'kern_unmount_array'], 'mount_lock'],
    [spin, [...slow, 'ilookup5_nowait', 'ilookup5', 'ovl_lookup_trap_inode'], 'inode_hash_lock'],
    [spin, [...slow, 'evict', 'ovl_free_fs'], 's_inode_list_lock (a superblock)'],
    [spin, [...slow, 'lockref_get_not_dead', '__legitimize_path'], 'd_lock, rename_lock (dentries)'],
    [
      spin,
      [...slow, 'raw_spin_rq_lock_nested', 'sched_balance_newidle', '__schedule', 'rwsem_down_read_slowpath'],
      'run queue (scheduler)',
    ],
    [spin, [...slow, '__schedule', 'schedule', 'exit_to_user_mode_loop'], 'run queue (scheduler)'],
    [spin, [...slow, 'free_percpu', 'delayed_free_vfsmnt', 'rcu_do_batch'], 'pcpu_lock'],
    [spin, [...slow, 'something_new', 'vfs_get_tree'], 'of something_new'],
  ] as const)
    t.equal(waitOf(flags, [...stack, ...tail]).lock, lock, stack.join(' ← '))
  t.strictSame(
    waitOf(read, ['rwsem_down_read_slowpath', 'down_read', 'clone_private_mount', 'ovl_fill_super', ...tail]),
    {
      kind: 'semaphore',
      isRead: true,
      lock: 'namespace_sem',
      frames: ['clone_private_mount', 'ovl_fill_super'],
    },
  )
  t.equal(waitOf(spin, []).lock, 'of unknown')
  t.end()
})

t.test('what bpftrace writes is told from what the traced program writes', (t) => {
  const stack = (...frames: string[]) => frames.map((frame) => `\n    ${frame}`).join('')
  const key = `4,${stack('rwsem_down_write_slowpath+285', 'down_write+102', 'path_umount+257', 'do_syscall_64+113')}\n`
  const text = [
    '{"type": "attached_probes", "data": {"probes": 5}}',
    '{"seconds":0.5,"composes":[100.5]}',
    '',
    JSON.stringify({
      type: 'stats',
      data: { '@waits': { [key]: { count: 3, average: 1000, total: 3000 } } },
    }),
    '{"type": "map", "data": {"@work": {"wait_rcu_exp_gp": 7, "kthread_something": 2}}}',
  ].join('\n')
  const { waits, gracePeriods, rest } = parseTrace(text)
  t.strictSame(waits, [
    {
      kind: 'semaphore',
      isRead: false,
      lock: 'namespace_sem',
      frames: ['path_umount'],
      count: 3,
      nanoseconds: 3000,
    },
  ])
  t.equal(gracePeriods, 7)
  t.equal(rest.trim(), '{"seconds":0.5,"composes":[100.5]}')
  t.throws(
    () => parseTrace('{"type": "attached_probes", "data": {"probes": 5}}\n'),
    /^bpftrace wrote no maps/,
  )
  t.throws(() => parseTrace('{"type": "map", "data": {\n'), /^bpftrace wrote "/)
  t.end()
})

t.test('sums are by key, the longest first', (t) => {
  const row = (key: string, count: number, nanoseconds: number) => ({ key, count, nanoseconds })
  const rows = [row('a', 1, 10), row('b', 2, 50), row('a', 3, 20)]
  t.strictSame(
    sumBy(rows, ({ key }) => key),
    [row('b', 2, 50), row('a', 4, 30)],
  )
  t.end()
})
