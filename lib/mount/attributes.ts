/**
 * Changes of mount attributes: what is given is set or cleared, what is not given stays as it is.
 *
 * For both families of constants. mount_setattr(2) takes a change as it is; a bind remount by mount(2) sets
 * everything anew, so there a change is made to what statfs(2) shows of the mount.
 */
import { checkKeys } from '../check.js'
import { invalidArgType, invalidArgValue } from '../errors.js'
import * as f from '../flags.js'
import { attributeBits, type MountAttributes, msAtimes, parseAtime } from '../overlay/attributes.js'

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
      change.msClear |= msAtimes & ~ms
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
