/**
 * Subordinate ids: the ranges that /etc/subuid and /etc/subgid give a user, and the mapping made of them.
 *
 *   subuid(5): one range a line, `owner:first:count`; the owner is a name or a number, and may have several
 *   user_namespaces(7): a user without rights may map only his own id; newuidmap(1) and newgidmap(1) write maps that
 *   hold his own id and ranges of these files
 */
import type { IdExtent } from '../idmap.js'

/** A run of ids that belongs to a user besides his own. */
export interface IdRange {
  /** first id */
  readonly first: number
  /** how many */
  readonly count: number
}

/** Who asks: entries are found by name and by number. */
export interface Owner {
  readonly name: string | undefined
  readonly uid: number
}

const maxId = 4_294_967_294

/** The ranges of an owner, in the order of the file. Lines that are none are passed over, as shadow does. */
export function parseSubids(text: string, { name, uid }: Owner): IdRange[] {
  const ranges: IdRange[] = []
  for (const line of text.split('\n')) {
    const match = /^([^:#][^:]*):(\d+):(\d+)$/.exec(line.trim())
    if (match === null) continue
    const [owner, first, count] = [match[1]!, Number(match[2]), Number(match[3])]
    if (owner !== name && owner !== String(uid)) continue
    if (count > 0 && first + count - 1 <= maxId) ranges.push({ first, count })
  }
  return ranges
}

/** The parts of a range that are in no extent yet. */
function notIn(extents: readonly IdExtent[], range: IdRange): IdRange[] {
  let parts = [range]
  for (const { outside, length } of extents) {
    parts = parts.flatMap(({ first, count }) => {
      const before = Math.min(count, Math.max(0, outside - first))
      const after = Math.min(count, Math.max(0, first + count - outside - length))
      if (before + after >= count) return [{ first, count }]
      return [
        { first, count: before },
        { first: first + count - after, count: after },
      ]
    })
  }
  return parts.filter(({ count }) => count > 0)
}

/**
 * The owner's id as 0, and what is subordinate from 1 on. What is listed twice (by name and by number, say) is mapped
 * once, because the kernel refuses a map whose extents overlap (EINVAL).
 */
export function mappingOf(own: number, ranges: readonly IdRange[]): IdExtent[] {
  const extents: IdExtent[] = [{ inside: 0, outside: own, length: 1 }]
  let inside = 1
  for (const range of ranges) {
    for (const { first, count } of notIn(extents, range)) {
      extents.push({ inside, outside: first, length: count })
      inside += count
    }
  }
  return extents
}
