/**
 * Causes of failed mounts, a function each: looks at the directories of the spec as they are now and answers
 * a sentence if it is the one. They read and change nothing.
 */
import { constants, existsSync, readFileSync, realpathSync, statfsSync } from 'node:fs'
import { binding } from '../binding.js'
import type { MountError } from '../errors.js'
import * as f from '../flags.js'
import { features } from '../host/features.js'
import { selinuxOptions } from '../host/overlay-options.js'
import { isBelow, splitLast } from '../overlay/bytes.js'
import type { FileSource } from '../overlay/image-spec.js'
import { earlierConflicts, takesTrusted } from '../overlay/option-table.js'
import { conflictOf, findAny, showOption } from '../overlay/options.js'
import { imageAt, layerSubject, type MountSpec, type StackSpec } from '../overlay/spec.js'
import { renderText, shownInErrors } from '../program/explain.js'
import { type Step, type Subject, statxField } from '../program/step.js'

export interface Case {
  readonly error: MountError
  readonly step: Step
  readonly subject: Subject
  readonly stack: StackSpec
  readonly mount: MountSpec | undefined
}

/** A cause: the hint if it is the one. */
export type Cause = (c: Case) => string | undefined

const OVERLAY_MAGIC = 0x794c7630

/** `lowerdir[3]`, `upperdir`, `options.index` */
export const nameOf = ({ option, index }: Subject) => (index === undefined ? option : `${option}[${index}]`)
/** ` ("/layers/4/fs")` */
export const pathOf = ({ path }: Pick<Subject, 'path'>) =>
  path === undefined ? '' : ` (${renderText(path, shownInErrors)})`
export const subjectOf = (c: Case) => `${nameOf(c.subject)}${pathOf(c.subject)}`

export function readNumber(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    return 'unknown'
  }
}

export function usernsLimit(): string {
  return `the limit of user namespaces is reached (user.max_user_namespaces, ${readNumber('/proc/sys/user/max_user_namespaces')})`
}

/** A path in the kernel's view. What `create` made is gone by now: then it is where it would be made again. */
export function real(path: Uint8Array | string): Buffer | undefined {
  try {
    return realpathSync.native(path as string, 'buffer')
  } catch {
    const above = splitLast(Buffer.from(path as Uint8Array))
    const parent = above && real(above.parent)
    return above && parent && Buffer.concat([parent, Buffer.from('/'), above.name])
  }
}

interface Place {
  readonly dev: bigint
  readonly ino: bigint
  readonly mountId: bigint
}

export function placeOf(path: Uint8Array | undefined, flags = 0): Place | undefined {
  return path && statxPlace(f.AT_FDCWD, path, flags)
}

export const placeOfFd = (fd: number) => statxPlace(fd, Buffer.alloc(0), f.AT_EMPTY_PATH)

function statxPlace(dirFd: number, path: Uint8Array, flags: number): Place | undefined {
  const buffer = Buffer.alloc(256)
  const bytes = Buffer.concat([path, Buffer.of(0)])
  if (binding.statx(dirFd, bytes, flags, f.STATX_INO | f.STATX_MNT_ID, buffer) < 0) return undefined
  const read = (field: { offset: number }) => buffer.readBigUInt64LE(field.offset)
  return { dev: read(statxField.dev), ino: read(statxField.ino), mountId: read(statxField.mountId) }
}

/** Of a directory that is gone: the place of what is above it. */
function placeAbove(path: Uint8Array): Place | undefined {
  const above = splitLast(path)
  return placeOf(path) ?? (above && placeAbove(above.parent))
}

function fileSystemOf(path: Uint8Array | undefined): number | undefined {
  try {
    return path && Number(statfsSync(path as Buffer).type)
  } catch {
    return undefined
  }
}

/** Where a layer is: its path, or the name of its fd. */
function layerPath(stack: StackSpec, index: number): Buffer {
  const layer = stack.layers[index]!
  return fileName('image' in layer ? layer.image : layer)
}

export const fileName = (file: FileSource): Buffer =>
  'path' in file ? file.path : Buffer.from(`/proc/self/fd/${file.fd}`)

const layerNames = (stack: StackSpec) =>
  stack.layers.map((_, i) => ({ name: nameOf(layerSubject(stack, i)), path: layerPath(stack, i) }))

export function notDirectory(c: Case): string {
  return `${subjectOf(c)}, or something above it, is not a directory`
}

