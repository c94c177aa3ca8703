/**
 * Asks the kernel whether somebody has an upper or work directory in use, of whatever process.
 *
 * An overlay with index=on takes its upperdir before it looks at its workdir, and refuses one that is taken (EBUSY);
 * a workdir on another mount is refused next (EINVAL). So the creation of such an overlay tells which it is and makes
 * nothing. Seen on Linux 6.18: 1 to 3 ms, most of it the grace period in which the kernel drops its clone of the
 * upper's mount; one line in the kernel's log. A work directory is taken in the same way, so it is asked about as an
 * upperdir.
 *
 *   claim    what another mount of this process has, or is still being taken down: refused, or waited for
 *   create   for each of the two; needs a writable mount of /proc to be that other mount
 */
import { binding } from '../binding.js'
import { errnoNumber } from '../errno.js'
import { MountError, refine } from '../errors.js'
import type { Features } from '../host/features.js'
import * as c from '../program/calls.js'
import type { Flow } from '../program/flow.js'
import { claimInTheWay, failedStep } from '../program/outcome.js'
import { cwd, type Plan, PlanBuilder } from '../program/plan.js'
import { about, type Slot, type Step, type Subject } from '../program/step.js'
import { dropStale, inUse } from './claims.js'
import type { Here, Host } from './host.js'
import { directoryFlags, setDirectory } from './layers.js'
import type { MountSpec } from './spec.js'

const [EINVAL, ENOENT] = [errnoNumber('EINVAL')!, errnoNumber('ENOENT')!]
const elsewhere = '/proc'

/** Asks about both directories; with `create`, what is not there is not in use. */
export function planCheckUpper(
  { upperdir, workdir, create }: Pick<MountSpec, 'upperdir' | 'workdir' | 'create'>,
  features: Features,
): Plan {
  const b = new PlanBuilder('check upper')
  const dirs = [
    { name: 'upper', path: upperdir! },
    { name: 'work', path: workdir! },
  ].map(({ name, path }) => {
    const slot = b.slot(name)
    const subject = about(`${name}dir`, path)
    const extra = create ? { subject, tolerate: [ENOENT] } : { subject }
    const opened = c.openat(slot, cwd, path, directoryFlags(features), extra)
    b.add(opened, c.claim(slot, { subject, ifDone: opened })).always(c.close(slot))
    return { slot, subject, opened }
  })
  for (const { slot, subject, opened } of dirs) {
    if (features.fsContext) contextSteps(b, slot, subject, opened, features)
    else {
      const data = [`lowerdir=${elsewhere},workdir=${elsewhere},index=on,upperdir=/proc/self/fd/`, slot]
      b.add(c.mount('overlay', '/', 'overlay', 0, data, refused(subject, opened)))
    }
  }
  return b.build()
}

const refused = (subject: Subject, ifDone: Step): c.Extra => ({
  subject,
  ifDone,
  tolerate: [EINVAL],
  endsSuperblock: true,
})

function contextSteps(b: PlanBuilder, slot: Slot, subject: Subject, ifDone: Step, features: Features): void {
  const fs = b.slot('fs')
  const only = { subject, ifDone }
  const other = { subject: { option: 'checkUpper' }, ifDone }
  b.add(
    c.fsopen(fs, 'overlay', other),
    c.setString(fs, 'lowerdir', elsewhere, other),
    setDirectory(fs, 'upperdir', slot, features, only),
    c.setString(fs, 'workdir', elsewhere, other),
    c.setString(fs, 'index', 'on', other),
    c.create(fs, refused(subject, ifDone)),
  ).always(c.close(fs))
}

/** True for an EBUSY of the kernel that may be asked about: of a mount, or of what is asked here. */
export const isBusy = (error: unknown): error is MountError =>
  error instanceof MountError && error.code === 'EBUSY' && /^(fsconfig|mount)$/.test(error.syscall)

/** Throws EBUSY if one of the directories is in use. A mount of this process that is going is waited for. */
export function* checkUpper(host: Host, here: Here, spec: MountSpec): Flow<void> {
  for (;;) {
    try {
      const plan = planCheckUpper(spec, host.features)
      const { claim } = yield { plan, pool: here.composing, abortable: true }
      // the mount takes one of its own
      if (claim !== 0) binding.dropClaim(claim)
      return
    } catch (error) {
      if (!(error instanceof MountError)) throw error
      const step = failedStep(error)
      if (step?.call === 'claim' && error.code === 'EBUSY') {
        const claim = claimInTheWay(error)
        if (dropStale(claim, host.features.uniqueMountId)) continue
        throw inUse(step, claim, error)
      }
      if (host.rung === 'auto' && host.lacks(error)) continue
      if (!isBusy(error) || step?.subject === undefined) throw error
      const { option, path } = step.subject
      const hint = `${option} is in use by an overlay of another process, or by one that was unmounted lazily and still has open files`
      throw refine(error, { hint, path })
    }
  }
}

/** What the kernel does not say of an EBUSY: which of the two it was. */
export function* whichIsBusy(host: Host, here: Here, spec: MountSpec, error: MountError): Flow<MountError> {
  if (!spec.upperdir) return error
  try {
    yield* checkUpper(host, here, spec)
  } catch (found) {
    if (found instanceof MountError && found.code === 'EBUSY') {
      return refine(error, { hint: found.hint, path: found.path })
    }
    // it is about the first failure that was asked
  }
  return error
}
