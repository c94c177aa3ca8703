/**
 * Reads what native/environment.cc writes for programs that have run: one result, or several one after the other.
 *
 * The words belong to the addon and are overwritten by the next results: whoever wants to keep a buffer of a
 * report copies it.
 */
import { statxField } from './step.js'

export type ProgramStatus = 'done' | 'failed' | 'unexpected' | 'aborted' | 'malformed' | 'refused'
/** In the order of native/program.h, whose `waits` never gets here. */
const statuses: readonly (ProgramStatus | undefined)[] = [
  'done',
  'failed',
  'unexpected',
  'aborted',
  'malformed',
  undefined,
  'refused',
]

/** How long a step took. */
export interface Timing {
  /** index of the step */
  readonly step: number
  readonly nanoseconds: number
}

const head = 12
const none: readonly never[] = []

/** The result that begins at a word; what of it is not asked for is not read. */
export class ProgramResult {
  readonly #view: DataView
  readonly #begin: number
  /** where the reports stand, by step; of one report nobody needs to know */
  #reports: Map<number, number> | undefined

  constructor(view: DataView, begin: number) {
    this.#view = view
    this.#begin = begin
  }

  #word(i: number): number {
    return this.#view.getUint32((this.#begin + i) * 4, true)
  }

  /** the same in memory of its own */
  copy(): ProgramResult {
    const { buffer, byteOffset } = this.#view
    const at = byteOffset + this.#begin * 4
    return new ProgramResult(new DataView(buffer.slice(at, at + this.words * 4)), 0)
  }

  /** words of the result */
  get words(): number {
    return this.#word(0)
  }

  get job(): number {
    return this.#word(1)
  }

  get status(): ProgramStatus {
    return statuses[this.#word(2)] ?? 'malformed'
  }

  /** index of the step that failed, or whose expectation was not met */
  get step(): number {
    return this.#word(3)
  }

  /** positive */
  get errno(): number {
    return this.#word(4)
  }

  /** of a success: the number of the program's claim; of an EBUSY: that of the one in the way; else 0 */
  get claim(): number {
    return this.#word(9) + this.#word(10) * 0x1_0000_0000
  }

  /** the thread that ran it could not be brought home, and serves no other program */
  get isStranded(): boolean {
    return this.#word(11) !== 0
  }

  /** fds in the order of the plan's outputs; -1 where the slot was empty */
  get outputs(): readonly number[] {
    const count = this.#word(5)
    if (count === 0) return none
    return Array.from({ length: count }, (_, i) => this.#view.getInt32((this.#begin + head + i) * 4, true))
  }

  get #reportsAt(): number {
    const outputs = this.#word(5)
    return head + outputs + (outputs % 2)
  }

  get #timingsAt(): number {
    return this.#reportsAt + this.#word(6)
  }

  get hasReports(): boolean {
    return this.#word(6) > 0
  }

  /** the buffer that a step filled, by the index of the step */
  report(step: number): Buffer | undefined {
    if (!this.hasReports) return undefined
    let at: number | undefined = this.#reportsAt
    if (this.#word(at) !== step) at = this.#indexReports().get(step)
    return at === undefined ? undefined : this.#bytes(at + 2, this.#word(at + 1) * 4)
  }

  #indexReports(): Map<number, number> {
    if (this.#reports) return this.#reports
    this.#reports = new Map()
    for (let at = this.#reportsAt; at < this.#timingsAt; at += 2 + this.#word(at + 1)) {
      this.#reports.set(this.#word(at), at)
    }
    return this.#reports
  }

  /** in the order in which the steps ran; empty if they were not timed */
  get timings(): readonly Timing[] {
    const words = this.#word(7)
    if (words === 0) return none
    return Array.from({ length: words / 4 }, (_, i) => {
      const at = this.#timingsAt + i * 4
      return { step: this.#word(at), nanoseconds: this.#word(at + 1) + this.#word(at + 2) * 0x1_0000_0000 }
    })
  }

  /** lines of the fs context, without their level and newline */
  get log(): readonly string[] {
    const size = this.#word(8)
    return size === 0 ? none : splitLog(this.#bytes(this.#timingsAt + this.#word(7), size).toString())
  }

  #bytes(word: number, size: number): Buffer {
    const { buffer, byteOffset } = this.#view
    return Buffer.from(buffer, byteOffset + (this.#begin + word) * 4, size)
  }
}

/** Reads the result that begins at this word. */
export const decodeResult = (view: DataView, begin = 0): ProgramResult => new ProgramResult(view, begin)

/** Lines of an fs context: `e overlay: text` becomes `overlay: text`. */
export function splitLog(text: string): string[] {
  const lines = text.split('\n').filter((line) => line !== '')
  return lines.map((line) => line.replace(/^[ewi] /, ''))
}

/** What identifies a directory and the mount it was reached through. */
export interface Identity {
  readonly dev: bigint
  readonly ino: bigint
  /** unique where the kernel has it (6.8), else the id that is reused */
  readonly mountId: bigint
}

export function identityOf(statx: Buffer): Identity {
  return {
    dev: statx.readBigUInt64LE(statxField.dev.offset),
    ino: statx.readBigUInt64LE(statxField.ino.offset),
    mountId: statx.readBigUInt64LE(statxField.mountId.offset),
  }
}
