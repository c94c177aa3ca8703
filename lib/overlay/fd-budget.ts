/**
 * How many fds of layers the stacks of a mounter may keep open. A stack that does not fit is mounted by
 * name: slower by a statx a layer, and a layer that is renamed is not found any more.
 */
export class FdBudget {
  readonly limit: number
  #used = 0

  constructor(limit: number) {
    this.limit = limit
  }

  /** True, and they are taken, if so many more fit. */
  take(fds: number): boolean {
    if (this.#used + fds > this.limit) return false
    this.#used += fds
    return true
  }

  /** So many more are taken, whatever the limit: fds that nothing can be done without. */
  exceed(fds: number): void {
    this.#used += fds
  }

  giveBack(fds: number): void {
    this.#used -= fds
  }
}
