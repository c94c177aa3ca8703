/**
 * What the fd rungs have in common: an overlay made through an fs context, and attached as an fd.
 *
 *   operation        calls                                            taken back by
 *   ---------        -----                                            -------------
 *   directories      mkdirat, fchownat, openat                        unlinkat, close
 *   context          fsopen, fsconfig SET_* for layers and options    close
 *   superblock       fsconfig CMD_CREATE, fsmount                     close (nothing is attached)
 *   checks           fstatfs: read-only? statx: which mount is it?
 *   attach           move_mount; from here on it is visible           umount2 through its fd
 *   propagation      mount_setattr
 */
import * as f from '../../flags.js'
import * as c from '../../program/calls.js'
import { encodeFragment } from '../../program/encode.js'
import { type Fragment, PlanBuilder } from '../../program/plan.js'
import { about, type FdArg, type Slot, type Step, statfsField } from '../../program/step.js'
import { namesOf } from '../bytes.js'
import { attachInside, detachInside } from '../inside.js'
import { lowersByFd, lowersByName, ownTrees, setDirectory } from '../layers.js'
import type { Planned } from '../spec.js'
import { asMappedRoot, createSteps, known, upperSteps } from '../upper.js'
import { usernsSteps } from '../userns.js'
import { type Composition, cachedFragment, type Output, propagationNote, type RungInput } from './rung.js'

/** How a rung brings its layers into the context. */
export interface Lowers {
  /** steps before the context is opened, such as making trees */
  readonly prepare: () => void
  readonly fragment: Fragment
  /** the thread's working directory is another one afterwards */
  readonly changesDirectory: boolean
  readonly outputs: readonly Output[]
}

/** The stack's layers as they are: by the fds that it keeps, or by name where it keeps none. */
export function ownLowers(b: PlanBuilder, fs: Slot, { layers, features, fragments }: RungInput): Lowers {
  const prepare = () => {}
  if (layers.list.every(({ fd }) => fd !== undefined)) {
    const fragment = cachedFragment(fragments, 'by fd', () => lowersByFd(fs, layers, features))
    return { prepare, fragment, changesDirectory: false, outputs: [] }
  }
  const trees = ownTrees(layers, b.slot('layer'))
  const fragment = cachedFragment(fragments, 'by name, own', () => lowersByName(fs, layers, trees, features))
  return { prepare, fragment, changesDirectory: trees.areClones, outputs: [] }
}

/**
 * Plans an overlay mount.
 *
 * @param lowers gets the builder, the context's slot (always slot 0, so that fragments can be shared) and
 *   a function that answers the mapping's user namespace, made at its first use
 */
export function planContext(
  rung: string,
  input: RungInput,
  lowers: (b: PlanBuilder, fs: Slot, userns: () => FdArg) => Lowers,
): Composition {
  const { spec, idmap, features, layers, mark } = input
  const b = new PlanBuilder(rung).note(...input.notes).holes(input.holes)
  const fs = b.slot('fs')
  let namespace: FdArg | undefined
  const userns = (): FdArg => {
    namespace ??=
      spec.idmap === undefined && layers.userns ? layers.userns : usernsSteps(b, spec.idmap ?? idmap!)
    return namespace
  }
  const lower = lowers(b, fs, userns)
  const made = createSteps(b, input)
  const upper = upperSteps(b, { ...input, userns }, made)
  lower.prepare()
  b.add(c.fsopen(fs, 'overlay', { subject: { option: 'lowerdir' } }))
  b.always(c.close(fs))
  if (lower.changesDirectory && features.ownDirectory) b.always(c.chdir('/'))
  encodeFragment(lower.fragment)
  b.fragment(lower.fragment)
  if (upper) {
    b.add(
      setDirectory(fs, 'upperdir', upper.upper, features, {
        subject: about('upperdir', spec.upperdir),
      }),
    )
    b.add(
      setDirectory(fs, 'workdir', upper.work, features, {
        subject: about('workdir', spec.workdir),
      }),
    )
  }
  for (const { key, value } of spec.options.list) {
    const subject = { option: `options.${key}` }
    b.add(value === undefined ? c.setFlag(fs, key, { subject }) : c.setString(fs, key, value, { subject }))
  }
  if (mark !== undefined) b.add(c.setString(fs, 'source', mark))
  const create = c.create(fs)
  if (upper?.tree) asMappedRoot(b, idmap!, create)
  else b.add(create)
  const mount = b.slot('mount')
  b.add(c.fsmount(mount, fs, spec.attributes.mountAttr))
  if (upper && !isReadOnly(spec))
    b.add(c.fstatfs(mount, { expect: [notReadOnly], subject: about('upperdir', spec.upperdir) }))
  const identity = c.statxFd(mount, features.uniqueMountId, { report: true, identifies: true })
  b.add(identity)
  const outputs: Output[] = [...attachSteps(b, mount, input), ...lower.outputs]
  if (upper?.tree) outputs.push({ slot: upper.tree, kind: 'tree' })
  for (const { slot } of outputs) b.output(slot)
  return { plan: b.build(), identity, outputs, kind: 'overlay' }
}

/** Overlay comes up read-only, without an error, when it cannot prepare the work directory. */
export const notReadOnly = { field: statfsField.flags, mask: BigInt(f.ST_RDONLY), value: 0n }

/** statfs shows a mount's own read-only flag and its superblock's as one: then there is nothing to tell apart. */
export const isReadOnly = (spec: Planned): boolean => (spec.attributes.mountAttr & f.MOUNT_ATTR_RDONLY) !== 0

/** Steps that attach a mount to its target, or leave it detached: then it is an output. */
export function attachSteps(
  b: PlanBuilder,
  mount: Slot,
  { spec, parents }: Pick<RungInput, 'spec' | 'parents'>,
): Output[] {
  if (spec.target === undefined) return [{ slot: mount, kind: 'mount' }]
  if (spec.inside) {
    b.always(c.close(mount))
    const { create, inside, propagation } = spec
    const above = parents && create ? namesOf(known(inside.above)) : []
    const { namespace, attach } = attachInside(b, mount, inside, { create, parents: above })
    if (propagation !== undefined) {
      detachInside(b, mount, attach, true)
      b.note(propagationNote).add(setPropagation(mount, propagation))
    }
    return [{ slot: namespace, kind: 'namespace' }]
  }
  const subject = about('target', spec.target)
  const attach = c.attach(mount, spec.target, { subject })
  b.add(attach)
  b.always(c.close(mount))
  if (spec.propagation !== undefined) b.add(propagationStep(b, mount, attach, spec.propagation))
  return []
}

export const setPropagation = (mount: FdArg, propagation: number): Step =>
  c.mountSetattr(mount, { propagation }, { subject: { option: 'propagation' } })

/** Sets propagation of what `attach` has just attached; if it fails, that goes again. */
export function propagationStep(b: PlanBuilder, mount: FdArg, attach: Step, propagation: number): Step {
  b.note(propagationNote)
  b.undo(attach, c.umount(['/proc/self/fd/', mount], true, false, { endsSuperblock: true }))
  return setPropagation(mount, propagation)
}
