/**
 * One layer and no upper: the kernel refuses such an overlay, so the mount is a read-only clone of that
 * layer, idmapped where there is a mapping. By fd: open_tree_attr, or open_tree and mount_setattr, which take it out of
 * the layer's peer group too.
 */
import * as f from '../../flags.js'
import * as c from '../../program/calls.js'
import { PlanBuilder } from '../../program/plan.js'
import type { FdArg } from '../../program/step.js'
import { msAtimes, outOfPeerGroup } from '../attributes.js'
import { cloneWith } from '../trees.js'
import { createSteps } from '../upper.js'
import { usernsSteps } from '../userns.js'
import { attachSteps } from './fs-context.js'
import { type Composition, cloneNote, type RungInput } from './rung.js'

/** How a clone is made that differs from the usual way. */
export interface CloneWay {
  /** by one call, which is there from Linux 6.15 on */
  readonly byAttr: boolean
  /** of the stack's mapping, where what is cloned is not idmapped yet */
  readonly userns?: FdArg | undefined
}

export function planClone(
  rung: string,
  input: RungInput,
  { byAttr, userns: own }: CloneWay = { byAttr: input.features.openTreeAttr },
): Composition {
  const { layers, spec, features } = input
  const { fd: kept, subject, isImage } = layers.list[0]!
  // a layer on its own is never reached by name
  const fd = kept!
  const b = new PlanBuilder(rung).note(cloneNote, ...input.notes).holes(input.holes)
  const mount = b.slot('mount')
  createSteps(b, input)
  const set = spec.attributes.mountAttr | f.MOUNT_ATTR_RDONLY
  // the access time is a number within the attributes: it is replaced, not added to
  const clear = (spec.attributes.ms & msAtimes) !== 0 ? f.MOUNT_ATTR__ATIME : 0
  const userns = spec.idmap ? usernsSteps(b, spec.idmap) : own
  // what is mounted for an image is in no peer group
  const propagation = isImage ? 0 : outOfPeerGroup
  const attributes = { set: set | (userns ? f.MOUNT_ATTR_IDMAP : 0), clear, propagation, userns }
  b.add(...cloneWith(mount, fd, attributes, byAttr, { subject }))
  const identity = c.statxFd(mount, features.uniqueMountId, { report: true })
  b.add(identity)
  const outputs = attachSteps(b, mount, input)
  for (const { slot } of outputs) b.output(slot)
  return { plan: b.build(), identity, outputs, kind: 'clone' }
}
