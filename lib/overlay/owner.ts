/**
 * Whose a file is on disk: what the container sees as an id, under each way an upper can be mapped.
 */
import { invalidArgValue } from '../errors.js'
import { extentsOf, type Idmap, outsideId } from '../idmap.js'
import type { IdShift } from './acl.js'
import type { MountSpec } from './spec.js'

/** Ids on disk, and what they come from: extents of the mapping, where there is one. */
export interface DiskIds extends IdShift {
  readonly extents?: ReturnType<typeof extentsOf>
}

export interface Owner {
  readonly uid: number
  readonly gid: number
}

const unchanged: IdShift = { uid: (id) => id, gid: (id) => id }

/**
 * Ids on disk for ids in the container, undefined for those that it does not have: the same without a mapping,
 * and where the upper is idmapped itself.
 */
export function idsOnDisk(spec: Pick<MountSpec, 'upper' | 'create'>, idmap: Idmap | undefined): DiskIds {
  if (idmap === undefined) return unchanged
  if (spec.upper === 'asis') return mappedIds(idmap, 'options.create', spec.create)
  const ids = mappedIds(idmap, 'options.upper', spec.upper)
  if (spec.upper === 'shifted') return ids
  const ifMapped = (id: number, outside: number | undefined) => (outside === undefined ? undefined : id)
  return {
    uid: (id) => ifMapped(id, ids.uid(id)),
    gid: (id) => ifMapped(id, ids.gid(id)),
    extents: ids.extents,
  }
}

/** The ids that a mapping maps to; `option` is what needs to know them. */
export function mappedIds(idmap: Idmap, option: string, value: unknown): DiskIds {
  const extents = extentsOf(idmap)
  if (extents === undefined) {
    const why =
      'needs to know which ids are mapped: from extents, or from the uid_map beside a path /proc/PID/ns/user of a process that is there'
    throw invalidArgValue(option, value, why)
  }
  return { uid: (id) => outsideId(extents.uid, id), gid: (id) => outsideId(extents.gid, id), extents }
}

/** An owner on disk; that of the container's root where the ids are not mapped. */
export function ownerOnDisk(ids: DiskIds, uid: number, gid: number): Owner {
  const owner = { uid: ids.uid(uid) ?? ids.uid(0), gid: ids.gid(gid) ?? ids.gid(0) }
  if (owner.uid === undefined || owner.gid === undefined) {
    const [kind, extents] = owner.uid === undefined ? ['uid', ids.extents?.uid] : ['gid', ids.extents?.gid]
    throw invalidArgValue(
      'options.idmap',
      extents,
      `must map ${kind} 0: the upper belongs to the container’s root`,
    )
  }
  return { uid: owner.uid, gid: owner.gid }
}
