/**
 * Looks for the cause of a failed mount, after the failure and only then.
 *
 * The kernel keeps most of overlay's reasons to itself (its log takes a privilege to read and names no mount).
 * So the usual causes are looked at here, in a table by failing call and errno; the first that is found
 * becomes the error's hint, with the layer's index, the two directories or the option by name. What is found
 * is what is there now: that is why it is called a hint.
 */

import * as cause from './diagnose/causes.js'
import { type Case, type Cause, nameOf, subjectOf } from './diagnose/causes.js'
import { idmapNotPermitted, notIdmapped } from './diagnose/idmap.js'
import * as image from './diagnose/images.js'
import * as inside from './diagnose/inside.js'
import { fdElsewhere, notClonedByOverlay, targetElsewhere } from './diagnose/mounts.js'
import { MountError, refine } from './errors.js'
import { processLimit } from './exhausted.js'
import type { MountSpec, StackSpec } from './overlay/spec.js'
import { failedStep } from './program/outcome.js'

interface Row {
  readonly calls: readonly string[]
  readonly codes: readonly string[]
  /** the option the step is about; any if left out */
  readonly about?: RegExp
  readonly causes: readonly Cause[]
}

const directory = /^(lowerdir|datadir|upperdir|workdir|target|create|source)$/
const layer = /^(lowerdir|datadir)$/
const namespace = /^target\.mountNamespace$/
const there = /^target\.path$/

