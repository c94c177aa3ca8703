/**
 * What may be left when everything is unmounted: open fds of this process, memory of the kernel's own caches.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

/** @returns {number} fds that this process has open */
export function openFds() {
  return readdirSync('/proc/self/fd').length - 1 // the one that the directory is read by
}

/** @returns {number} KiB of Slab, of the whole machine */
function slab() {
  const [, kibibytes] = /^Slab:\s+(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8')) ?? []
  return Number(kibibytes)
}

/**
 * Slab once it has come down again: superblocks, inodes and dentries are freed some grace periods after they are gone.
 * @param {number} before what it was
 * @returns {Promise<number>} KiB; what it is after a quarter of a second, if it stays above
 */
export async function slabSettled(before) {
  for (let tries = 0; tries < 5 && slab() > before; tries++) await sleep(50)
  return slab()
}
