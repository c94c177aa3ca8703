/**
 * Changes of mount attributes: what is given is set or cleared, what is not given stays as it is.
 *
 * For both families of constants. mount_setattr(2) takes a change as it is; a bind remount by mount(2) sets
 * everything anew, so there a change is made to what statfs(2) shows of the mount.
 */
import { checkKeys } from '../check.js'
import { invalidArgType, invalidArgValue } from '../errors.js'
import * as f from '../flags.js'
import { attributeBits, type MountAttributes, parseAtime } from '../overlay/attributes.js'

/** Attributes of a bind mount. `false` takes away what the mount of the source has. */
export interface BindAttributes extends MountAttributes {
  /** of the mounts below too; default: the bind's own `recursive` */
  recursive?: boolean
}

export interface AttributeChange {
  /** MOUNT_ATTR_* */
  readonly set: number
  readonly clear: number
  /** MS_* */
  readonly msSet: number
  readonly msClear: number
}

export const noChange: AttributeChange = { set: 0, clear: 0, msSet: 0, msClear: 0 }

export const isChange = ({ set, clear }: AttributeChange): boolean => (set | clear) !== 0

const atimes = f.MS_RELATIME | f.MS_NOATIME | f.MS_STRICTATIME

/** Checks attributes; `name` is what errors call them. `own`: a further name that is somebody else's to check. */
export function parseChange(attributes: unknown, name: string, own?: string): AttributeChange {
  if (attributes === undefined) return noChange
  const known = [...Object.keys(attributeBits), 'atime', ...(own === undefined ? [] : [own])]
  const change = { ...noChange }
  for (const [key, value] of Object.entries(checkKeys(attributes, name, known))) {
    if (value === undefined || key === own) continue
    if (key === 'atime') {
      const [attr, ms] = parseAtime(value, `${name}.atime`)
      change.set |= attr
      // the access time is a number within the attributes: it is replaced, not added to
      change.clear |= f.MOUNT_ATTR__ATIME
      change.msSet |= ms
      change.msClear |= atimes & ~ms
      continue
    }
    if (typeof value !== 'boolean') throw invalidArgType(`${name}.${key}`, 'boolean', value)
    const [attr, ms] = attributeBits[key as keyof typeof attributeBits]
    if (value) {
      change.set |= attr
      change.msSet |= ms
    } else {
      change.clear |= attr
      change.msClear |= ms
    }
  }
  return change
}

/** As `parseChange`, of what must change something. */
export function parseSomeChange(attributes: unknown, name: string): AttributeChange {
  const change = parseChange(attributes, name)
  if (isChange(change)) return change
  if (attributes === undefined) throw invalidArgType(name, 'an object', attributes)
  throw invalidArgValue(name, attributes, 'must name at least one attribute')
}

/** ST_* of statfs(2) as MS_* of mount(2). */
const shown = [
  [f.ST_RDONLY, f.MS_RDONLY],
  [f.ST_NOSUID, f.MS_NOSUID],
  [f.ST_NODEV, f.MS_NODEV],
  [f.ST_NOEXEC, f.MS_NOEXEC],
  [f.ST_NODIRATIME, f.MS_NODIRATIME],
  [f.ST_NOSYMFOLLOW, f.MS_NOSYMFOLLOW],
] as const

/** What a remount has to say so that the mount differs from what it was by the change alone. */
export function remountFlags(statfs: number, { msSet, msClear }: AttributeChange): number {
  const kept = shown.reduce((sum, [st, ms]) => sum | ((statfs & st) === 0 ? 0 : ms), 0)
  const atime =
    (statfs & f.ST_NOATIME) !== 0
      ? f.MS_NOATIME
      : (statfs & f.ST_RELATIME) !== 0
        ? f.MS_RELATIME
        : f.MS_STRICTATIME
  return ((kept | atime) & ~msClear) | msSet
}