const table: readonly Row[] = [
  // an image as a layer, while it is being mounted: other causes of these answer nothing
  { calls: ['openat'], codes: ['ENOENT'], causes: [image.noSuchFile] },
  { calls: ['openat', 'fsopen', 'fsconfig'], codes: ['EACCES', 'EPERM'], causes: [image.noPermission] },
  { calls: ['fsconfig'], codes: ['EINVAL', 'EIO', 'ENXIO'], causes: [image.notAnImage] },
  { calls: ['fsconfig'], codes: ['EUCLEAN', 'EBADMSG'], causes: [image.corruptedImage] },
  { calls: ['fsconfig'], codes: ['EOPNOTSUPP'], causes: [image.unsupportedImage] },
  { calls: ['fsconfig'], codes: ['ENOTBLK'], causes: [image.noBackingFile] },
  {
    calls: ['chdir', 'openat', 'fsconfig', 'fchmodat', 'lsetxattr'],
    codes: ['ENOENT'],
    causes: [cause.noProc],
  },
  {
    calls: ['openat', 'openat2', 'mkdirat', 'move_mount', 'fsconfig', 'statx'],
    codes: ['ENAMETOOLONG'],
    causes: [cause.tooLong],
  },
  { calls: ['openat'], codes: ['ENOENT', 'ESRCH'], about: namespace, causes: [inside.namespaceGone] },
  { calls: ['openat'], codes: ['EACCES', 'EPERM'], about: namespace, causes: [inside.namespaceForbidden] },
  { calls: ['setns'], codes: ['EINVAL'], causes: [inside.notANamespace] },
  { calls: ['setns'], codes: ['ESRCH'], causes: [inside.processEnded] },
  { calls: ['setns'], codes: ['EPERM'], causes: [inside.mayNotEnter] },
  { calls: ['openat2', 'mkdirat'], codes: ['ENOENT'], about: there, causes: [inside.missingThere] },
  { calls: ['openat2'], codes: ['ELOOP'], about: there, causes: [inside.linkThere] },
  { calls: ['openat2', 'mkdirat'], codes: ['ENOTCONN'], about: there, causes: [inside.noServer] },
  { calls: ['openat2', 'mkdirat'], codes: ['ENOTDIR'], about: there, causes: [inside.noDirectoryThere] },
  {
    calls: ['openat2', 'mkdirat'],
    codes: ['EACCES', 'EPERM'],
    about: there,
    causes: [inside.forbiddenThere],
  },
  { calls: ['move_mount'], codes: ['ENOENT', 'EINVAL'], about: there, causes: [inside.leftMeanwhile] },
  { calls: ['openat2'], codes: ['ENOENT'], about: /^(upper|work)dir$/, causes: [cause.otherMounts] },
  {
    calls: ['openat2', 'statx', 'fsconfig'],
    codes: ['ELOOP'],
    about: directory,
    causes: [(c) => `a symbolic link is in ${subjectOf(c)}, where none is followed: give the real path`],
  },
  {
    calls: ['openat', 'openat2', 'mkdirat', 'move_mount', 'fsconfig', 'statx', 'open_tree', 'open_tree_attr'],
    codes: ['ENOENT'],
    about: directory,
    causes: [fdElsewhere, (c) => `${subjectOf(c)} does not exist`],
  },
  {
    calls: ['openat', 'openat2', 'mkdirat', 'move_mount', 'fsconfig', 'statx'],
    codes: ['ENOTDIR'],
    about: directory,
    causes: [cause.targetIsLink, image.isBareImage, cause.notDirectory],
  },
  // of an fd, or of a name in it: no kernel refuses that
  { calls: ['statx'], codes: ['EPERM'], causes: [cause.refused] },
  {
    calls: ['openat', 'openat2', 'mkdirat', 'fchownat', 'statx'],
    codes: ['EACCES', 'EPERM'],
    about: directory,
    causes: [(c) => `no permission for ${subjectOf(c)}`],
  },
  {
    calls: ['openat'],
    codes: ['EBADF'],
    about: layer,
    causes: [(c) => `${subjectOf(c)} is not an open fd of a directory`],
  },
  {
    calls: ['open_tree', 'open_tree_attr', 'statx', 'fstatfs'],
    codes: ['EBADF'],
    about: /^source$/,
    causes: [(c) => `${subjectOf(c)} is not an open fd`],
  },
  {
    calls: ['openat'],
    codes: ['ENOENT', 'EACCES', 'EPERM'],
    about: /^idmap$/,
    causes: [(c) => `the user namespace ${subjectOf(c)} cannot be opened`],
  },
  { calls: ['userns'], codes: ['EAGAIN'], causes: [() => processLimit] },
  { calls: ['userns'], codes: ['ENOSPC', 'EUSERS'], causes: [cause.usernsLimit] },
  {
    calls: ['userns'],
    codes: ['ENOSYS'],
    causes: [
      () =>
        'a filter (seccomp) hides clone(CLONE_NEWUSER): idmap.userns takes a user namespace that is there',
    ],
  },
  {
    calls: ['userns'],
    codes: ['EPERM'],
    causes: [
      () =>
        'this process may not make a user namespace with such a mapping: its outside ids must be mapped here, it takes CAP_SETUID and CAP_SETGID, and user namespaces must be allowed, by a filter (seccomp) too; idmap.userns takes one that is there',
    ],
  },
  {
    calls: ['userns'],
    codes: ['EINVAL'],
    causes: [
      () =>
        'the kernel refuses the mapping: its outside ids must be mapped in the user namespace of this process',
    ],
  },
  {
    calls: ['userns'],
    codes: ['ENOENT'],
    causes: [() => 'a user namespace is made through /proc, which is not mounted here'],
  },
  {
    calls: ['open_tree', 'open_tree_attr', 'mount_setattr'],
    codes: ['EINVAL'],
    about: /^(lowerdir|datadir|upperdir|source)$/,
    causes: [notIdmapped],
  },
  {
    calls: ['open_tree_attr', 'mount_setattr', 'open_tree'],
    codes: ['EPERM'],
    causes: [idmapNotPermitted],
  },
  { calls: ['fsconfig'], codes: ['EINVAL'], about: /^options\./, causes: [cause.unknownToKernel] },
  {
    calls: ['fsconfig'],
    codes: ['EINVAL'],
    about: /^checkUpper$/,
    causes: [() => 'checkUpper needs /proc to be mounted writable'],
  },
  {
    calls: ['fsconfig'],
    codes: ['EPERM'],
    about: /^options\./,
    causes: [(c) => `${nameOf(c.subject)} is not allowed inside a user namespace`],
  },
  {
    calls: ['fsconfig'],
    codes: ['EINVAL'],
    about: /^(upperdir|workdir)$/,
    causes: [cause.readOnlyMount, cause.onOverlay],
  },
  { calls: ['fsconfig', 'mount'], codes: ['ELOOP'], causes: [cause.overlap] },
  { calls: ['move_mount', 'mount'], codes: ['EINVAL'], causes: [targetElsewhere] },
  {
    calls: ['fsconfig', 'mount'],
    codes: ['EBUSY'],
    causes: [
      () =>
        'upperdir or workdir is in use by another overlay, perhaps one that was unmounted lazily and still has open files',
    ],
  },
  {
    calls: ['fsconfig', 'mount'],
    codes: ['ESTALE'],
    causes: [() => 'upperdir was used with other lower layers before, and index or nfs_export is on'],
  },
  {
    calls: ['fsconfig', 'mount'],
    codes: ['EINVAL'],
    causes: [
      cause.workInsideUpper,
      cause.otherMounts,
      cause.volatileMark,
      cause.overlap,
      cause.readOnlyMount,
      cause.onOverlay,
      notClonedByOverlay,
      cause.tooDeep,
      cause.perhapsUnknown,
      cause.conflictingOptions,
    ],
  },
  {
    calls: ['fsconfig', 'mount', 'fsopen'],
    codes: ['EPERM'],
    causes: [cause.needsTrusted, cause.mayNotMount],
  },
  // asked for nothing but the right to mount, which was there when a mount was made
  { calls: ['move_mount', 'fsmount'], codes: ['EPERM'], causes: [cause.mayNotAttach] },
  { calls: ['fsopen', 'mount'], codes: ['ENODEV'], causes: [() => 'this kernel has no overlay file system'] },
  {
    calls: ['move_mount', 'mount', 'openat'],
    codes: ['EINVAL', 'ELOOP'],
    about: /^target$/,
    causes: [cause.targetIsLink, cause.targetNotDirectory],
  },
  // mount(2) makes the work directory too
  { calls: ['mount'], codes: ['ENOSPC'], causes: [cause.fullUpper] },
  {
    calls: ['move_mount', 'mount'],
    codes: ['ENOSPC'],
    causes: [
      () =>
        `the mount namespace, or one that its mounts are copied to, is full (fs.mount-max, ${cause.readNumber('/proc/sys/fs/mount-max')})`,
    ],
  },
  {
    calls: ['lsetxattr', 'fsconfig', 'mkdirat'],
    codes: ['ENOSPC'],
    causes: [cause.fullUpper, () => 'the file system of upperdir is full'],
  },
  {
    calls: ['lsetxattr', 'fsconfig', 'mkdirat', 'mount'],
    codes: ['EDQUOT'],
    causes: [() => 'a disk quota that upperdir counts for is used up'],
  },
  {
    calls: ['mkdirat', 'fchownat', 'fchmodat', 'lsetxattr'],
    codes: ['EROFS'],
    causes: [(c) => `the file system of ${subjectOf(c)} is read-only`],
  },
]

/** The same for a step that has nothing to do with layers, such as a later attach. */
export function diagnoseAttach(error: unknown): unknown {
  const noLayers = { layers: [], dataLayers: 0, idmap: undefined }
  return error instanceof MountError ? diagnose(error, noLayers, undefined) : error
}

/** The error with a hint, if a cause is found; else as it was. */
export function diagnose(error: MountError, stack: StackSpec, mount: MountSpec | undefined): MountError {
  const step = failedStep(error)
  if (step === undefined || error.hint !== undefined) return error
  const subject = step.subject ?? { option: '' }
  const found: Case = { error, step, subject, stack, mount }
  for (const { calls, codes, about, causes } of table) {
    if (!calls.includes(step.call) || !codes.includes(error.code)) continue
    if (about && !about.test(subject.option)) continue
    for (const find of causes) {
      const hint = find(found)
      if (hint !== undefined) return refine(error, { hint })
    }
  }
  return error.code === 'ENOSYS' ? refine(error, { hint: cause.refused(found) }) : error
}
