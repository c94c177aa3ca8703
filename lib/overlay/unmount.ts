/**
 * Takes an attached mount down, after it has proved to be the one that was attached; what an answer means
 * for the caller.
 */
import { realpathSync } from 'node:fs'
import { refused } from '../diagnose/causes.js'
import { diagnoseAttach } from '../diagnose.js'
import { MountError, refine } from '../errors.js'
import * as f from '../flags.js'
import type { Flow } from '../program/flow.js'
import { failedStep, UnexpectedError } from '../program/outcome.js'
import type { Pool } from '../program/pool.js'
import { statxField } from '../program/step.js'
import { splitLast } from './bytes.js'
import type { Host } from './host.js'
import { type Attached, openAbove, planUnmount, planUnmountInside, type UnmountWay } from './reap.js'
import { watchOf } from './teardown.js'

/**
 * @param namespaceFd of the mount namespace that it is in, if that is not the caller's
 * @returns the number of the watch, if `way` has an inotify instance and the kernel had room for it
 */
export function* unmountAttached(
  host: Host,
  pool: Pool,
  attached: Attached,
  way: UnmountWay,
  namespaceFd?: number,
): Flow<number | undefined> {
  if (namespaceFd !== undefined) {
    const plan = planUnmountInside(attached, namespaceFd, way, host.features)
    try {
      const outcome = yield { plan, pool, abortable: false }
      return way.inotify === undefined ? undefined : watchOf(outcome)
    } catch (error) {
      const isEntry = error instanceof MountError && failedStep(error)?.call === 'setns'
      throw isEntry ? diagnoseAttach(error) : unmountFailure(error, attached.target)
    }
  }
  let { target } = attached
  for (let resolved = false; ; resolved = true) {
    const { plan, fills } = planUnmount(resolved ? { ...attached, target } : attached, way, host.features)
    try {
      const outcome = yield { plan, fills, pool, abortable: false }
      return way.inotify === undefined ? undefined : watchOf(outcome)
    } catch (error) {
      // a symbolic link on the way: the check of the mount's id makes following it safe
      const viaLink = error instanceof MountError && error.code === 'ELOOP' && error.step === openAbove
      const canFollow = viaLink && !resolved && host.here().namespace === attached.namespace
      if (canFollow) target = resolveParent(target)
      else throw unmountFailure(error, target)
    }
  }
}

/** The same target with the symbolic links above it resolved. */
export function resolveParent(target: Buffer): Buffer {
  const { parent, name } = splitLast(target)!
  return Buffer.concat([realpathSync.native(parent, 'buffer'), Buffer.from('/'), name])
}

const EINVAL = 22
const EBUSY = 16

const gone =
  'it is not mounted there any more: somebody else has unmounted or moved it, or a mount covers a directory above it'

/** What it means that a mount was not found where it was attached. */
export function unmountFailure(error: unknown, target: Buffer): unknown {
  if (error instanceof UnexpectedError) {
    const isMount =
      (error.found.readBigUInt64LE(statxField.attributes.offset) & BigInt(f.STATX_ATTR_MOUNT_ROOT)) !== 0n
    return error.toMountError({
      errno: isMount ? EBUSY : EINVAL,
      path: target,
      hint: isMount ? 'another mount is there now and covers this one; it was left alone' : gone,
    })
  }
  if (!(error instanceof MountError)) return error
  const hints: Readonly<Record<string, string>> = {
    // of umount2: somebody was faster
    EINVAL: gone,
    EBUSY:
      'something uses the mount (an open file, a working directory, a mount below); lazy: true detaches it at once',
    ELOOP: 'a symbolic link is on the way to the target now, and none is followed',
    ENOENT:
      'the target cannot be reached any more: a mount covers a directory above it, or it was renamed, or deleted and the mount with it',
  }
  const step = failedStep(error)
  const isRefused = step !== undefined && (error.code === 'ENOSYS' || error.code === 'EPERM')
  const hint = hints[error.code] ?? (isRefused ? refused({ step, error }) : error.hint)
  return refine(error, { hint, path: target })
}
