/**
 * Mappings of user and group ids for idmapped mounts: accepted in two spellings, checked, compared.
 *
 * The kernel's limits (user_namespaces(7), measured on 6.18): at most 340 extents, and the text written
 * to uid_map must be shorter than 4096 bytes, which real numbers reach at about 200 lines.
 */
import { readFileSync } from 'node:fs'
import { checkKeys } from './check.js'
import { invalidArgType, invalidArgValue, outOfRange } from './errors.js'
import { cString, isBytes, type PathLike } from './path.js'

/** A run of ids: `length` ids from `inside` (in the container) stand for those from `outside` (on the host). */
export interface IdExtent {
  /** first id in the container */
  inside: number
  /** first id on the host */
  outside: number
  /** how many ids, at least 1 */
  length: number
}

/** The same as OCI's runtime-spec writes it (linux.uidMappings, linux.gidMappings). */
export interface OciIdExtent {
  /** `inside` */
  containerID: number
  /** `outside` */
  hostID: number
  /** `length` */
  size: number
}

/**
 * A mapping, or an existing user namespace that has one.
 *
 * `userns` is a path such as `/proc/4711/ns/user`, or an fd of one; the fd stays the caller's and must be
 * open until the call that takes it has ended.
 */
export type IdmapOption =
  | { uid: readonly (IdExtent | OciIdExtent)[]; gid: readonly (IdExtent | OciIdExtent)[] }
  | { userns: PathLike | number }

/** A checked mapping. */
export type Idmap = MappedIdmap | UsernsIdmap

export interface MappedIdmap {
  readonly uid: readonly IdExtent[]
  readonly gid: readonly IdExtent[]
  /** equal for equal mappings */
  readonly key: string
  /** what is written to uid_map and gid_map */
  readonly uidMap: string
  readonly gidMap: string
}

export interface UsernsIdmap {
  readonly userns: Uint8Array | number
}

export const isMapped = (idmap: Idmap): idmap is MappedIdmap => 'uidMap' in idmap

/** The highest id; 4294967295 means "no id". */
const maxId = 0xffff_fffe
const maxExtents = 340
const maxMapBytes = 4095

/** Checks a mapping; `name` is what errors call it. */
export function parseIdmap(option: unknown, name: string): Idmap {
  if (typeof option !== 'object' || option === null) {
    throw invalidArgType(name, 'an object { uid, gid } or { userns }', option)
  }
  if ('userns' in option) {
    return { userns: parseUserns(checkKeys(option, name, ['userns'])['userns'], `${name}.userns`) }
  }
  const { uid, gid } = checkKeys(option, name, ['uid', 'gid'])
  const uids = parseExtents(uid, `${name}.uid`)
  const gids = parseExtents(gid, `${name}.gid`)
  const uidMap = mapText(uids, `${name}.uid`)
  const gidMap = mapText(gids, `${name}.gid`)
  return { uid: uids, gid: gids, uidMap, gidMap, key: `${uidMap}/${gidMap}` }
}

function parseUserns(userns: unknown, name: string): Uint8Array | number {
  if (typeof userns === 'number') {
    if (!Number.isInteger(userns) || userns < 0 || userns > 0x7fff_ffff)
      throw outOfRange(name, 'an open fd', userns)
    return userns
  }
  if (typeof userns !== 'string' && !isBytes(userns)) {
    throw invalidArgType(name, 'a path or an fd of a user namespace', userns)
  }
  return cString(userns, name).subarray(0, -1)
}

function parseExtents(extents: unknown, name: string): IdExtent[] {
  if (!Array.isArray(extents)) throw invalidArgType(name, 'an array of { inside, outside, length }', extents)
  if (extents.length === 0) throw invalidArgValue(name, extents, 'must hold at least one extent')
  if (extents.length > maxExtents) {
    throw outOfRange(name, `at most ${maxExtents} extents (the kernel's limit)`, extents.length)
  }
  const parsed = Array.from(extents, (extent, i) => parseExtent(extent, `${name}[${i}]`))
  refuseOverlap(parsed, 'inside', name)
  refuseOverlap(parsed, 'outside', name)
  return parsed
}

