/** What a failed plan of this folder means: a hint from the table of diagnose.ts, and of what only the plan knows. */
import { diagnoseAttach } from '../diagnose.js'
import { MountError, refine } from '../errors.js'
import * as f from '../flags.js'
import type { Features } from '../host/features.js'
import { exchanged } from '../overlay/identity.js'
import { failedStep, UnexpectedError } from '../program/outcome.js'
import type { Way } from './choose.js'
import { isInDetached, isInside, type Spot } from './place.js'
import { againHint } from './resolve.js'

const ENOTDIR = 20

/** `rung` is left out where a change has none. */
export function explainMountFailure(
  error: unknown,
  { target }: { readonly target?: Spot | undefined },
  features: Features,
  rung?: Way,
): unknown {
  if (error instanceof UnexpectedError) {
    return exchanged(error, rung) ?? error.toMountError({ errno: ENOTDIR, hint: notRegular, rung })
  }
  if (!(error instanceof MountError)) return error
  const hinted = againHint(error)
  const hint = hinted.hint ?? hintOf(error, target, features)
  const known = hint === undefined ? (diagnoseAttach(error) as MountError) : refine(hinted, { hint })
  const isAttach = known.syscall === 'move_mount' || known.syscall === 'mount'
  const isMismatch = known.hint === undefined && isAttach && /^(EINVAL|ENOTDIR)$/.test(known.code)
  return refine(known, { rung, hint: isMismatch ? mismatch : known.hint })
}

const notRegular = 'source is no directory, so target must be a regular file'
const mismatch =
  'a directory is mounted on a directory, and what is none on what is none; and nothing is moved out of a shared parent'

function hintOf(error: MountError, target: Spot | undefined, features: Features): string | undefined {
  const step = failedStep(error)
  if (step?.call !== 'move_mount' || error.code !== 'EINVAL') return undefined
  const flags = step.args[4]?.kind === 'int' ? Number(step.args[4].value) : 0
  if (target && isInside(target) && isInDetached(target.reach) && !features.detachedLayers) {
    return 'before Linux 6.15 nothing is attached inside a detached mount: attach that one first'
  }
  if ((flags & f.MOVE_MOUNT_BENEATH) === 0) return undefined
  return (
    'beneath takes a target at whose top something is mounted, which is not the root of a namespace and is not locked, ' +
    'a mount that does not come back to it by propagation, and Linux 6.5'
  )
}
