/**
 * Rung staged: idmapped layers where overlay takes none of detached mounts. Linux 6.7 to 6.14.
 *
 * Overlay wants its layers attached in the mount namespace of whoever creates it. So they are, in the staging
 * namespace (staging.ts), where the overlay is made too; what comes out of it is an fd, which is attached in the
 * caller's namespace. All in one program, on one thread, which goes there and back.
 *
 *   the stack's own mapping   its tree is kept attached there; layers by their fds' numbers
 *   a mapping used once       a tree made for it in the caller's namespace, attached for this mount; layers by name
 *                             relative to it, or by number
 *   upper and work            a clone of the directory above both, made in the caller's namespace and attached for
 *                             this mount; both must be the directories that the caller sees
 */
import * as c from '../../program/calls.js'
import { encodeFragment } from '../../program/encode.js'
import { type Fragment, PlanBuilder } from '../../program/plan.js'
import { about, type FdArg, type Register, type Slot, type Step, statxField } from '../../program/step.js'
import { lowersByName, type OpenLayers, ownTrees, setNumber } from '../layers.js'
import { clearPlaces, enter, makePlace, placeOf, type Staging, undoPlaces } from '../staging.js'
import { clonedTree } from '../trees.js'
import { asMappedRoot, createSteps, type Upper, type UpperInput, upperSteps } from '../upper.js'
import { usernsSteps } from '../userns.js'
import { planClone } from './clone.js'
import { attachSteps, isReadOnly, notReadOnly } from './fs-context.js'
import { type Composition, cachedFragment, type RungInput } from './rung.js'

export const name = 'staged'

export function plan(input: RungInput): Composition {
  const { layers, spec, idmap, features, mark, fragments } = input
  if (layers.list.length === 1 && spec.upperdir === undefined) return planStagedClone(name, input)
  const staging = input.staging!
  const b = new PlanBuilder(name).note(...input.notes).holes(input.holes)
  // these first: fragments that plans share know them by their numbers
  const fs = b.slot('fs')
  const own = ownSlots(b, input)
  const spare = b.slot('layer')
  const { upper, places } = carriedSteps(b, input, own, 'as it is')
  const isByName = own.trees.length > 0 || layers.list.some(({ fd }) => fd === undefined)
  const lowers = cachedFragment(fragments, `staged ${isByName} ${own.trees.length}`, () => {
    if (!isByName) return lowersByNumber(fs, layers)
    const trees = own.trees.length > 0 ? { ...own, spare, areClones: true } : ownTrees(layers, spare)
    return lowersByName(fs, layers, trees, features, staging.proc)
  })
  const mount = b.slot('mount')
  const identity = c.statxFd(mount, features.uniqueMountId, { report: true, identifies: true })
  inStaging(b, staging, { place: places[0], trees: places }, () => {
    if (!isByName) b.add(c.fchdir(staging.proc))
    b.add(c.fsopen(fs, 'overlay', { subject: { option: 'lowerdir' } }))
    b.always(c.close(fs))
    encodeFragment(lowers)
    b.fragment(lowers)
    if (upper) {
      if (isByName) b.add(c.fchdir(staging.proc))
      b.add(setNumber(fs, 'upperdir', upper.upper, { subject: about('upperdir', spec.upperdir) }))
      b.add(setNumber(fs, 'workdir', upper.work, { subject: about('workdir', spec.workdir) }))
    }
    for (const { key, value } of spec.options.list) {
      const subject = { option: `options.${key}` }
      b.add(value === undefined ? c.setFlag(fs, key, { subject }) : c.setString(fs, key, value, { subject }))
    }
    if (mark !== undefined) b.add(c.setString(fs, 'source', mark))
    if (spec.upper === 'idmapped' && upper) asMappedRoot(b, idmap!, c.create(fs))
    else b.add(c.create(fs))
    b.add(c.fsmount(mount, fs, spec.attributes.mountAttr))
  })
  return finish(b, input, mount, identity, upper)
}

/** Every layer by the number of the fd that is kept of it. */
const lowersByNumber = (fs: Slot, layers: OpenLayers): Fragment =>
  layers.list.map(({ key, fd, subject }) => setNumber(fs, key, fd!, { subject }))

