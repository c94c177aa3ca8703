/**
 * A bound on flows that hold fds between their programs.
 *
 * A mount that opens its own layers runs one program to open them and another to mount them. The threads take programs
 * in the order in which they come, so of many such flows at once all would open their layers before the first is
 * mounted. Twice as many as there are threads keep these busy; the others wait here, where they hold nothing but what
 * they were asked for, and begin in the order of their calls.
 */
import { whenAborted } from './abort.js'
import { drive, type Flow } from './flow.js'
import type { Pool, Trace } from './pool.js'

interface Waiter {
  /** none of one that was aborted */
  start: (() => void) | undefined
  next: Waiter | undefined
}

export class Lanes {
  readonly #pool: Pool
  #free: number
  #waiting = 0
  #first: Waiter | undefined
  #last: Waiter | undefined
  #isStarting = false

  /** `pool`: the one that they wait for; its counts have those that wait. */
  constructor(pool: Pool, lanes: number) {
    this.#pool = pool
    this.#free = lanes
  }

  /** How many have not begun. */
  get waiting(): number {
    return this.#waiting
  }

  /** As `drive`; the flow begins when there is a lane for it. Aborted before that, it never begins. */
  drive<T>(flow: Flow<T>, signal?: AbortSignal, trace?: Trace): Promise<T> {
    const begin = () => drive(this.#inLane(flow), signal, trace)
    return this.#free > 0 ? begin() : this.#wait(begin, signal)
  }

  #wait<T>(begin: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    return new Promise((resolve, reject) => {
      const release = this.#pool.hold()
      const leave = () => {
        waiter.start = undefined
        this.#waiting--
        forget?.()
      }
      const waiter: Waiter = {
        start: () => {
          leave()
          resolve(begin())
          release()
        },
        next: undefined,
      }
      const forget =
        signal &&
        whenAborted(signal, () => {
          leave()
          reject(signal.reason)
          release()
        })
      this.#waiting++
      if (this.#last === undefined) this.#first = waiter
      else this.#last.next = waiter
      this.#last = waiter
    })
  }

  *#inLane<T>(flow: Flow<T>): Flow<T> {
    this.#free--
    try {
      return yield* flow
    } finally {
      this.#free++
      this.#startNext()
    }
  }

  /** One that ends as soon as it begins comes here again: a loop, and not as deep as many wait. */
  #startNext(): void {
    if (this.#isStarting) return
    this.#isStarting = true
    while (this.#free > 0 && this.#first !== undefined) {
      const { start, next } = this.#first
      this.#first = next
      if (next === undefined) this.#last = undefined
      start?.()
    }
    this.#isStarting = false
  }
}
