/**
 * User namespaces for the parts of the demo that overlayfd has no hand in: the per-layer way, and
 * running a program without runc. (The library makes its own, without starting a process.)
 *
 * A process in a new user namespace waits while the mapping is written from outside; then the namespace
 * is kept by its file descriptor and the process ends.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { openSync, readFileSync, writeFileSync } from 'node:fs'

/** @typedef {{ inside: number, outside: number, length: number }} Range ids, the same for users and groups */

/**
 * @param {Range[]} ranges at least one
 * @returns {Promise<number>} the namespace's file descriptor, to be closed by the caller
 */
export async function openUserNamespace(ranges) {
  const map = ranges.map(({ inside, outside, length }) => `${inside} ${outside} ${length}\n`).join('')
  const holder = spawn('unshare', ['--user', 'cat'], { stdio: ['pipe', 'pipe', 'inherit'] })
  // the answer is the proof that cat runs, and so that the namespace exists
  holder.stdin.write('?')
  const answer = await Promise.race([once(holder.stdout, 'data'), once(holder, 'exit')])
  try {
    if (!Buffer.isBuffer(answer[0])) throw new Error('unshare --user: no user namespace could be made')
    writeFileSync(`/proc/${holder.pid}/uid_map`, map)
    writeFileSync(`/proc/${holder.pid}/gid_map`, map)
    return openSync(`/proc/${holder.pid}/ns/user`, 'r')
  } finally {
    const gone = holder.exitCode === null ? once(holder, 'exit') : undefined
    holder.stdin.end()
    await gone
  }
}

/** An id inside a container that is not root's, and small enough for a short range. */
export const ORDINARY_ID = 33

/** For containers that share the only id there is. @type {Range} */
export const ONE_ID = { inside: 0, outside: 0, length: 1 }

/** From where ranges are handed out when all ids are there: above those of people and services. */
const FIRST_ID = 100_000
const USUAL_LENGTH = 65_536

/**
 * A range of its own for each container, out of the ids that this process has.
 * @param {number} containers
 * @returns {Range[]} empty where there are too few ids (a plain user without /etc/subuid has one)
 */
export function ranges(containers) {
  const { first, length } = ownIds().reduce((largest, extent) =>
    extent.length > largest.length ? extent : largest,
  )
  const end = first + length
  const plenty = first <= FIRST_ID && end >= FIRST_ID + containers * USUAL_LENGTH
  const start = plenty ? FIRST_ID : Math.max(first, 1)
  const each = plenty ? USUAL_LENGTH : Math.min(USUAL_LENGTH, Math.floor((end - start) / containers))
  if (each <= ORDINARY_ID) return []
  return Array.from({ length: containers }, (_, index) => ({
    inside: 0,
    outside: start + index * each,
    length: each,
  }))
}

/** @returns {boolean} whether this process is in another user namespace than the machine's first */
export function inUserNamespace() {
  const [extent] = ownIds()
  return extent?.first !== extent?.parent || extent?.length !== 2 ** 32 - 1
}

/** @param {number} id of this user namespace @returns {number} the same in the one around it, as its `ls -n` shows it */
export function idAround(id) {
  const extent = ownIds().find(({ first, length }) => id >= first && id < first + length)
  return extent ? extent.parent + id - extent.first : id
}

/** @returns {{ first: number, parent: number, length: number }[]} lines of /proc/self/uid_map */
function ownIds() {
  const lines = readFileSync('/proc/self/uid_map', 'utf8').trimEnd().split('\n')
  return lines.map((line) => {
    const [first = 0, parent = 0, length = 0] = line.trim().split(/\s+/).map(Number)
    return { first, parent, length }
  })
}
