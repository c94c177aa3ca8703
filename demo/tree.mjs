/**
 * A directory tree as text, one line an entry.
 *
 * Used on both sides of the demo: the image maker knows from its own records what the merged tree must
 * be, the program in the container reads what it is. Neither asks the other, so equal listings mean that
 * every deletion, replacement and owner came out of the overlay as intended.
 * This file is part of the image: it may import nothing but Node's own modules.
 */
import { createHash } from 'node:crypto'
import { lstatSync, readdirSync, readFileSync } from 'node:fs'

/** Files above this size are compared by size alone: node and its libraries are 100 MB. */
const READ_LIMIT = 65_536

/** Where a runtime mounts its own filesystems. */
const NOT_OURS = new Set(['/proc', '/dev', '/sys'])

/**
 * @typedef {{ type: 'dir' | 'file', mode: number, uid: number, gid: number, size: number, content?: Buffer }} Entry
 *   `mode`: permission bits; `size`: bytes, 0 for a directory; `content`: absent above 64 KiB
 */

/**
 * @param {Map<string, Entry>} entries by absolute path, '/' being the root of the tree
 * @returns {string[]} sorted lines: path, type, mode, owner, size, sha256 of the content
 */
export function listing(entries) {
  const lines = []
  for (const [path, { type, mode, uid, gid, size, content }] of entries) {
    const sum = content ? createHash('sha256').update(content).digest('hex') : '-'
    lines.push(`${path} ${type} ${mode.toString(8)} ${uid}:${gid} ${size} ${sum}`)
  }
  return lines.sort()
}

/**
 * @param {string} root where the tree is
 * @returns {Map<string, Entry>} all of it but the contents of /proc, /dev and /sys
 */
export function readTree(root) {
  /** @type {Map<string, Entry>} */
  const entries = new Map()
  const base = root === '/' ? '' : root
  /** @param {string} path */
  const visit = (path) => {
    const stat = lstatSync(base + path)
    const { uid, gid } = stat
    const mode = stat.mode & 0o7777
    if (!stat.isDirectory()) {
      const content = stat.size <= READ_LIMIT ? readFileSync(base + path) : undefined
      entries.set(path, { type: 'file', mode, uid, gid, size: stat.size, content })
      return
    }
    if (NOT_OURS.has(path)) return
    entries.set(path, { type: 'dir', mode, uid, gid, size: 0 })
    for (const name of readdirSync(base + path)) visit(path === '/' ? `/${name}` : `${path}/${name}`)
  }
  visit('/')
  return entries
}

/**
 * @param {Buffer} content
 * @param {{ mode?: number, owner?: number }} [attributes]
 * @returns {Entry} what `readTree` finds where a file of this content was written
 */
export function fileEntry(content, { mode = 0o644, owner = 0 } = {}) {
  const size = content.length
  return {
    type: 'file',
    mode,
    uid: owner,
    gid: owner,
    size,
    content: size <= READ_LIMIT ? content : undefined,
  }
}
