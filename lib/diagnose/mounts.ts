/**
 * Causes that lie in the mount table: the kernel clones and covers only mounts of the caller's own mount
 * namespace, and clones none that is unbindable. It answers EINVAL for each.
 *
 * A mount is of this namespace if /proc/thread-self/mountinfo lists it by the id that statx tells. In a chroot
 * the table leaves out what is above; then nothing is concluded.
 */
import { readFileSync } from 'node:fs'
import * as f from '../flags.js'
import { features } from '../host/features.js'
import { isBelow } from '../overlay/bytes.js'
import { imageAt, imageNamed, layerSubject } from '../overlay/spec.js'
import type { Subject } from '../program/step.js'
import { type Case, nameOf, pathOf, placeOf, placeOfFd, real, subjectOf } from './causes.js'

interface Listed {
  /** what of its file system is mounted; of a bound namespace its `user:[4026531837]` */
  readonly root: string
  /** where, as the process sees it */
  readonly target: Buffer
  /** id of the mount that it is on */
  readonly parent: bigint
  /** attributes of the mount */
  readonly attributes: readonly string[]
  readonly optional: readonly string[]
}
type Table = ReadonlyMap<bigint, Listed>

/** mountinfo writes space, tab, newline and backslash as `\\040` and the like. */
const unescaped = (text: string) =>
  Buffer.from(
    text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8))),
    'latin1',
  )

/** Mounts by their id; undefined where the table cannot be read, or not in full. */
function mountTable(): Table | undefined {
  let lines: string[]
  try {
    lines = readFileSync('/proc/thread-self/mountinfo', 'latin1').split('\n')
  } catch {
    return undefined
  }
  const table = new Map<bigint, Listed>()
  for (const line of lines) {
    const fields = line.split(' ')
    if (fields.length <= 6) continue
    const optional = fields.slice(6, fields.indexOf('-', 6))
    table.set(BigInt(fields[0]!), {
      root: fields[3]!,
      target: unescaped(fields[4]!),
      parent: BigInt(fields[1]!),
      attributes: fields[5]!.split(','),
      optional,
    })
  }
  const root = placeOf(Buffer.from('/'))
  return root && table.has(root.mountId) ? table : undefined
}

const elsewhere = 'is not in this mount namespace: it belongs to another one, or was unmounted lazily'

function faultOf(mountId: bigint, table: Table): string | undefined {
  const listed = table.get(mountId)
  if (listed === undefined) return elsewhere
  return listed.optional.includes('unbindable') ? 'is unbindable' : undefined
}

/** The root of the mount that a path is on. */
export function mountRootOf(path: Buffer): string | undefined {
  const place = placeOf(path)
  return place && mountTable()?.get(place.mountId)?.root
}

/** The mount that a clone was to be made of. */
export function notCloned(c: Case): string | undefined {
  // mounted by the stack, in no namespace
  if (imageNamed(c.stack, c.subject.option, c.subject.index ?? 0)) return undefined
  const table = mountTable()
  if (table === undefined) return undefined
  const [from] = c.step.args
  // while a stack is in use its fds are open, and show a mount that its path has left
  const kept = c.mount && from?.kind === 'fd' && 'fd' in from.fd ? placeOfFd(from.fd.fd) : undefined
  const place = kept ?? placeOf(whereOf(c.subject.path))
  const fault = place && faultOf(place.mountId, table)
  if (fault) return `the mount of ${subjectOf(c)} ${fault}`
  return place && lockedBelow(c.subject, place.mountId, table)
}

/** The mount of a step's subject is idmapped; kernels before 5.12 have no such attribute. */
export function isIdmapped({ subject }: Case): boolean {
  const place = placeOf(whereOf(subject.path))
  return place !== undefined && mountTable()?.get(place.mountId)?.attributes.includes('idmapped') === true
}

/**
 * Inside a user namespace, mounts that came with the mount namespace are locked: a directory above one is cloned
 * only together with it. Which are locked the table does not tell, so this is said of the first that may be.
 */
function lockedBelow(subject: Subject, mountId: bigint, table: Table): string | undefined {
  if (features().initialUserNamespace) return undefined
  const path = whereOf(subject.path)
  const dir = path && real(path)
  const child = dir && [...table.values()].find((m) => m.parent === mountId && isBelow(dir, m.target))
  if (!child) return undefined
  const name = `${nameOf(subject)}${pathOf(subject)}`
  return `below ${name} is a mount that this user namespace cannot take away${pathOf({ path: child.target })}, and a directory is not cloned without it: that takes CAP_SYS_ADMIN where it was mounted`
}

/** Layers and upper that overlay was to clone the mounts of; idmapped layers lie in trees of ours. */
export function notClonedByOverlay({ stack, mount }: Case): string | undefined {
  const table = mountTable()
  if (table === undefined) return undefined
  const idmapped = (mount?.idmap ?? stack.idmap) !== undefined
  const layers = stack.layers.flatMap((_, i) => (imageAt(stack, i) ? [] : [layerSubject(stack, i)]))
  const all: Subject[] = idmapped ? [] : layers
  if (mount?.upperdir) all.push({ option: 'upperdir', path: mount.upperdir })
  for (const subject of all) {
    const place = placeOf(whereOf(subject.path))
    const fault = place && faultOf(place.mountId, table)
    if (fault) return `the mount of ${nameOf(subject)}${pathOf(subject)} ${fault}`
    const locked = place && lockedBelow(subject, place.mountId, table)
    if (locked) return locked
  }
  return undefined
}

/**
 * A layer given by an fd whose mount has gone: /proc names it relative to that mount, and the directory above it
 * is then looked for where it never was.
 */
export function fdElsewhere({ subject, stack }: Case): string | undefined {
  const index = stack.layers.findIndex((_, i) => {
    const { option, index } = layerSubject(stack, i)
    return option === subject.option && index === subject.index
  })
  const layer = stack.layers[index]
  const place = layer && 'fd' in layer ? placeOfFd(layer.fd) : undefined
  if (place === undefined || mountTable()?.has(place.mountId) !== false) return undefined
  return `the mount of ${nameOf(subject)}${pathOf(layerSubject(stack, index))} ${elsewhere}`
}

/** What is attached goes onto a mount of the own namespace. */
export function targetElsewhere({ subject, mount }: Case): string | undefined {
  if (mount?.inside) return undefined
  const path = subject.option === 'target' ? whereOf(subject.path) : mount?.target
  const place = placeOf(path, f.AT_SYMLINK_NOFOLLOW)
  const table = place && mountTable()
  if (!table || table.has(place.mountId)) return undefined
  return `the mount of target${pathOf({ path })} ${elsewhere}`
}

/** Where the subject of a step is: its path, or the name of its fd. */
export function whereOf(path: Uint8Array | string | undefined): Buffer | undefined {
  if (typeof path !== 'string') return path && Buffer.from(path)
  return Buffer.from(path.replace(/^fd /, '/proc/self/fd/'))
}
