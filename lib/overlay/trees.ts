/**
 * The plan of a stack's trees, after the first look at its layers (look.ts): trees, and the layers below them.
 *
 *   trees    per group: openat and statx of the directory above; its idmapped clone; every layer opened
 *            again below it, without leaving it, to be compared with what was seen
 *   alone    a clone of the layer itself, for those that cannot join
 *   staged   the clones are made by open_tree and mount_setattr, and attached in the staging namespace
 */
import * as f from '../flags.js'
import type { Features } from '../host/features.js'
import type { Idmap } from '../idmap.js'
import * as c from '../program/calls.js'
import { cwd, held, type Plan, PlanBuilder } from '../program/plan.js'
import type { Identity } from '../program/result.js'
import {
  type FdArg,
  type HeldFd,
  type MountAttrArg,
  type Slot,
  type Step,
  type Subject,
  statxField,
} from '../program/step.js'
import { outOfPeerGroup } from './attributes.js'
import { commonParent, relativeTo } from './bytes.js'
import type { MappingLease } from './mappings.js'
import { layerSubject, type StackSpec } from './spec.js'
import { attachTrees, type Staging } from './staging.js'
import { usernsSteps } from './userns.js'

/** A layer as the caller sees it. */
export interface Seen {
  readonly identity: Identity
  readonly path: Buffer | undefined
  /** ST_* of the mount it lies on, where they are needed */
  readonly mountFlags?: number | undefined
  /** O_PATH fd, or one open for reading where the kernel wants that */
  readonly fd: HeldFd
}

export const layerName = (spec: StackSpec, index: number): string => {
  const { path } = layerSubject(spec, index)
  return typeof path === 'string' ? path : path.toString('latin1')
}

/** What plans call the clone of a directory: not as the directory, for it may be idmapped. */
export const treeName = (of: string): string => `tree of ${of}`

/** Layers that may share a tree: several on one mount, with a directory above them all. */
export interface Candidate {
  readonly parent: Buffer
  readonly mountId: bigint
  readonly members: readonly number[]
}

/** Candidates for groups, by mount; what is in none of them is on its own. */
export function candidates(seen: readonly Pick<Seen, 'identity' | 'path'>[]): Candidate[] {
  const byMount = new Map<bigint, number[]>()
  seen.forEach(({ identity, path }, i) => {
    if (path === undefined || commonParent([path]) === undefined) return
    const members = byMount.get(identity.mountId)
    if (members) members.push(i)
    else byMount.set(identity.mountId, [i])
  })
  const found: Candidate[] = []
  for (const [mountId, members] of byMount) {
    const parent = members.length > 1 ? commonParent(members.map((i) => seen[i]!.path!)) : undefined
    if (parent !== undefined) found.push({ parent, mountId, members })
  }
  return found
}

export interface TreesPlan {
  readonly plan: Plan
  /** per candidate */
  readonly groups: readonly { parent: Slot; tree: Slot | undefined; report: Step }[]
  /** by the index of the layer */
  readonly layers: ReadonlyMap<number, { slot: Slot; report: Step }>
  readonly alone: ReadonlyMap<number, Slot>
  readonly userns: Slot | undefined
  readonly outputs: readonly Slot[]
}

/** errnos of openat2 that mean: the layer is not below this tree in the way its name says */
const notBelow = ['ENOENT', 'ENOTDIR', 'ELOOP', 'EXDEV', 'EAGAIN'] as const
const notBelowNumbers = { ENOENT: 2, EAGAIN: 11, EXDEV: 18, ENOTDIR: 20, ELOOP: 40 } as const
const EBADF = 9

/**
 * Steps that make a clone with attributes: one call from Linux 6.15 on, and two before that, or where a filter does not
 * know it yet. Both take the lock for writing as often.
 */
export const cloneWith = (
  tree: Slot,
  of: FdArg,
  attributes: Partial<MountAttrArg>,
  byAttr: boolean,
  extra: c.Extra,
): Step[] =>
  byAttr
    ? [c.cloneTreeAttr(tree, of, attributes, extra)]
    : [c.cloneTree(tree, of, extra), c.mountSetattr(tree, attributes, extra)]

/**
 * Steps that make a read-only clone, idmapped if there is a mapping. Through one that names are looked up in no symbolic
 * link is followed: where the kernel looks, there may be another one than what was seen there. Attribute of the clone
 * alone: what an overlay shows of its layers is not looked up through their mounts.
 *
 * MOUNT_ATTR_NOSYMFOLLOW is of Linux 5.14: names are given to overlay as `lowerdir+`, which is younger, and a kernel
 * that has none of that is not asked for it.
 *
 * @param way `attached`: it will be, in the staging namespace, and must not be shared: a clone is in the peer group of
 *   what it was cloned from, and what is mounted on one is seen on the other. Kernels that need that have no
 *   open_tree_attr. `detached`: it never will
 * @param hasNames layers are given to overlay by their names below it
 */
