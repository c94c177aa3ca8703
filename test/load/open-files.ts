/**
 * A process that may open so many files more and no others: RLIMIT_NOFILE is low, and all numbers but those are taken.
 *
 * The limit is on numbers of fds, so to take numbers away is the same as to lower it, and needs no call that itself
 * opens files.
 */
import { execFileSync } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'

/** Of this process from now on; only the soft limit, which is the one that counts. */
export const limit = 300
const lower = (): void => {
  execFileSync('prlimit', ['--pid', String(process.pid), `--nofile=${limit}:`])
}

let isLow = false
let taken: number[] = []

/** All free numbers but `free` are taken. */
export const leaveFree = (free: number): void => {
  if (!isLow) lower()
  isLow = true
  for (;;) {
    try {
      taken.push(openSync('/dev/null', 'r'))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EMFILE') break
      throw error
    }
  }
  // the lowest, which are the ones that a higher limit would have left
  for (const fd of taken.splice(0, free)) closeSync(fd)
}

/** As the limit was before. */
export const freeAll = (): void => {
  for (const fd of taken) closeSync(fd)
  taken = []
}
