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
  /** ST_* of the caller's mount that it lies on, as statfs(2) has them; of a layer on its own, without an idmap */
  readonly mountFlags?: number | undefined
  /** kept open: below the stack's idmapped tree if it has one, else the caller's view; not if reached by name */
  readonly fd: HeldFd | undefined
  readonly group: number
  /** below the group's root; undefined if the layer is that root */
  readonly name: Buffer | undefined
  /** the root of a mounted image, a group of its own */
  readonly isImage?: boolean
}

export interface Group {
  /** what a tree is cloned from: an fd in the caller's namespace, or one below the stack's tree */
  readonly root: HeldFd
  /** what names are looked up in for mounts with the stack's mapping; only if layers have names in it */
  readonly tree?: HeldFd
  /** the mount that `tree` is */
  readonly mountId?: bigint
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
  /** those trees are attached in the staging namespace */
  readonly staged: boolean
  /** the user namespace of those trees */
  readonly userns: HeldFd | undefined
}

/** The longest string fsconfig(2) takes. */
const maxString = 255

/** How an fd of a directory is opened so that fsconfig takes it. */
export const directoryFlags = (features: Features): number =>
  features.layersByFd === 'directory' ? f.O_RDONLY | f.O_DIRECTORY : f.O_PATH | f.O_DIRECTORY

/**
 * One directory given to the context by the number of its fd, on a thread whose working directory is /proc/self/fd:
 * any kernel takes that, with or without a /proc where the thread is.
 */
export const setNumber = (fs: Slot, key: string, dir: FdArg, extra?: Extra): Step =>
  setString(fs, key, [dir], extra)

/** One directory given to the context by fd; by the fd's name in /proc where it takes no fds. */
export function setDirectory(fs: Slot, key: string, dir: FdArg, features: Features, extra?: Extra): Step {
  return features.layersByFd === false
    ? setString(fs, key, ['/proc/self/fd/', dir], extra)
    : setFd(fs, key, dir, extra)
}

/** Every layer by the fd that is kept of it. */
export function lowersByFd(fs: Slot, layers: OpenLayers, features: Features): Fragment {
  return layers.list.map(({ key, fd, subject }) => setDirectory(fs, key, fd!, features, { subject }))
}

/** Where names are looked up: a tree for each group, the id of its mount, and a slot to spare. */
export interface Trees {
  readonly trees: readonly FdArg[]
  readonly mounts: readonly (Register | bigint)[]
  readonly spare: Slot
  /** they are clones of the library's own, through which no symbolic link is followed (trees.ts) */
  readonly areClones: boolean
}

/** The trees that the stack has already. */
export const ownTrees = ({ groups, idmapped, staged }: OpenLayers, spare: Slot): Trees => ({
  trees: groups.map(({ root, tree }) => tree ?? root),
  mounts: groups.map(({ mountId }) => mountId ?? 0n),
  spare,
  areClones: idmapped || staged,
})

/**
 * Every layer by its name below a tree. Each name is looked at first: it must still show the directory that
 * was opened, and through the tree's own mount. The kernel looks it up again then, and would follow a symbolic link that
 * was put in its place meanwhile: not through a clone that was made so. The thread's directory is a tree afterwards.
 * What goes by fd instead: a layer that is a group's root, one whose name is too long, and each where the tree is no
 * clone, or threads have no directory of their own.
 *
 * @param proc a /proc/self/fd to make names of fds in, where overlay is to be given no fds
 */
export function lowersByName(
  fs: Slot,
  layers: OpenLayers,
  slots: Trees,
  features: Features,
  proc?: FdArg,
): Fragment {
  const steps: Step[] = []
  let at = -1
  const set = (key: string, dir: FdArg, subject: Subject): Step[] => {
    if (proc === undefined) return [setDirectory(fs, key, dir, features, { subject })]
    at = -1
    return [fchdir(proc), setNumber(fs, key, dir, { subject })]
  }
  for (const { group, name, key, identity, subject, fd } of layers.list) {
    const tree = slots.trees[group]!
    if (name === undefined) {
      // a new tree's root; of the stack's own trees, the layer that was kept
      steps.push(...set(key, 'slot' in tree ? tree : fd!, subject))
      continue
    }
    const mount = { field: statxField.mountId, value: slots.mounts[group]! }
    const expect = [...sameInode(identity), mount]
    if (!slots.areClones || name.length > maxString || !features.ownDirectory) {
      const beneath = f.RESOLVE_BENEATH | f.RESOLVE_NO_SYMLINKS
      steps.push(
        openat2(slots.spare, tree, name, directoryFlags(features), beneath, { subject }),
        statxFd(slots.spare, features.uniqueMountId, { expect, subject }),
        ...set(key, slots.spare, subject),
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
