/** What tells that an fd is of a mount that was just made, and not of whatever its name leads to by now. */
import type { MountError } from '../errors.js'
import * as f from '../flags.js'
import type { Features } from '../host/features.js'
import type { UnexpectedError } from '../program/outcome.js'
import { type Expectation, statxField } from '../program/step.js'

/**
 * It is the root of a mount: said by statx(2) since Linux 5.8, which is not asked for itself; mount_setattr(2) is of 5.12,
 * unique ids are of 6.8. Before, it stays unchecked.
 */
export function isMountRoot({
  uniqueMountId,
  mountSetattr,
}: Pick<Features, 'uniqueMountId' | 'mountSetattr'>): Expectation[] {
  if (!uniqueMountId && !mountSetattr) return []
  const root = BigInt(f.STATX_ATTR_MOUNT_ROOT)
  return [{ field: statxField.attributes, mask: root, value: root }]
}

const ESTALE = 116
const atTarget =
  'something else is at the target by now: if its directory was renamed just before mount(2), the mount is there'

/** What it means that it is none; undefined of another expectation. */
export function exchanged(error: UnexpectedError, rung?: string): MountError | undefined {
  if (error.step.expect?.[0]?.field !== statxField.attributes) return undefined
  return error.toMountError({ errno: ESTALE, hint: atTarget, rung })
}
