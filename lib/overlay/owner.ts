/**
 * Whose a file is on disk: what the container sees as an id, under each way an upper can be mapped.
 */
import { invalidArgValue } from '../errors.js'
import { extentsOf, type Idmap, insideId, outsideId } from '../idmap.js'
import type { IdShift } from './acl.js'
import type { MountSpec } from './spec.js'

export interface Owner {
  readonly uid: number
  readonly gid: number
}

const unchanged: IdShift = { uid: (id) => id, gid: (id) => id }

/** Ids on disk for ids in the container: the same without a mapping, and where the upper is idmapped itself. */
export function idsOnDisk(spec: Pick<MountSpec, 'upper' | 'create'>, idmap: Idmap | undefined): IdShift {
  if (idmap === undefined || spec.upper === 'idmapped') return unchanged
  return spec.upper === 'asis'
    ? mappedIds(idmap, 'options.create', spec.create)
    : mappedIds(idmap, 'options.upper', spec.upper)
}

/** The ids that a mapping maps to; `option` is what needs to know them. */
export function mappedIds(idmap: Idmap, option: string, value: unknown): IdShift {
  const extents = extentsOf(idmap)
  if (extents === undefined) {
    const why =
      'needs to know which ids are mapped: from extents, or from the uid_map beside a path /proc/PID/ns/user of a process that is there'
    throw invalidArgValue(option, value, why)
  }
  return { uid: (id) => outsideId(extents.uid, id), gid: (id) => outsideId(extents.gid, id) }
}

/** Ids on disk for ids as a mount with this mapping shows them; none where a bare fd does not tell its ids. */
export function idsBelow(idmap: Idmap): IdShift {
  const extents = extentsOf(idmap)
  return {
    uid: (id) => extents && insideId(extents.uid, id),
    gid: (id) => extents && insideId(extents.gid, id),
  }
}

/** An owner on disk; that of the container's root where the ids are not mapped. */
export function ownerOnDisk(ids: IdShift, uid: number, gid: number): Owner {
  const owner = { uid: ids.uid(uid) ?? ids.uid(0), gid: ids.gid(gid) ?? ids.gid(0) }
  if (owner.uid === undefined || owner.gid === undefined) {
    throw invalidArgValue(
      'options.idmap',
      `no id for ${uid}:${gid}`,
      'must map id 0: the upper belongs to the container’s root',
    )
  }
  return { uid: owner.uid, gid: owner.gid }
}
