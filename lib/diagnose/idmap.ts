/**
 * Causes of an idmap that the kernel refuses (EINVAL), in order: what was given is no user namespace, it has no
 * mapping, the mount cannot be cloned; if it is none of them it is the file system, which cannot be asked.
 */
import { closeSync, openSync, readlinkSync } from 'node:fs'
import * as f from '../flags.js'
import { extentsOf, isMapped } from '../idmap.js'
import { type Case, type Cause, fileSystemName, pathOf, subjectOf } from './causes.js'
import { mountRootOf, notCloned, whereOf } from './mounts.js'

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

/** Why a clone with attributes was refused. */
export const notIdmapped: Cause = (c) => {
  const arg = c.step.args.find((a) => a.kind === 'mount_attr')
  const idmaps = arg?.kind === 'mount_attr' && (arg.attr.set & f.MOUNT_ATTR_IDMAP) !== 0
  if (!idmaps) return notCloned(c)
  return notUserns(c) ?? noMap(c) ?? notCloned(c) ?? notIdmappable(c)
}
