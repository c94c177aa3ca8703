/** One operation at a time on a mount, in the order of the calls. */
import { invalidState } from '../errors.js'
import { drive, type Flow } from '../program/flow.js'
import type { Trace } from '../program/pool.js'

export class Turns {
  readonly #onEnd: () => void
  /** operations under way: one runs, the others wait for it */
  #operations = 0
  #last: Promise<unknown> | undefined

  /** `onEnd`: after each operation. */
  constructor(onEnd: () => void) {
    this.#onEnd = onEnd
  }

  get isBusy(): boolean {
    return this.#operations > 0
  }

  mustBeIdle(): void {
    if (this.isBusy) throw invalidState('another operation on this mount is under way')
  }

  /** Drives a flow as one operation. */
  drive<T>(flow: Flow<T>, trace?: Trace): Promise<T> {
    return this.#take(() => drive(this.#counted(flow), undefined, trace))
  }

  /** Runs something as one operation. */
  hold<T>(run: () => Promise<T>): Promise<T> {
    return this.#take(async () => {
      try {
        return await run()
      } finally {
        this.#end()
      }
    })
  }

  #take<T>(run: () => Promise<T>): Promise<T> {
    const mine = this.#operations++ === 0 ? run() : this.#last!.then(run, run)
    this.#last = mine
    return mine
  }

  *#counted<T>(flow: Flow<T>): Flow<T> {
    try {
      return yield* flow
    } finally {
      this.#end()
    }
  }

  #end(): void {
    this.#operations--
    this.#onEnd()
  }
}
