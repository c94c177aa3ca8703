/**
 * Causes of failures inside another mount namespace. Only what the call answered is looked at: from here, that
 * namespace's directories cannot be seen, and its /proc is not to be trusted.
 */
import { features } from '../host/features.js'
import { missing } from '../overlay/choose.js'
import { type Case, subjectOf } from './causes.js'

export const namespaceGone = (c: Case): string =>
  `${subjectOf(c)} cannot be opened: the process has ended, or the fd is closed`
export const namespaceForbidden = (c: Case): string =>
  `${subjectOf(c)} may not be opened: it takes CAP_SYS_PTRACE over that process`
export const notANamespace = (): string => 'target.mountNamespace is no mount namespace, and no pidfd'
export const processEnded = (): string => 'the process of target.mountNamespace has ended'
export const mayNotEnter = (): string =>
  missing(features(), ['mountNamespaces']) ??
  'entering target.mountNamespace takes CAP_SYS_ADMIN over the user namespace that owns it, and CAP_SYS_ADMIN and CAP_SYS_CHROOT in the own one'

export const missingThere = (c: Case): string => `${subjectOf(c)} does not exist in that mount namespace`
export const linkThere = (c: Case): string =>
  `a symbolic link is in ${subjectOf(c)}, and none is followed in another mount namespace`
export const noDirectoryThere = (c: Case): string =>
  `${subjectOf(c)} is not a directory in that mount namespace`
export const forbiddenThere = (c: Case): string => `no permission for ${subjectOf(c)} in that mount namespace`
export const noServer = (c: Case): string =>
  `a file system on the way to ${subjectOf(c)} in that mount namespace has no server any more`
export const leftMeanwhile = (c: Case): string =>
  `${subjectOf(c)} was removed or unmounted in that mount namespace meanwhile`