export function clonedTree(
  tree: Slot,
  of: FdArg,
  userns: FdArg | undefined,
  way: 'attached' | { readonly detached: Pick<Features, 'openTreeAttr'> },
  hasNames: boolean,
  extra: c.Extra,
): Step[] {
  const set =
    f.MOUNT_ATTR_RDONLY | (userns ? f.MOUNT_ATTR_IDMAP : 0) | (hasNames ? f.MOUNT_ATTR_NOSYMFOLLOW : 0)
  if (way !== 'attached') return cloneWith(tree, of, { set, userns }, way.detached.openTreeAttr, extra)
  return cloneWith(tree, of, { set, userns, propagation: outOfPeerGroup }, false, extra)
}

/** What the plan of the trees is made for. */
export interface TreesInput {
  readonly spec: StackSpec
  readonly features: Features
  readonly seen: readonly Seen[]
  readonly candidates: readonly Candidate[]
  /** layers that get a tree of their own */
  readonly alone: readonly number[]
  readonly idmap: Idmap | undefined
  readonly lease: MappingLease | undefined
  /** where idmapped trees are attached, for a rung that needs that */
  readonly staging?: Staging | undefined
}

/** Plan of the trees, and of the layers below them. */
export function planTrees(input: TreesInput): TreesPlan {
  const { spec, features, seen, candidates, alone, idmap, lease, staging } = input
  const b = new PlanBuilder('idmap layers')
  const outputs: Slot[] = []
  const out = (name: string): Slot => {
    const slot = b.output(b.slot(name))
    outputs.push(slot)
    return slot
  }
  let userns: Slot | undefined
  let usernsFd: FdArg | undefined = lease?.usernsFd === undefined ? undefined : held(lease.usernsFd, 'userns')
  const namespace = () => {
    if (usernsFd) return usernsFd
    const made = usernsSteps(b, idmap!, (slot) => {
      userns = b.output(slot)
      outputs.push(slot)
    })
    usernsFd = made
    return made
  }
  // overlay takes the caller's own directories where it is made in the caller's namespace
  const wantsTrees = idmap !== undefined || staging !== undefined
  const way = staging ? 'attached' : { detached: features }
  const made: Slot[] = []
  const clone = (tree: Slot, of: FdArg, hasNames: boolean, subject: Subject) => {
    b.add(...clonedTree(tree, of, idmap && namespace(), way, hasNames, { subject }))
    made.push(tree)
  }
  const layers = new Map<number, { slot: Slot; report: Step }>()
  const groups = candidates.map(({ parent: path, members }) => {
    const subject = { ...layerSubject(spec, members[0]!), path }
    const parent = out(`above ${path.toString('latin1')}`)
    b.add(c.openat(parent, cwd, path, f.O_PATH | f.O_DIRECTORY, { subject }))
    const known = lease?.tree(path)
    const expect = known && [
      ...c.sameInode(known.identity),
      { field: statxField.mountId, value: known.identity.mountId },
    ]
    const report = c.statxFd(parent, features.uniqueMountId, { report: true, expect, subject })
    b.add(report)
    let tree: Slot | undefined
    if (wantsTrees && !known) {
      tree = out(treeName(path.toString('latin1')))
      // another stack may share it, which keeps no fds
      clone(tree, parent, features.appendLayers, subject)
    }
    const root = known ? held(known.fd, treeName(path.toString('latin1'))) : (tree ?? parent)
    for (const i of members) {
      const member = layerSubject(spec, i)
      const slot = out(layerName(spec, i))
      const beneath = f.RESOLVE_BENEATH | f.RESOLVE_NO_SYMLINKS | f.RESOLVE_NO_XDEV
      const tolerate = notBelow.map((name) => notBelowNumbers[name])
      const extra = { subject: member, tolerate }
      const name = relativeTo(path, seen[i]!.path!)
      const again = c.statxFd(slot, features.uniqueMountId, { report: true, tolerate: [EBADF] })
      b.add(c.openat2(slot, root, name, f.O_PATH | f.O_DIRECTORY, beneath, extra), again)
      layers.set(i, { slot, report: again })
    }
    return { parent, tree, report }
  })
  const own = new Map<number, Slot>()
  for (const i of wantsTrees ? alone : []) {
    const slot = out(treeName(layerName(spec, i)))
    clone(slot, seen[i]!.fd, false, layerSubject(spec, i))
    own.set(i, slot)
  }
  if (staging) attachTrees(b, staging, made)
  return { plan: b.build(), groups, layers, alone: own, userns, outputs }
}
