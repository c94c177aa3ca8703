/** Reads what native/environment.cc answers for a program that has run. */
import { statxField } from './step.js'

export type ProgramStatus = 'done' | 'failed' | 'unexpected' | 'aborted' | 'malformed'
const statuses: readonly ProgramStatus[] = ['done', 'failed', 'unexpected', 'aborted', 'malformed']

export interface ProgramResult {
  readonly status: ProgramStatus
  /** index of the step that failed, or whose expectation was not met */
  readonly step: number
  /** positive */
  readonly errno: number
  /** fds in the order of the plan's outputs; -1 where the slot was empty */
  readonly outputs: readonly number[]
  /** buffers that steps filled, by the index of the step */
  readonly reports: ReadonlyMap<number, Buffer>
  /** lines of the fs context, without their level and newline */
  readonly log: readonly string[]
}

export function decodeResult(bytes: Buffer): ProgramResult {
  const word = (i: number) => bytes.readUInt32LE(i * 4)
  let at = 6
  const outputs: number[] = []
  for (let i = 0; i < word(3); i++) outputs.push(bytes.readInt32LE(at++ * 4))
  const reports = new Map<number, Buffer>()
  const end = at + word(4)
  while (at < end) {
    const words = word(at + 1)
    reports.set(word(at), bytes.subarray((at + 2) * 4, (at + 2 + words) * 4))
    at += 2 + words
  }
  const log = bytes.toString('utf8', at * 4, at * 4 + word(5))
  return {
    status: statuses[word(0)] ?? 'malformed',
    step: word(1),
    errno: word(2),
    outputs,
    reports,
    log: splitLog(log),
  }
}

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