/** ` (overlay)`, ` (type 0x1021994)` */
export function fileSystemName(path: Uint8Array | undefined): string {
  const type = fileSystemOf(path)
  if (type === undefined) return ''
  return type === OVERLAY_MAGIC ? ' (overlay)' : ` (type 0x${type.toString(16)})`
}

/** A name is too long, or a part of it. */
export function tooLong({ subject }: Case): string | undefined {
  if (subject.path === undefined) return undefined
  const bytes = Buffer.byteLength(subject.path)
  return `${nameOf(subject)} is a path of ${bytes} bytes: the kernel takes at most 4095, and 255 for each name in it`
}

/** Fds are named through /proc: by rung classic, where the context takes no fds, and to open one anew. */
export function noProc({ step }: Case): string | undefined {
  const named = step.args.some(
    (arg) => arg.kind === 'text' && /^"\/proc\/self\/fd\b/.test(renderText(arg.text)),
  )
  if (!named || existsSync('/proc/self/fd')) return undefined
  return 'fds are named through /proc, which is not mounted here'
}

export function unknownToKernel(c: Case): string | undefined {
  if (selinuxOptions.some((name) => c.subject.option === `options.${name}`)) {
    return `SELinux does not know the context in ${nameOf(c.subject)}, or is not enabled`
  }
  if (c.error.log.length > 0 && !c.error.log.some((line) => /unknown parameter/i.test(line))) return undefined
  return `this kernel's overlay does not know ${nameOf(c.subject)}`
}

/** What kernels before 6.16 refuse at CREATE without a word; what all refuse is refused before. */
export function conflictingOptions({ stack, mount }: Case): string | undefined {
  const list = mount?.options.list ?? []
  const pair = conflictOf(list, earlierConflicts, mount?.upperdir !== undefined)
  if (pair)
    return `options.${showOption(pair[0])} and options.${showOption(pair[1])} exclude each other before Linux 6.16`
  if (stack.dataLayers === 0 || list.some(({ key, value }) => key === 'metacopy' && value === 'on'))
    return undefined
  return "datadir needs options.metacopy: 'on' before Linux 6.16"
}

/** Of a kernel that could not be asked before. */
export function perhapsUnknown({ mount }: Case): string | undefined {
  const list = mount?.options.list ?? []
  if (list.length === 0 || features().overlayOptions !== false) return undefined
  return `perhaps this kernel's overlay does not know one of options.${list.map(showOption).join(', options.')}`
}

/** Options that the kernel grants only with CAP_SYS_ADMIN of the machine: they keep their marks in trusted.*. */
export function needsTrusted({ stack, mount }: Case): string | undefined {
  const list = mount?.options.list ?? []
  const asked = findAny(list, [...takesTrusted, ['verity', 'on', 'require']])
  if (asked) return `options.${showOption(asked)} is not allowed inside a user namespace`
  if (stack.dataLayers === 0 || mount?.options.userxattr !== false) return undefined
  return 'datadir is not allowed inside a user namespace without options.userxattr'
}

/** Where nothing else explains it. */
export const refused = ({ step, error }: Pick<Case, 'step' | 'error'>): string =>
  error.code === 'ENOSYS'
    ? `this kernel has no ${step.call}, or a filter (seccomp) hides it`
    : `a filter (seccomp) or a security module refuses ${step.call}`

export const mayNotAttach = (found: Case): string =>
  features().mayMount ? refused(found) : 'CAP_SYS_ADMIN is missing here'

export function mayNotMount({ step }: Case): string {
  if (!features().mayMount) return 'CAP_SYS_ADMIN is missing here'
  return `CAP_SYS_ADMIN is missing over the mount of a layer, or a filter (seccomp) or a security module refuses ${step.call}`
}

export function workInsideUpper({ mount }: Case): string | undefined {
  const upper = mount?.upperdir && real(mount.upperdir)
  const work = mount?.workdir && real(mount.workdir)
  if (!upper || !work) return undefined
  if (upper.equals(work)) return 'workdir and upperdir are the same directory'
  if (isBelow(upper, work)) return 'workdir lies inside upperdir; it must be beside it'
  if (isBelow(work, upper)) return 'upperdir lies inside workdir; it must be beside it'
  return undefined
}

export function otherMounts({ mount }: Pick<Case, 'mount'>): string | undefined {
  const upper = mount?.upperdir && placeAbove(mount.upperdir)
  const work = mount?.workdir && placeAbove(mount.workdir)
  if (!upper || !work || upper.mountId === work.mountId) return undefined
  return 'workdir and upperdir are on different mounts'
}

