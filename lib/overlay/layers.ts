/**
 * The layers of a stack, opened: how a rung reaches each of them.
 *
 * Layers below one directory of one mount form a group: a single idmapped clone of that directory serves
 * them all. A layer that cannot join (a mount point, reached through a symbolic link, alone on its
 * mount) is a group of its own, whose root it is. While a plan is only explained, the same structure
 * holds fds that do not exist (-1) and are printed by name.
 */

import * as f from '../flags.js'
import type { Features } from '../host/features.js'
import {
  close,
  type Extra,
  fchdir,
  openat2,
  sameInode,
  setFd,
  setString,
  statxFd,
  statxPath,
} from '../program/calls.js'
import type { Fragment } from '../program/plan.js'
import { cwd } from '../program/plan.js'
import type { Identity } from '../program/result.js'
import {
  type FdArg,
  type HeldFd,
  type Register,
  type Slot,
  type Step,
  type Subject,
  statxField,
} from '../program/step.js'

export interface OpenLayer {
  readonly subject: Subject
  readonly key: 'lowerdir+' | 'datadir+'
  /** what the caller's own fd showed */
  readonly identity: Identity
  /** kept open: below the stack's idmapped tree if it has one, else the caller's view */
  readonly fd: HeldFd
  readonly group: number
  /** below the group's root; undefined if the layer is that root */
  readonly name: Buffer | undefined
}

export interface Group {
  /** what a tree is cloned from: an fd in the caller's namespace, or one below the stack's tree */
  readonly root: HeldFd
}

/** Mode, owner and extended attributes of the top layer: what a new upper takes over. */
export interface TopAttributes {
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly xattrs: readonly (readonly [name: Uint8Array, value: Uint8Array])[]
}

export interface OpenLayers {
  readonly list: readonly OpenLayer[]
  readonly groups: readonly Group[]
  /** the fds of `list` lie below idmapped trees */
  readonly idmapped: boolean
  /** the user namespace of those trees */
  readonly userns: HeldFd | undefined
}

/** The longest string fsconfig(2) takes. */
const maxString = 255

/** How an fd of a directory is opened so that fsconfig takes it. */
export const directoryFlags = (features: Features): number =>
  features.layersByFd === 'directory' ? f.O_RDONLY | f.O_DIRECTORY : f.O_PATH | f.O_DIRECTORY

/** One directory given to the context by fd; by the fd's name in /proc where it takes no fds. */
export function setDirectory(fs: Slot, key: string, dir: FdArg, features: Features, extra?: Extra): Step {
  return features.layersByFd === false
    ? setString(fs, key, ['/proc/self/fd/', dir], extra)
    : setFd(fs, key, dir, extra)
}

/** Every layer by the fd that is kept of it. */
export function lowersByFd(fs: Slot, layers: OpenLayers, features: Features): Fragment {
  return layers.list.map(({ key, fd, subject }) => setDirectory(fs, key, fd, features, { subject }))
}

/** The slots that `lowersByName` uses: the trees in the order of the groups, and one to spare. */
export interface TreeSlots {
  readonly trees: readonly Slot[]
  readonly mounts: readonly Register[]
  readonly spare: Slot
}

/**
 * Every layer by its name below new trees, one a group. Each name is looked at first: it must still show
 * the directory that was opened, and through the tree's own mount (the registers hold their ids; a symbolic
 * link put in its place would lead out of it). The thread's directory is a tree afterwards.
 */
export function lowersByName(fs: Slot, layers: OpenLayers, slots: TreeSlots, features: Features): Fragment {
  const steps: Step[] = []
  let at = -1
  for (const { group, name, key, identity, subject } of layers.list) {
    const tree = slots.trees[group]!
    if (name === undefined) {
      steps.push(setFd(fs, key, tree, { subject }))
      continue
    }
    const mount = { field: statxField.mountId, value: slots.mounts[group]! }
    const expect = [...sameInode(identity), mount]
    if (name.length > maxString) {
      const beneath = f.RESOLVE_BENEATH | f.RESOLVE_NO_SYMLINKS
      steps.push(
        openat2(slots.spare, tree, name, f.O_PATH | f.O_DIRECTORY, beneath, { subject }),
        statxFd(slots.spare, features.uniqueMountId, { expect, subject }),
        setFd(fs, key, slots.spare, { subject }),
        close(slots.spare),
      )
      continue
    }
    if (at !== group) steps.push(fchdir(tree))
    at = group
    steps.push(
      statxPath(cwd, name, features.uniqueMountId, { expect, subject }),
      setString(fs, key, name, { subject }),
    )
  }
  return steps
}
