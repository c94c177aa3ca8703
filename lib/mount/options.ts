/** Options of what is done to a mount that is there, checked. */
import { invalidArgType, invalidArgValue } from '../errors.js'
import type { Propagation } from '../overlay/attributes.js'
import { checkKeys } from '../overlay/call-options.js'
import type { UnmountWay } from '../overlay/reap.js'

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
   * another mount namespace keeps it.
   */
  wait?: 'namespace' | 'teardown'
}

/** Of `attach`. */
export interface AttachOptions {
  /** set after the attach: below a shared parent, copies have reached its peers by then */
  propagation?: Propagation
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