export function volatileMark({ mount }: Case): string | undefined {
  if (!mount?.workdir) return undefined
  if (!existsSync(Buffer.concat([mount.workdir, Buffer.from('/work/incompat/volatile')]))) return undefined
  return mount.options.volatile
    ? "an earlier volatile mount left its mark in workdir: the upper may be torn. volatile: 'reset' removes the mark"
    : "workdir was used by a volatile mount: the upper may be torn. Take new directories, or volatile: 'reset'"
}

export function overlap({ stack, mount }: Case): string | undefined {
  const all = layerNames(stack)
  if (mount?.upperdir) all.push({ name: 'upperdir', path: mount.upperdir })
  if (mount?.workdir) all.push({ name: 'workdir', path: mount.workdir })
  const places = all.map(({ name, path }, i) => {
    // an image lies in no directory but its own
    return { name, place: placeOf(path), real: imageAt(stack, i) ? undefined : real(path) }
  })
  for (let i = 0; i < places.length; i++) {
    for (let j = i + 1; j < places.length; j++) {
      const [a, b] = [places[i]!, places[j]!]
      if (a.place && b.place && a.place.ino === b.place.ino && a.place.dev === b.place.dev) {
        return `${a.name} and ${b.name} are the same directory`
      }
      if (!a.real || !b.real) continue
      if (isBelow(a.real, b.real)) return `${b.name} lies inside ${a.name}`
      if (isBelow(b.real, a.real)) return `${a.name} lies inside ${b.name}`
    }
  }
  return undefined
}

const ST_RDONLY = 1

export function readOnlyMount({ mount }: Case): string | undefined {
  if (!mount?.upperdir) return undefined
  const numbers = new BigInt64Array(11)
  const path = Buffer.concat([mount.upperdir, Buffer.of(0)])
  if (binding.statfs(path, numbers) < 0 || (Number(numbers[10]) & ST_RDONLY) === 0) return undefined
  return 'upperdir is on a read-only mount'
}

/** So little that a directory more may not have found room; what `create` made is gone again by now. */
const few = { inodes: 8, bytes: 64 * 1024 }

/** What the upper's file system has left, if that is little. Some count no inodes: then they say 0 of 0. */
export function fullUpper({ mount }: Pick<Case, 'mount'>): string | undefined {
  const there = mount?.upperdir && nearest(mount.upperdir)
  if (there === undefined) return undefined
  const { bavail, bsize, files, ffree } = statfsSync(there)
  const hasInodes = files === 0 || ffree > few.inodes
  if (bavail * bsize > few.bytes && hasInodes) return undefined
  return `the file system of upperdir is full (${bavail} blocks and ${ffree} inodes are free)`
}

/** The path, or the nearest directory above it that is there. */
function nearest(path: Buffer): Buffer | undefined {
  const above = splitLast(path)
  return existsSync(path) ? path : above && nearest(Buffer.from(above.parent))
}

export function onOverlay({ mount }: Case): string | undefined {
  if (fileSystemOf(mount?.upperdir) !== OVERLAY_MAGIC) return undefined
  return 'upperdir is on an overlay file system, which cannot be an upper'
}

export function tooDeep({ stack }: Case): string | undefined {
  const nested = layerNames(stack).find(
    ({ path }, i) => !imageAt(stack, i) && fileSystemOf(path) === OVERLAY_MAGIC,
  )
  return nested && `${nested.name} is on an overlay file system, and the kernel stacks at most two`
}

export function targetIsLink({ subject }: Case): string | undefined {
  if (subject.option !== 'target' || subject.path === undefined) return undefined
  const type = typeOf(subject.path, f.AT_SYMLINK_NOFOLLOW)
  return type === S_IFLNK ? 'target is a symbolic link, which is not followed' : undefined
}

export function targetNotDirectory({ subject }: Case): string | undefined {
  const type = subject.path === undefined ? undefined : typeOf(subject.path, 0)
  return type === undefined || type === S_IFDIR ? undefined : 'target is not a directory'
}

const { S_IFMT, S_IFLNK, S_IFDIR } = constants

function typeOf(path: Uint8Array | string, flags: number): number | undefined {
  const buffer = Buffer.alloc(256)
  const bytes = Buffer.concat([Buffer.from(path as Uint8Array), Buffer.of(0)])
  if (binding.statx(f.AT_FDCWD, bytes, flags, f.STATX_TYPE, buffer) < 0) return undefined
  return buffer.readUInt16LE(statxField.mode.offset) & S_IFMT
}
