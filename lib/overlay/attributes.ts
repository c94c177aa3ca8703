/**
 * Attributes and propagation of one mount (not of the superblock), for both families of constants:
 * MOUNT_ATTR_* of fsmount(2) and mount_setattr(2), MS_* of mount(2).
 */
import { checkKeys } from '../check.js'
import { invalidArgType, invalidArgValue } from '../errors.js'
import * as f from '../flags.js'

/** Per-mount attributes, as mount_setattr(2) has them. */
export interface MountAttributes {
  /** MOUNT_ATTR_RDONLY: this mount is read-only; the superblock may be written elsewhere */
  readonly?: boolean
  /** MOUNT_ATTR_NOSUID */
  nosuid?: boolean
  /** MOUNT_ATTR_NODEV */
  nodev?: boolean
  /** MOUNT_ATTR_NOEXEC */
  noexec?: boolean
  /** MOUNT_ATTR_NODIRATIME */
  nodiratime?: boolean
  /** MOUNT_ATTR_NOSYMFOLLOW; since Linux 5.14 */
  nosymfollow?: boolean
  /** when access times are written: `relatime` (default), `noatime`, `strictatime` */
  atime?: 'relatime' | 'noatime' | 'strictatime'
}

/** What a mount shares with its copies: mount_namespaces(7). */
export type Propagation = 'shared' | 'private' | 'slave' | 'unbindable'

export const attributeBits = {
  readonly: [f.MOUNT_ATTR_RDONLY, f.MS_RDONLY],
  nosuid: [f.MOUNT_ATTR_NOSUID, f.MS_NOSUID],
  nodev: [f.MOUNT_ATTR_NODEV, f.MS_NODEV],
  noexec: [f.MOUNT_ATTR_NOEXEC, f.MS_NOEXEC],
  nodiratime: [f.MOUNT_ATTR_NODIRATIME, f.MS_NODIRATIME],
  nosymfollow: [f.MOUNT_ATTR_NOSYMFOLLOW, f.MS_NOSYMFOLLOW],
} as const
const attributeNames = [...Object.keys(attributeBits), 'atime']
const atimes = {
  relatime: [0, f.MS_RELATIME],
  noatime: [f.MOUNT_ATTR_NOATIME, f.MS_NOATIME],
  strictatime: [f.MOUNT_ATTR_STRICTATIME, f.MS_STRICTATIME],
} as const
const propagations = {
  shared: f.MS_SHARED,
  private: f.MS_PRIVATE,
  slave: f.MS_SLAVE,
  unbindable: f.MS_UNBINDABLE,
} as const

/** MS_* of access times: one of them holds. In MOUNT_ATTR_* relatime is 0; here it can be seen that it was asked for. */
export const msAtimes = f.MS_RELATIME | f.MS_NOATIME | f.MS_STRICTATIME

/**
 * A clone of a shared mount is its peer, and where `/` is shared every mount is one. Left so, what is mounted below the one
 * is mounted below the other too, and who unmounts the clone unmounts from the source what is mounted below it; what is
 * attached below a detached clone appears on the source (all seen on Linux 6.18). One more write of namespace_sem.
 */
export const outOfPeerGroup = f.MS_PRIVATE

export interface ParsedAttributes {
  readonly mountAttr: number
  readonly ms: number
}

/** Checks attributes; `name` is what errors call them. */
export function parseAttributes(attributes: unknown, name: string): ParsedAttributes {
  if (attributes === undefined) return { mountAttr: 0, ms: 0 }
  let mountAttr = 0
  let ms = 0
  for (const [key, value] of Object.entries(checkKeys(attributes, name, attributeNames))) {
    if (value === undefined) continue
    const pair =
      key === 'atime' ? parseAtime(value, `${name}.atime`) : attributeBits[key as keyof typeof attributeBits]
    if (key !== 'atime' && typeof value !== 'boolean')
      throw invalidArgType(`${name}.${key}`, 'boolean', value)
    if (value === false) continue
    mountAttr |= pair[0]
    ms |= pair[1]
  }
  return { mountAttr, ms }
}

/** MOUNT_ATTR_* and MS_* of an access-time setting. */
export function parseAtime(value: unknown, name: string): readonly [number, number] {
  if (typeof value !== 'string') throw invalidArgType(name, 'string', value)
  if (!Object.hasOwn(atimes, value)) {
    throw invalidArgValue(name, value, `must be one of '${Object.keys(atimes).join("', '")}'`)
  }
  return atimes[value as keyof typeof atimes]
}

/** The MS_* bit of a propagation, which mount_setattr(2) takes too. */
export function parsePropagation(value: unknown, name: string): number | undefined {
  if (value === undefined) return undefined
  if (typeof value !== 'string') throw invalidArgType(name, 'string', value)
  if (!Object.hasOwn(propagations, value)) {
    throw invalidArgValue(name, value, `must be one of '${Object.keys(propagations).join("', '")}'`)
  }
  return propagations[value as Propagation]
}

/** ST_* of statfs(2) as MS_* of mount(2), but for access times. */
const shown = [
  [f.ST_RDONLY, f.MS_RDONLY],
  [f.ST_NOSUID, f.MS_NOSUID],
  [f.ST_NODEV, f.MS_NODEV],
  [f.ST_NOEXEC, f.MS_NOEXEC],
  [f.ST_NODIRATIME, f.MS_NODIRATIME],
  [f.ST_NOSYMFOLLOW, f.MS_NOSYMFOLLOW],
] as const

/**
 * What a remount by mount(2) has to say so that the mount differs from what statfs(2) shows by the change alone: all
 * that is not said again is taken away, which inside a user namespace is refused (EPERM).
 */
export function remountFlags(
  statfs: number,
  { msSet, msClear }: { readonly msSet: number; readonly msClear: number },
): number {
  const kept = shown.reduce((sum, [st, ms]) => sum | ((statfs & st) === 0 ? 0 : ms), 0)
  const atime =
    (statfs & f.ST_NOATIME) !== 0
      ? f.MS_NOATIME
      : (statfs & f.ST_RELATIME) !== 0
        ? f.MS_RELATIME
        : f.MS_STRICTATIME
  return ((kept | atime) & ~msClear) | msSet
}
