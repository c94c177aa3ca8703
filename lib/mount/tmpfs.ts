/**
 * A tmpfs by fd: `fsopen`, `fsconfig`, `fsmount` with its attributes, and then it is attached.
 */
import * as c from '../program/calls.js'
import { PlanBuilder } from '../program/plan.js'
import { attachSteps, rootOf } from './attach.js'
import type { Known, MadeMount } from './bind.js'
import { createSteps } from './place.js'
import type { TmpfsSpec } from './spec.js'

export function planTmpfs(spec: TmpfsSpec, known: Known): MadeMount {
  const { features } = known
  const b = new PlanBuilder('direct').note(...known.notes)
  const root = rootOf(b, spec.target, features)
  const fs = b.slot('fs')
  b.add(c.fsopen(fs, 'tmpfs', { subject: { option: 'options' } }))
  b.always(c.close(fs))
  for (const { key, value } of spec.options) {
    const subject = { option: `options.${key}` }
    b.add(value === undefined ? c.setFlag(fs, key, { subject }) : c.setString(fs, key, value, { subject }))
  }
  b.add(c.create(fs, { subject: { option: 'tmpfs' } }))
  const mount = b.slot('mount')
  b.add(c.fsmount(mount, fs, spec.attributes.set))
  const identity = c.statxFd(mount, features.uniqueMountId, { report: true })
  b.add(identity)
  if (spec.target === undefined) {
    b.output(mount)
    return { plan: b.build(), identity, outputs: ['mount'] }
  }
  b.always(c.close(mount))
  if (spec.create) createSteps(b, spec.target, root, known)
  attachSteps(b, mount, { ...spec, spot: spec.target, recursive: false }, root, 'tmpfs')
  return { plan: b.build(), identity, outputs: [] }
}