const spellings = [
  ['inside', 'outside', 'length'],
  ['containerID', 'hostID', 'size'],
] as const

function parseExtent(extent: unknown, name: string): IdExtent {
  if (typeof extent !== 'object' || extent === null) {
    throw invalidArgType(name, 'an object { inside, outside, length }', extent)
  }
  const isOci = 'containerID' in extent || 'hostID' in extent || 'size' in extent
  const names = isOci ? spellings[1] : spellings[0]
  const record = checkKeys(extent, name, names)
  const [inside, outside, length] = names.map((key) => {
    const value = record[key]
    if (typeof value !== 'number') throw invalidArgType(`${name}.${key}`, 'a number', value)
    const min = key === names[2] ? 1 : 0
    if (!Number.isInteger(value) || value < min || value > maxId + min) {
      throw outOfRange(`${name}.${key}`, `a whole number from ${min} to ${maxId + min}`, value)
    }
    return value
  }) as [number, number, number]
  for (const [key, first] of [
    [names[0], inside],
    [names[1], outside],
  ] as const) {
    if (first + length - 1 > maxId) {
      throw outOfRange(`${name}.${key}`, `an extent that ends at ${maxId} or below`, first + length - 1)
    }
  }
  return { inside, outside, length }
}

function refuseOverlap(extents: readonly IdExtent[], side: 'inside' | 'outside', name: string): void {
  const sorted = extents.map((extent, index) => ({ extent, index }))
  sorted.sort((a, b) => a.extent[side] - b.extent[side])
  for (let i = 1; i < sorted.length; i++) {
    const before = sorted[i - 1]!
    const after = sorted[i]!
    if (before.extent[side] + before.extent.length > after.extent[side]) {
      const [a, b] = [before.index, after.index].sort((x, y) => x - y)
      throw invalidArgValue(
        name,
        extents,
        `is ambiguous: extents ${a} and ${b} overlap ${side} the namespace`,
      )
    }
  }
}

function mapText(extents: readonly IdExtent[], name: string): string {
  const text = extents.map(({ inside, outside, length }) => `${inside} ${outside} ${length}\n`).join('')
  if (text.length > maxMapBytes) {
    throw outOfRange(name, `a map of at most ${maxMapBytes} bytes as text (the kernel's limit)`, text.length)
  }
  return text
}

/** The id on the host for an id in the container; undefined if it is not mapped. */
export function outsideId(extents: readonly IdExtent[], inside: number): number | undefined {
  const extent = extents.find((e) => inside >= e.inside && inside - e.inside < e.length)
  return extent && extent.outside + (inside - extent.inside)
}

/**
 * The extents of a mapping. Those of a user namespace are read from `/proc/PID/uid_map` beside the
 * `ns/user` that its path names; a bare fd does not tell them.
 */
export function extentsOf(idmap: Idmap): { uid: readonly IdExtent[]; gid: readonly IdExtent[] } | undefined {
  if (isMapped(idmap)) return idmap
  if (typeof idmap.userns === 'number') return undefined
  const dir = /^(\/proc\/[^/]+)\/ns\/user$/.exec(Buffer.from(idmap.userns).toString('latin1'))?.[1]
  if (dir === undefined) return undefined
  try {
    return { uid: readMap(`${dir}/uid_map`), gid: readMap(`${dir}/gid_map`) }
  } catch {
    // the process is gone: opening its namespace will say so better
    return undefined
  }
}

function readMap(path: string): IdExtent[] {
  const lines = readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
  return lines.map((line) => {
    const [inside, outside, length] = line.trim().split(/\s+/).map(Number) as [number, number, number]
    return { inside, outside, length }
  })
}
