/** Options of what is done to a mount that is there, checked. */
import { invalidArgType, invalidArgValue } from '../errors.js'
import { type Propagation, parsePropagation } from '../overlay/attributes.js'
import { checkKeys } from '../overlay/call-options.js'
import {
  type InsideBytes,
  insideOf,
  isPathAlone,
  type NamespaceTarget,
  parseTarget as parseNamespaceTarget,
} from '../overlay/inside.js'
import type { UnmountWay } from '../overlay/reap.js'
import type { PathLike } from '../path.js'
import type { Attachment } from './attach.js'
import { type Below, parseTarget } from './place.js'

/** How `unmount` does it: umount2(2). */
export interface UnmountOptions {
  /**
   * `true` (default): the mount leaves the namespace at once, and its superblock goes when nothing uses it any
   * more (MNT_DETACH). `false`: EBUSY while something uses it.
   */
  lazy?: boolean
  /**
   * When it resolves. `'namespace'` (default): when the mount has left the mount namespace; the superblock is
   * taken down behind it, which takes a grace period and, without `volatile`, a sync of the upper's whole file
   * system. `'teardown'`: when the superblock is gone, however long an open file, a working directory or a copy in
   * another mount namespace keeps it; at once where the mount was unmounted before.
   */
  wait?: 'namespace' | 'teardown'
}

/** Of `attach`. */
export interface AttachOptions {
  /** set after the attach: below a shared parent, copies have reached its peers by then */
  propagation?: Propagation
  /**
   * beneath the mount that is at the target (MOVE_MOUNT_BENEATH): it shows when that one is unmounted, and nobody sees
   * the target without a mount. Since Linux 6.5
   */
  beneath?: boolean
}

/** Of `setAttributes` and `setPropagation`. */
export interface ChangeOptions {
  /** the mounts below too (AT_RECURSIVE): all of them or, if one refuses, none. Default: `false` */
  recursive?: boolean
}

/** An attach in another mount namespace. */
export interface ElsewhereAttachment {
  readonly path: Buffer
  readonly inside: InsideBytes
  readonly propagation: number | undefined
}

function parseOptions(options: AttachOptions): { propagation: number | undefined; beneath: boolean } {
  const { propagation, beneath = false } = checkKeys(options, 'options', ['propagation', 'beneath'])
  if (typeof beneath !== 'boolean') throw invalidArgType('options.beneath', 'boolean', beneath)
  return { propagation: parsePropagation(propagation, 'options.propagation'), beneath }
}

/** Checks the arguments of `attach` in the own mount namespace. */
export function parseAttach(target: PathLike | Below | NamespaceTarget, options: AttachOptions): Attachment {
  if (!isPathAlone(target)) return parseMove(target as PathLike | Below, options)
  const { path } = checkKeys(target, 'target', ['path'])
  return { ...parseOptions(options), spot: parseTarget(path, 'target.path'), recursive: false }
}

/** Checks the arguments of `moveTo`. */
export function parseMove(target: PathLike | Below, options: AttachOptions): Attachment {
  const spot = parseTarget(target, 'target')
  return { ...parseOptions(options), spot, recursive: false }
}

/** Checks the arguments of an `attach` in another mount namespace. */
export function parseElsewhere(target: NamespaceTarget, options: AttachOptions): ElsewhereAttachment {
  const { target: path, namespace } = parseNamespaceTarget(target, 'target')
  const { propagation, beneath } = parseOptions(options)
  if (beneath) {
    throw invalidArgValue('options.beneath', beneath, 'is for a target in the own mount namespace')
  }
  return { path, inside: insideOf(path, namespace!), propagation }
}

/** Checks the options of a change. */
export function parseRecursive(options: ChangeOptions): boolean {
  const { recursive = false } = checkKeys(options, 'options', ['recursive'])
  if (typeof recursive !== 'boolean') throw invalidArgType('options.recursive', 'boolean', recursive)
  return recursive
}

/** Checks the options of `unmount`. */
export function parseWay(options: UnmountOptions): UnmountWay {
  const { lazy = true, wait = 'namespace' } = checkKeys(options, 'options', ['lazy', 'wait'])
  if (typeof lazy !== 'boolean') throw invalidArgType('options.lazy', 'boolean', lazy)
  if (wait !== 'namespace' && wait !== 'teardown') {
    throw invalidArgValue('options.wait', wait, "must be one of 'namespace', 'teardown'")
  }
  return { lazy, early: wait === 'namespace' }
}
