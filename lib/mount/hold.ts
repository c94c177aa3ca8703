/**
 * Operations that need several mounts: the one that is attached, and those that it is attached inside. Each mount does
 * one operation at a time; they are taken in the order of their ids, so that no two operations wait for each other.
 */
import { isInside, type Spot } from './place.js'
import type { Standing } from './standing.js'

/** All mounts that an operation must not lose meanwhile. */
export function holders(mount: Standing | undefined, ...spots: readonly (Spot | undefined)[]): Standing[] {
  const all = new Set<Standing>()
  const add = (first: Standing | undefined) => {
    for (let each = first; each !== undefined; each = each.outer) all.add(each)
  }
  add(mount)
  for (const spot of spots) if (spot && isInside(spot)) add(spot.mount)
  return [...all].sort((a, b) => (a.mountId < b.mountId ? -1 : a.mountId > b.mountId ? 1 : 0))
}

/** Runs something while none of the mounts does anything else. */
export function holding<T>([first, ...others]: readonly Standing[], run: () => Promise<T>): Promise<T> {
  return first === undefined ? run() : first.turns.hold(() => holding(others, run))
}

/** For those who block. */
export function mustBeIdle(mounts: readonly Standing[]): void {
  for (const { turns } of mounts) turns.mustBeIdle()
}