/** Trees that a mount makes for itself, by group, and the ids of their mounts: none if the stack's are attached. */
export interface OwnSlots {
  readonly trees: readonly Slot[]
  readonly mounts: readonly Register[]
}

export function ownSlots(b: PlanBuilder, { spec, layers }: RungInput): OwnSlots {
  const groups = spec.idmap !== undefined || !layers.staged ? layers.groups : []
  const trees = groups.map((_, i) => b.slot(groups.length === 1 ? 'tree' : `tree ${i}`))
  return { trees, mounts: trees.map((_, i) => b.register(`mount of tree ${i}`)) }
}

/** What has to be attached for one mount. */
export interface Carried {
  readonly upper: Upper | undefined
  /** detached trees; the first one's number names the place of all */
  readonly places: readonly Slot[]
}

/** Steps in the caller's namespace: directories, the upper's clone, trees of a mapping that is used once. */
export function carriedSteps(
  b: PlanBuilder,
  input: RungInput,
  own: OwnSlots,
  carried: NonNullable<UpperInput['carried']>,
): Carried {
  const { layers, spec, idmap, features } = input
  let namespace: FdArg | undefined
  const userns = (): FdArg => {
    namespace ??=
      spec.idmap === undefined && layers.userns ? layers.userns : usernsSteps(b, spec.idmap ?? idmap!)
    return namespace
  }
  const made = createSteps(b, input)
  const upper = upperSteps(b, { ...input, userns, carried }, made)
  const places: Slot[] = []
  const isMapped = spec.idmap !== undefined || layers.idmapped
  for (const [i, tree] of own.trees.entries()) {
    const subject = layers.list.find(({ group }) => group === i)?.subject
    // a group whose layers were all renamed has none left
    if (subject === undefined) continue
    const hasNames = layers.list.some(({ group, name }) => group === i && name !== undefined)
    const { root } = layers.groups[i]!
    const byString = hasNames && features.appendLayers
    b.add(...clonedTree(tree, root, isMapped ? userns() : undefined, 'attached', byString, { subject }))
    b.always(c.close(tree))
    places.push(tree)
    if (!hasNames) continue
    const remember = [{ field: statxField.mountId, register: own.mounts[i]! }]
    b.add(c.statxFd(tree, features.uniqueMountId, { remember }))
  }
  // on top, so that nothing is mounted on it: it may be shared with the mount that the caller sees
  if (upper) places.push(upper.tree!)
  return { upper, places }
}

/** Runs steps in the staging namespace, with trees attached there meanwhile, all at one place. */
export function inStaging(
  b: PlanBuilder,
  staging: Staging,
  { place, trees }: { readonly place: Slot | undefined; readonly trees: readonly Slot[] },
  steps: () => void,
): void {
  const places = place ? [place] : []
  const entered = enter(staging)
  b.add(...places.map((each) => makePlace(staging, each)), entered)
  undoPlaces(b, staging, entered, places)
  // one upon the other: nobody looks them up by that name
  for (const tree of trees) b.add(c.attachBelow(tree, staging.root, placeOf(place!)))
  steps()
  b.add(...clearPlaces(staging, places))
}

/** Steps back in the caller's namespace. */
export function finish(
  b: PlanBuilder,
  input: RungInput,
  mount: Slot,
  identity: Step,
  upper: Upper | undefined,
): Composition {
  const { spec } = input
  if (upper && !isReadOnly(spec))
    b.add(c.fstatfs(mount, { expect: [notReadOnly], subject: about('upperdir', spec.upperdir) }))
  b.add(identity)
  const outputs = attachSteps(b, mount, input)
  for (const { slot } of outputs) b.output(slot)
  return { plan: b.build(), identity, outputs, kind: 'overlay' }
}

/** A clone needs no staging; it is made from what the caller sees, since a tree is attached elsewhere. */
export function planStagedClone(rung: string, input: RungInput): Composition {
  const { layers, spec, idmap } = input
  const [layer] = layers.list
  const { root } = layers.groups[layer!.group]!
  const list = [{ ...layer!, fd: root }]
  const userns = spec.idmap === undefined && idmap ? layers.userns : undefined
  return planClone(rung, { ...input, layers: { ...layers, list } }, { byAttr: false, userns })
}
