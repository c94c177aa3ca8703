/**
 * What calls that were really made cost: writers of namespace_sem and RCU grace periods, derived from strace's
 * lines by the rules that tracing Linux 6.18 gave. Written apart from lib/program/cost.ts, which counts
 * from plans: the two check each other.
 *
 *   open_tree(OPEN_TREE_CLONE), open_tree_attr   1 write   its close, while it is detached: 1 write, 1 grace period
 *   fsmount                                      none      its close, while it is detached: 1 write, 2 grace periods
 *                                                          (1 of an image of erofs: the overlay that was made of it
 *                                                          has a clone, with which its superblock ends; and of a
 *                                                          tmpfs, whose superblock's end waits for nothing)
 *   move_mount, mount                            1 write   (a remount of one mount's flags: none)
 *   mount_setattr with a propagation             1 write
 *   fsconfig CMD_CREATE that fails               1 grace period: the clones of layers' mounts go
 *   open_tree of a name: an overlay's            1 write   its close, while it is detached: 1 write, 2 grace periods
 *   unlinkat of a directory with mounts on it    1 write, 1 grace period: they go with it
 *                                                (open_tree_attr with one: 1 more; strace 6.1 does not show it)
 *   umount2                                      1 write, 1 grace period, 2 if an overlay goes with it
 */
import type { Syscall } from './strace.js'

export interface Locks {
  readonly writes: number
  readonly grace: number
}

/** what gives a number to something that costs nothing to close */
const isPlain = /^(openat2?|fsopen|fspick)$/
const isTree = /^open_tree(_attr)?$/
/** strace prints what it has no words for in hexadecimal */
const fdOf = (text: string): number => Number(/^(0x)?[0-9a-f]+/.exec(text)?.[0])

/** What the staging namespace has: numbers, below its root. */
const names = (args: string): string[] =>
  [...args.matchAll(/"\/?(\d+)"/g)].map(([, place]) => place as string)

class Counter {
  writes = 0
  grace = 0
  /** fd of a mount that is attached nowhere → grace periods that its close takes */
  readonly #detached = new Map<number, number>()
  /** contexts of erofs and tmpfs */
  readonly #light = new Set<number>()
  /** names that something was mounted on */
  readonly #places = new Set<string>()

  add({ name, args, result }: Syscall, overlays: boolean): void {
    if (name === 'fsconfig' && args.includes('FSCONFIG_CMD_CREATE') && result.startsWith('-1')) this.grace++
    if (result.startsWith('-1')) return
    if (isPlain.test(name)) this.#detached.delete(fdOf(result))
    if (isTree.test(name))
      this.#detached.set(fdOf(result), name === 'open_tree' && !args.includes('AT_EMPTY') ? 2 : 1)
    if (name === 'move_mount' || name === 'mount') for (const place of names(args)) this.#places.add(place)
    if (name === 'unlinkat' && names(args).some((place) => this.#places.delete(place))) {
      this.writes++
      this.grace++
    }
    if (name === 'fsopen' && /^"(erofs|tmpfs)"/.test(args)) this.#light.add(fdOf(result))
    if (name === 'fsmount') this.#detached.set(fdOf(result), this.#light.has(fdOf(args)) ? 1 : 2)
    if (name === 'umount2') this.grace += overlays ? 2 : 1
    if (name === 'close') {
      const grace = this.#detached.get(fdOf(args)) ?? 0
      if (grace > 0) this.writes++
      this.grace += grace
    }
    if (name === 'close' || name === 'move_mount') this.#detached.delete(fdOf(args))
    if (name === 'close') this.#light.delete(fdOf(args))
    if (isTree.test(name) || name === 'move_mount' || name === 'umount2') this.writes++
    if (name === 'mount' && !args.includes('MS_REMOUNT')) this.writes++
    if (name === 'mount_setattr' && /propagation=[^0]/.test(args)) this.writes++
  }
}

/**
 * @param before calls made earlier, which tell what the fds are
 * @param overlays the targets of umount2 hold overlays, whose superblock ends with them
 */
export const lockWrites = (
  calls: readonly Syscall[],
  before: readonly Syscall[],
  overlays: boolean,
): Locks => {
  const counter = new Counter()
  const counted = new Set(calls)
  const sum = { writes: 0, grace: 0 }
  // the number of an fd is free from the beginning of its close, and taken when what makes one ends: other threads' calls
  // stand between
  const when = ({ name, begun, ended }: Syscall): number => (name === 'close' ? begun : ended - 0.5)
  for (const call of [...before, ...calls].sort((a, b) => when(a) - when(b))) {
    const { writes, grace } = counter
    counter.add(call, overlays)
    if (!counted.has(call)) continue
    sum.writes += counter.writes - writes
    sum.grace += counter.grace - grace
  }
  return sum
}
