/**
 * What is there that was not there before: fds of this process, mounts of its namespace, owned threads. For
 * tests that something leaves nothing behind; the answer is a list of words, empty when all is well.
 *
 * What is closed in the background needs a moment, so the answer waits until it is empty or time is over.
 */
import { fds, settled, threads } from './counts.js'
import { mounts } from './mountinfo.js'

/** Fds that Node opens when it likes: its event loops, and the pipes of child processes that have ended. */
const ofNode = /^(anon_inode:\[(eventpoll|eventfd|io_uring|pidfd)\]|pipe:|socket:)/

const owned = (): string[] => [...threads().values()].filter((name) => name.startsWith('ofd-'))

const opened = (): Map<string, string> =>
  new Map([...fds()].filter(([, link]) => !ofNode.test(link)).map(([fd, link]) => [`${fd} ${link}`, link]))

export interface LeftOptions {
  /** owned threads count too: true where the mounter was closed */
  readonly threads?: boolean
}

/** Remembers what is there now; the function that it answers tells what has come since. */
export const watch = (): ((options?: LeftOptions) => Promise<string[]>) => {
  const before = { fds: opened(), mounts: new Set(mounts().map(({ id }) => id)), threads: owned().length }
  return async ({ threads: countThreads = false } = {}) =>
    settled(
      () => {
        const left = [...opened()].filter(([key]) => !before.fds.has(key)).map(([key]) => `fd ${key}`)
        for (const { id, type, target } of mounts()) {
          if (!before.mounts.has(id)) left.push(`${type} at ${target.toString()}`)
        }
        const more = owned().length - before.threads
        if (countThreads && more > 0) left.push(`${more} threads`)
        return left
      },
      (left) => left.length === 0,
    )
}
