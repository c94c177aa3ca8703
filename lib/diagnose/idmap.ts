/**
 * Causes of an idmap that the kernel refuses. EINVAL, in order: what was given is no user namespace, it has no
 * mapping, the mount cannot be cloned; if it is none of them it is the file system, which cannot be asked. EPERM: the
 * initial user namespace was given, the mount is idmapped already, or the file system is somebody else's.
 */
import { closeSync, openSync, readlinkSync } from 'node:fs'
import * as f from '../flags.js'
import { features } from '../host/features.js'
import { extentsOf, isMapped } from '../idmap.js'
import { type Case, type Cause, fileSystemName, pathOf, subjectOf } from './causes.js'
import { isIdmapped, mountRootOf, notCloned, whereOf } from './mounts.js'

/** The user namespace that the caller gave, if the step was to idmap with one. */
function given({
  mount,
  stack,
}: Case): { name: string; path: Buffer; hasMap: boolean | undefined } | undefined {
  const idmap = mount?.idmap ?? stack.idmap
  if (idmap === undefined || isMapped(idmap)) return undefined
  const named = typeof idmap.userns === 'number' ? `fd ${idmap.userns}` : idmap.userns
  const extents = extentsOf(idmap)
  return {
    name: `idmap.userns${pathOf({ path: named })}`,
    path: whereOf(named)!,
    hasMap: extents && extents.uid.length > 0 && extents.gid.length > 0,
  }
}

/** Its inode is the same on every kernel (`USER_NS_INIT_INO`). */
const initialNamespace = 'user:[4026531837]'

const isNamespace = (text: string | undefined) => text !== undefined && /^\w+:\[\d+\]$/.test(text)

/** `user:[4026531837]` of a namespace's file, bound to another name or not; else its path; undefined if it is gone. */
function linkOf(path: Buffer): string | undefined {
  try {
    const fd = openSync(path, f.O_PATH)
    try {
      const link = readlinkSync(`/proc/self/fd/${fd}`)
      const bound = isNamespace(link) ? undefined : mountRootOf(Buffer.from(`/proc/self/fd/${fd}`))
      return isNamespace(bound) ? bound : link
    } finally {
      closeSync(fd)
    }
  } catch {
    return undefined
  }
}

const notUserns: Cause = (c) => {
  const userns = given(c)
  const link = userns && linkOf(userns.path)
  if (userns === undefined || link === undefined || link.startsWith('user:[')) return undefined
  return `${userns.name} is not a user namespace but ${isNamespace(link) ? link : 'a file'}`
}

const noMap: Cause = (c) => {
  const userns = given(c)
  if (userns?.hasMap !== false) return undefined
  return `the user namespace ${userns.name} has no mapping: its uid_map and gid_map are still empty`
}

const notIdmappable: Cause = (c) => {
  const userns = given(c)
  const unknown = userns && userns.hasMap === undefined
  const type = fileSystemName(whereOf(c.subject.path))
  const orElse = unknown ? `, or the user namespace ${userns.name} has no mapping` : ''
  return `the file system of ${subjectOf(c)}${type} does not support idmapped mounts${orElse}`
}

const attributesOf = (c: Case) => {
  const arg = c.step.args.find((a) => a.kind === 'mount_attr')
  return arg?.kind === 'mount_attr' ? arg.attr : undefined
}

const isIdmap = (c: Case): boolean => ((attributesOf(c)?.set ?? 0) & f.MOUNT_ATTR_IDMAP) !== 0

/** Why a clone with attributes was refused (EINVAL). */
export const notIdmapped: Cause = (c) => {
  if (!isIdmap(c)) return notCloned(c)
  return notUserns(c) ?? noMap(c) ?? notCloned(c) ?? notIdmappable(c)
}

/** Why an idmap is not permitted (EPERM): three causes that the kernel does not tell apart. */
export const idmapNotPermitted: Cause = (c) => {
  if (!isIdmap(c)) {
    return features().initialUserNamespace || !attributesOf(c)?.clear
      ? `a filter (seccomp) or a security module refuses ${c.step.call}`
      : `attributes of the mount of ${subjectOf(c)} are locked in this user namespace`
  }
  const userns = given(c)
  if (userns && linkOf(userns.path) === initialNamespace)
    return `${userns.name} is the initial user namespace`
  if (isIdmapped(c)) return `the mount of ${subjectOf(c)} is idmapped already`
  const where = features().initialUserNamespace ? '' : ', which was not mounted in this user namespace'
  return `no CAP_SYS_ADMIN over the file system of ${subjectOf(c)}${where}`
}
