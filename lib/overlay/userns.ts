/** The user namespace of a mapping as a step: made, opened, or given. */
import * as f from '../flags.js'
import { type Idmap, isMapped } from '../idmap.js'
import { close, openat, userns } from '../program/calls.js'
import { cwd, held, type PlanBuilder } from '../program/plan.js'
import type { FdArg, Slot } from '../program/step.js'

const subject = { option: 'idmap' }

/** An fd of the namespace, for steps that follow. `keep`: it is handed out, else closed at the end. */
export function usernsSteps(b: PlanBuilder, idmap: Idmap, keep?: (slot: Slot) => void): FdArg {
  if (!isMapped(idmap) && typeof idmap.userns === 'number') return held(idmap.userns, 'userns')
  const slot = b.slot('userns')
  if (isMapped(idmap)) b.add(userns(slot, idmap.uidMap, idmap.gidMap, { subject }))
  else {
    const path = idmap.userns as Uint8Array
    b.add(openat(slot, cwd, path, f.O_RDONLY, { subject: { ...subject, path } }))
  }
  if (keep) keep(slot)
  else b.always(close(slot))
  return slot
}
