/** The user namespace of a mapping as a step: made, opened, or given. */
import * as f from '../flags.js'
import { close, openat, userns } from '../program/calls.js'
import { cwd, held, type PlanBuilder } from '../program/plan.js'
import type { Slot } from '../program/step.js'
import type { Planned } from './spec.js'

const subject = { option: 'idmap' }
/** Not to wait for a writer where the path turns out to be a FIFO. */
const flags = f.O_RDONLY | f.O_NONBLOCK | f.O_NOCTTY

/** An fd of the namespace, for steps that follow. `keep`: it is handed out, else closed at the end. */
export function usernsSteps(
  b: PlanBuilder,
  idmap: NonNullable<Planned['idmap']>,
  keep?: (slot: Slot) => void,
): Slot {
  const slot = b.slot('userns')
  if ('uidMap' in idmap) b.add(userns(slot, idmap.uidMap, idmap.gidMap, { subject }))
  else if (typeof idmap.userns === 'number') {
    // an fd of our own: the caller may close his when the call has ended
    const path = ['/proc/self/fd/', held(idmap.userns, 'userns')]
    b.add(openat(slot, cwd, path, flags, { subject: { ...subject, path: `fd ${idmap.userns}` } }))
  } else {
    b.add(openat(slot, cwd, idmap.userns, flags, { subject: { ...subject, path: idmap.userns } }))
  }
  if (keep) keep(slot)
  else b.always(close(slot))
  return slot
}
