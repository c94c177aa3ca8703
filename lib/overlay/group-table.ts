/**
 * Which group a rootfs is attached below: found by its target, so that whatever attaches it (a stack, a one-shot
 * mount, `attach` of a detached one) need not know of groups.
 *
 * The rootfs keeps the group, and the group the rootfs that have not been unmounted, because its unmount is
 * theirs too. The table keeps neither: a handle of a group that was dropped cannot take anything down any more.
 */
import { splitLast } from './bytes.js'
import type { MountLook } from './presence.js'

/** A rootfs, as its group sees it. */
export interface Member {
  /** number of what it has claimed; 0 if that is nothing */
  readonly claim: number
  /** The group was unmounted, and the rootfs with it, unless `look` still sees it somewhere. */
  gone(look: MountLook): void
}

/** A group, as a rootfs in it sees it. */
export interface Group {
  /** true while it is being unmounted */
  readonly isLeaving: boolean
  join(member: Member): void
  leave(member: Member): void
}

const groups = new Map<string, WeakRef<Group>>()

const dropped = new FinalizationRegistry<string>((key) => {
  if (groups.get(key)?.deref() === undefined) groups.delete(key)
})

const keyOf = (namespace: number, directory: Buffer): string => `${namespace} ${directory.toString('latin1')}`

/** The group is what is at this directory now. */
export function enterGroup(group: Group, namespace: number, directory: Buffer): void {
  const key = keyOf(namespace, directory)
  if (groups.get(key)?.deref() === group) return
  groups.set(key, new WeakRef(group))
  dropped.register(group, key, group)
}

/** It is there no more, or nobody may take it down any more. */
export function forgetGroup(group: Group, namespace: number, directory: Buffer): void {
  const key = keyOf(namespace, directory)
  if (groups.get(key)?.deref() === group) groups.delete(key)
  dropped.unregister(group)
}

/** Enters what has just been attached into the group that its target belongs to, if there is one. */
export function joinGroup(member: Member, namespace: number, target: Buffer): Group | undefined {
  if (groups.size === 0) return undefined
  const group = groups.get(keyOf(namespace, splitLast(target)!.parent))?.deref()
  group?.join(member)
  return group
}
