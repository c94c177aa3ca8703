/**
 * Waits until a superblock is gone, whoever holds it: inotify(7) says IN_UNMOUNT when it is.
 *
 * An unmounted overlay lives on while somebody has an open file in it, or another mount namespace has a copy of the
 * mount; no other call of the kernel tells when that ends. A watch holds neither (seen on Linux 6.18). One inotify
 * instance serves everybody who waits, because a user may have 128 only; where it is refused, or a watch is, there is
 * no waiting beyond the unmount itself.
 */
import { binding } from '../binding.js'
import * as c from '../program/calls.js'
import type { Outcome } from '../program/outcome.js'
import { held } from '../program/plan.js'
import type { IntArg, Step, Text } from '../program/step.js'

const IN_NONBLOCK = 0x800
const IN_CLOEXEC = 0x80000
const IN_UNMOUNT = 0x2000
/** IN_UNMOUNT comes to every watch; a watch wants to be for something else as well. */
const mask: IntArg = {
  kind: 'int',
  value: 0x400 | 0x100_0000 | 0x200_0000,
  symbol: 'IN_DELETE_SELF|IN_ONLYDIR|IN_DONT_FOLLOW',
}
/** EACCES, ENOMEM, ENOSPC: no right to read it, no room for a watch */
const refused = [13, 12, 28]

/** Watches the directory that a path shows, as part of a program. */
export const watchStep = (inotify: number, path: Text): Step =>
  c.inotifyAddWatch(held(inotify, 'inotify'), path, mask, { tolerate: refused })

/** Number of the watch that a program has made. */
export function watchOf(outcome: Outcome): number | undefined {
  const step = outcome.plan.steps.find(({ call }) => call === 'inotify_add_watch')
  const report = step && outcome.report(step)
  return report && Number(report.readBigInt64LE())
}

/** How long an instance that nobody waits with is kept: its close takes a millisecond (seen on Linux 6.18). */
const lingerMs = 1000

/** How long to wait before looking again: the first time a superblock has mostly gone by then. */
const firstMs = 1
const longestMs = 50

export class TeardownWatcher {
  static #shared: TeardownWatcher | undefined

  readonly fd: number
  #users = 0
  #timer: NodeJS.Timeout | undefined
  readonly #ended = new Set<number>()
  readonly #buffer = Buffer.alloc(4096)

  private constructor(fd: number) {
    this.fd = fd
  }

  /** The one that all share; to be given back by `release`. */
  static take(): TeardownWatcher | undefined {
    if (TeardownWatcher.#shared === undefined) {
      const fd = binding.inotifyInit1(IN_NONBLOCK | IN_CLOEXEC)
      if (fd < 0) return undefined
      TeardownWatcher.#shared = new TeardownWatcher(fd)
    }
    const shared = TeardownWatcher.#shared
    clearTimeout(shared.#timer)
    shared.#users++
    return shared
  }

  release(): void {
    if (--this.#users > 0) return
    this.#timer = setTimeout(() => {
      TeardownWatcher.#shared = undefined
      binding.close(this.fd)
    }, lingerMs)
    this.#timer.unref()
  }

  async wait(watch: number | undefined): Promise<void> {
    for (let ms = firstMs; !this.#isGone(watch); ms = Math.min(ms * 2, longestMs)) {
      await new Promise((resolve) => setTimeout(resolve, ms))
    }
  }

  waitSync(watch: number | undefined): void {
    const sleeper = new Int32Array(new SharedArrayBuffer(4))
    for (let ms = firstMs; !this.#isGone(watch); ms = Math.min(ms * 2, longestMs)) {
      Atomics.wait(sleeper, 0, 0, ms)
    }
  }

  #isGone(watch: number | undefined): boolean {
    if (watch === undefined) return true
    this.#read()
    return this.#ended.delete(watch)
  }

  /** struct inotify_event: wd, mask, cookie, len, and a name of so many bytes. */
  #read(): void {
    for (;;) {
      const size = binding.read(this.fd, this.#buffer)
      if (size <= 0) return
      for (let at = 0; at < size; at += 16 + this.#buffer.readUInt32LE(at + 12)) {
        const isUnmount = (this.#buffer.readUInt32LE(at + 4) & IN_UNMOUNT) !== 0
        if (isUnmount) this.#ended.add(this.#buffer.readInt32LE(at))
      }
    }
  }
}
