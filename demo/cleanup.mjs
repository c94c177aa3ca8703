/**
 * What is left, and removing it.
 *
 * The demo works in one temporary directory. Everything it mounts is mounted in a mount namespace of
 * its own, so the directory is removed by the process outside of it, in whose namespace no mount was
 * ever made; and even that process looks at its mount table first, because deleting recursively
 * through a mount deletes what is mounted.
 */
import { readdirSync, readFileSync, readlinkSync, rmdirSync, rmSync } from 'node:fs'

/** @returns {string[]} mount points of this mount namespace, as /proc/self/mountinfo has them, unescaped */
export function mountPoints() {
  const lines = readFileSync('/proc/self/mountinfo', 'latin1').trimEnd().split('\n')
  return lines.map((line) =>
    (line.split(' ')[4] ?? '').replace(/\\([0-7]{3})/g, (_, octal) =>
      String.fromCharCode(Number.parseInt(octal, 8)),
    ),
  )
}

/**
 * @param {string} directory absolute, without symlinks
 * @returns {string[]} mount points at it or below
 */
export function mountsUnder(directory) {
  const bytes = Buffer.from(directory).toString('latin1')
  return mountPoints().filter((point) => point === bytes || point.startsWith(`${bytes}/`))
}

/**
 * @returns {string[]} what the open file descriptors of this process point to. Not counted: those on
 *   /dev/null, of which libuv keeps one in reserve from the first pipe on.
 */
export function openFiles() {
  const files = []
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      files.push(readlinkSync(`/proc/self/fd/${fd}`))
    } catch {
      // the descriptor of the listing itself, closed by now
    }
  }
  return files.filter((file) => file !== '/dev/null')
}

/**
 * @param {string[]} before
 * @param {string[]} after
 * @returns {string[]} what `after` holds and `before` does not, counted as often as it occurs
 */
export function added(before, after) {
  const rest = [...before]
  return after.filter((item) => {
    const at = rest.indexOf(item)
    if (at >= 0) rest.splice(at, 1)
    return at < 0
  })
}

/**
 * Removes the demo's directory. Refuses where anything is mounted at it or below.
 * @param {string} directory absolute, without symlinks
 */
export function removeDirectory(directory) {
  const mounts = mountsUnder(directory)
  if (mounts.length > 0)
    throw new Error(`${directory} is left alone: ${mounts.length} mounts are in it, ${mounts[0]} first`)
  try {
    rmdirSync(directory)
  } catch (error) {
    // not empty: the image was on the disk (--dir), not on a tmpfs that is gone by now
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'ENOTEMPTY') throw error
    rmSync(directory, { recursive: true })
  }
}
