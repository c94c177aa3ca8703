/** What tells that a name or an fd is of what a plan has made or opened, and not of whatever the name leads to by now. */
import type { MountError } from '../errors.js'
import * as f from '../flags.js'
import type { Features } from '../host/features.js'
import type { UnexpectedError } from '../program/outcome.js'
import type { PlanBuilder } from '../program/plan.js'
import { type Expectation, type Register, type Step, statxField } from '../program/step.js'

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

export interface Remembered {
  readonly remember: NonNullable<Step['remember']>
  readonly expect: NonNullable<Step['expect']>
}

/** Registers for an inode, and the expectation to find it again. */
export function remembered(b: PlanBuilder, name: string): Remembered {
  const registers: [typeof statxField.ino | typeof statxField.dev, Register][] = [
    [statxField.ino, b.register(`${name}.ino`)],
    [statxField.dev, b.register(`${name}.dev`)],
  ]
  return {
    remember: registers.map(([field, register]) => ({ field, register })),
    expect: registers.map(([field, value]) => ({ field, value })),
  }
}
