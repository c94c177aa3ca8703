/**
 * What one-shot calls have given back, kept for the next one that wants the same: for a second, and of many only those
 * that came last, because each has fds and a burst of calls may have a mapping of its own for each.
 */
const most = 32

export class Resting<T extends object> {
  readonly #retire: (entry: T) => void
  readonly #ms: number
  readonly #timers = new Map<T, NodeJS.Timeout>()
  /** those that nobody uses at the moment, the longest first */
  readonly #unused = new Set<T>()

  /** `retire`: its time is over; whoever uses it may do so to the end. */
  constructor(retire: (entry: T) => void, ms: number) {
    this.#retire = retire
    this.#ms = ms
  }

  /** Nobody uses it any more. */
  add(entry: T): void {
    this.#unused.add(entry)
    // from its first rest on: calls in quick succession do not keep it for ever
    if (!this.#timers.has(entry)) {
      this.#timers.set(entry, setTimeout(() => this.#retire(entry), this.#ms).unref())
    }
    const [eldest] = this.#unused
    if (this.#unused.size > most) this.#retire(eldest!)
  }

  /** Somebody uses it again. */
  wake(entry: T): void {
    this.#unused.delete(entry)
  }

  /** It is not kept any more. */
  delete(entry: T): void {
    this.#unused.delete(entry)
    clearTimeout(this.#timers.get(entry))
    this.#timers.delete(entry)
  }
}
