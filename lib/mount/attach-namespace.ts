/**
 * Plans that attach a detached mount inside another mount namespace.
 */
import { attachInside, detachInside, type InsideBytes } from '../overlay/inside.js'
import { endWaits, type MountKind } from '../overlay/reap.js'
import { setPropagation } from '../overlay/rungs/fs-context.js'
import { propagationNote } from '../overlay/rungs/rung.js'
import { held, type Plan, PlanBuilder } from '../program/plan.js'

/** What is attached. */
export interface Attaching {
  /** what made the mount: the title of the plan */
  readonly rung: string
  readonly kind: MountKind
  readonly mountFd: number
  readonly propagation: number | undefined
}

/** The plan has one output: an fd of the namespace. */
export function planAttachInside(inside: InsideBytes, { rung, kind, mountFd, propagation }: Attaching): Plan {
  const b = new PlanBuilder(rung)
  const mount = held(mountFd, 'mount')
  const { namespace, attach } = attachInside(b, mount, inside, { create: false, parents: [] })
  b.output(namespace)
  if (propagation !== undefined) {
    detachInside(b, mount, attach, endWaits(kind))
    b.note(propagationNote).add(setPropagation(mount, propagation))
  }
  return b.build()
}
