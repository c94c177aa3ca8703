/**
 * Rung staged-classic: as staged, where overlay has no fs context that takes layers one by one (before Linux 6.7).
 *
 * mount(2) attaches what it makes, so it is made in the staging namespace; a detached clone of it is what the caller
 * gets, and the first one goes with all else that was attached there. The data of mount(2) are numbers of fds, as in
 * rung classic. Attributes are set on the clone: a read-only mount has a superblock that is not.
 *
 *   a mapping used once   its tree is made as in rung staged; every layer is opened below it, since names do not fit
 *                         into mount(2)'s 4095 bytes
 */
import * as f from '../../flags.js'
import * as c from '../../program/calls.js'
import { cwd, PlanBuilder } from '../../program/plan.js'
import { type FdArg, statxField } from '../../program/step.js'
import { msAtimes } from '../attributes.js'
import { directoryFlags, type OpenLayer } from '../layers.js'
import { placeOf } from '../staging.js'
import { asMappedRoot } from '../upper.js'
import { overlayData } from './classic.js'
import type { Composition, RungInput } from './rung.js'
import { carriedSteps, finish, inStaging, type OwnSlots, ownSlots, planStagedClone } from './staged.js'

export const name = 'staged-classic'

export function plan(input: RungInput): Composition {
  const { layers, spec, idmap, features, mark = 'overlay' } = input
  if (layers.list.length === 1 && spec.upperdir === undefined) return planStagedClone(name, input)
  const staging = input.staging!
  const b = new PlanBuilder(name).note(...input.notes).holes(input.holes)
  const own = ownSlots(b, input)
  const { upper, places } = carriedSteps(b, input, own, 'private')
  const lowers = layers.list.map((layer) => ({ key: layer.key, fd: lowerOf(b, layer, own, input) }))
  const data = overlayData(name, lowers, spec.options.list, upper)
  const mount = b.slot('mount')
  const identity = c.statxFd(mount, features.uniqueMountId, { report: true, identifies: true })
  // where nothing is carried in, the place needs a number too
  let place = places[0]
  if (place === undefined) {
    place = b.slot('place')
    b.add(c.openat(place, staging.root, '.', f.O_PATH | f.O_DIRECTORY))
    b.always(c.close(place))
  }
  const at = ['/', ...placeOf(place)] as const
  inStaging(b, staging, { place, trees: places }, () => {
    b.add(c.fchdir(staging.proc))
    const made = c.mount(mark, at, 'overlay', 0, data, { subject: { option: 'lowerdir' } })
    if (spec.upper === 'idmapped' && upper) asMappedRoot(b, idmap!, made)
    else b.add(made)
    b.add(c.cloneTreeAt(mount, cwd, at))
  })
  const set = spec.attributes.mountAttr
  const clear = (spec.attributes.ms & msAtimes) !== 0 ? f.MOUNT_ATTR__ATIME : 0
  if (set !== 0 || clear !== 0) {
    b.add(c.mountSetattr(mount, { set, clear }, { subject: { option: 'attributes' } }))
  }
  return finish(b, input, mount, identity, upper)
}

/** The fd of a layer: the kept one, or one below a tree of this mount's own, where it must be the same directory. */
function lowerOf(
  b: PlanBuilder,
  layer: OpenLayer,
  { trees, mounts }: OwnSlots,
  { features }: RungInput,
): FdArg {
  const tree = trees[layer.group]
  // this rung keeps an fd of every layer
  if (tree === undefined) return layer.fd!
  const { name, subject, identity } = layer
  if (name === undefined) return tree
  const slot = b.slot(`layer ${name.toString('latin1')}`)
  const beneath = f.RESOLVE_BENEATH | f.RESOLVE_NO_SYMLINKS
  const expect = [...c.sameInode(identity), { field: statxField.mountId, value: mounts[layer.group]! }]
  b.add(c.openat2(slot, tree, name, directoryFlags(features), beneath, { subject }))
  b.add(c.statxFd(slot, features.uniqueMountId, { expect, subject }))
  b.always(c.close(slot))
  return slot
}
