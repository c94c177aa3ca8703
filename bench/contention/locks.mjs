/**
 * Which lock a kernel stack waits for. Locks have addresses and no names, so it is the function that took the lock that
 * tells: the first one above the locking code itself. A table, from reading stacks on Linux 6.18; what it does not know
 * is named by that function.
 */

/** Flags of the tracepoint, LCB_F_* of the kernel's trace/events/lock.h; of neither kind, it is a rw_semaphore. */
const [SPIN, READ, MUTEX] = [1, 2, 32]

const LOCKING =
  /^(native_|__pv_|pv_)?(queued_|virt_)?(spin|read|write)_lock|^_raw_|^(do_raw|queued)_|^rwsem_|^__?down_|^down_|^up_|^__mutex_|^mutex_|^osq_|^rt_mutex|^percpu_down|^__percpu_down|^percpu_rwsem/

/** Where a system call begins: the same in every stack. */
const ENTRY = /^(do_syscall_64|entry_SYSCALL|x64_sys_call|invoke_syscall|el0t?_|do_el0_svc|ret_from_fork)/

/** @type {readonly { kind?: Kind, caller: RegExp, lock: string }[]} the first that fits; without a kind, any */
const TABLE = [
  {
    kind: 'mutex',
    caller: /^exp_funnel_lock|^synchronize_rcu_expedited/,
    lock: 'exp_funnel_lock (queue for a grace period)',
  },
  { kind: 'mutex', caller: /^rcu_exp|^exp_/, lock: 'exp_wake_mutex (end of a grace period)' },
  { kind: 'mutex', caller: /^pcpu_alloc/, lock: 'pcpu_alloc_mutex' },
  { caller: /percpu|^pcpu_/, lock: 'pcpu_lock' },
  {
    caller:
      /rq_lock|^try_to_wake_up|^sched_|^(__)?schedule|^preempt_schedule|^pick_next|^finish_task|^ttwu_|^wake_q|^wake_up_q/,
    lock: 'run queue (scheduler)',
  },
  {
    caller:
      /^(s?rcu_|__s?rcu|note_gp|force_qs|sync_rcu|exp_funnel_lock|synchronize_rcu|call_rcu|__call_rcu|kfree_rcu|kvfree_call)/,
    lock: 'rcu_node (RCU)',
  },
  { kind: 'semaphore', caller: /super|^sget|^get_tree|^cleanup_mnt/, lock: 's_umount (a superblock)' },
  { kind: 'semaphore', caller: /shrinker/, lock: 'shrinker_mutex' },
  {
    kind: 'semaphore',
    caller:
      /mount|^namespace_|^vfs_open_tree|^open_tree|open_detached|loopback|_mnt|mntns|^dissolve|^do_set_group|^do_change_type|^path_pivot|^m_start|^drop_collected/,
    lock: 'namespace_sem',
  },
  {
    kind: 'semaphore',
    caller: /mmap|munmap|mprotect|madvise|fault|vma|^lock_mm|^__mm_/,
    lock: 'mmap_lock (of the process)',
  },
  {
    kind: 'semaphore',
    caller:
      /^ovl_|^vfs_|^do_(mkdir|rmdir|unlink)|^filename_create|^lookup|^open_last|^walk_|^start_|^lock_rename|^iterate_dir|^simple_start/,
    lock: 'i_rwsem (a directory)',
  },
  {
    caller:
      /^lockref_|^d_|^__d_|^dput|dentry|^fast_dput|^prepend|^dget|^select_collect|^path_has_submounts|^step_into/,
    lock: 'd_lock, rename_lock (dentries)',
  },
  {
    caller:
      /mount|_mnt|^mnt|^__?legitimize|^attach_recursive|^commit_tree|^umount_tree|^__lookup_mnt|^dissolve|^path_umount|^__do_sys_move/,
    lock: 'mount_lock',
  },
  {
    caller:
      /^(iget|ilookup|inode_insert|insert_inode|find_inode|__insert_inode|__remove_inode_hash|unlock_new_inode|__wait_on_freeing)/,
    lock: 'inode_hash_lock',
  },
  { caller: /^(new_inode|evict|evict_inodes|inode_sb_list)/, lock: 's_inode_list_lock (a superblock)' },
  { caller: /^(iput|inode_|__inode|igrab|clear_inode|ihold|ovl_(is_)?inuse)/, lock: 'i_lock (an inode)' },
  { caller: /super|^sget|^get_tree|^sb_/, lock: 'sb_lock' },
  { caller: /^get_fs_type|^get_filesystem/, lock: 'file_systems_lock' },
  { caller: /^(id[ar]_|xa_|xas_|radix|alloc_vfsmnt$)/, lock: 'ids, of mounts above all (xarray)' },
  {
    caller: /slab|^kmem_cache|^kfree|^kmalloc|^get_partial|^__kmem|^get_from_|partial|^get_any/,
    lock: 'slab allocator',
  },
  { caller: /rmqueue|pcp|page|folio|lru|zone|^__free_|^free_one/, lock: 'page allocator, LRU' },
  { caller: /list_lru|memcg|mem_cgroup|^try_charge|page_counter|cgroup/, lock: 'memory cgroup' },
  { caller: /futex|^get_futex/, lock: 'futex (user space)' },
  { caller: /^alloc_fd|close_fd|^fd_|^__?fget|^file_close|^pick_file/, lock: 'file table (of the process)' },
  {
    caller: /wait_queue|^__wake_up|^prepare_to_|^finish_wait|^add_wait|^swake|^ep_|^eventfd|^pipe_|^poll/,
    lock: 'wait queue',
  },
  { caller: /timer|tick|clock|update_|^task_|^cputime|^account/, lock: 'timers, accounting' },
]

/**
 * @typedef {'spin' | 'mutex' | 'semaphore'} Kind
 * @typedef {object} Wait
 * @property {Kind} kind
 * @property {boolean} isRead the shared side of a semaphore
 * @property {string} lock by the table
 * @property {string[]} frames functions, innermost first, from the one that took the lock on
 */

/**
 * @param {number} flags of the tracepoint
 * @param {readonly string[]} stack functions, innermost first
 * @returns {Wait}
 */
export const waitOf = (flags, stack) => {
  const kind = flags & MUTEX ? 'mutex' : flags & SPIN ? 'spin' : 'semaphore'
  const start = stack.findIndex((frame) => !LOCKING.test(frame))
  const end = stack.findIndex((frame) => ENTRY.test(frame))
  const frames = stack.slice(Math.max(0, start), end === -1 ? undefined : end)
  const [caller = 'unknown'] = frames
  const known = TABLE.find((row) => (row.kind ?? kind) === kind && row.caller.test(caller))
  return { kind, isRead: (flags & READ) !== 0, lock: known?.lock ?? `of ${caller}`, frames }
}

/** Sums by one property. @template T @param {readonly T[]} rows @param {(row: T) => string} keyOf */
export const sumBy = (rows, keyOf) => {
  const sums = new Map()
  for (const row of rows) {
    const sum = sums.get(keyOf(row)) ?? { key: keyOf(row), count: 0, nanoseconds: 0 }
    sums.set(sum.key, {
      ...sum,
      count: sum.count + row.count,
      nanoseconds: sum.nanoseconds + row.nanoseconds,
    })
  }
  return [...sums.values()].sort((a, b) => b.nanoseconds - a.nanoseconds)
}
