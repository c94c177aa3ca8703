/**
 * Whether a mount that was attached once is still there, wherever it is by now: it may have been moved, or be
 * covered by another.
 *
 *   statmount(2)   Linux 6.8, by the unique id; ENOENT means gone
 *   mountinfo      before that, or where a filter refuses the call: an overlay's line with its device, and its
 *                  id if that is one of mountinfo's. Both are used again, so the answer may be yes too often
 *
 * Another mount namespace than the caller's cannot be looked into: what is attached there counts as there.
 */
import { readFileSync } from 'node:fs'
import { binding } from '../binding.js'

/** Where a mount is, if it is attached. */
export interface Whereabouts {
  target: Buffer | undefined
  /** inode of the mount namespace it was attached in */
  namespace: number
  readonly mountId: bigint
  readonly dev: bigint
  /** called when it has been attached later */
  attached?: () => void
}

export type AttachedMount = Pick<Whereabouts, 'namespace' | 'mountId' | 'dev'>

const ENOENT = 2
const statmountBuffer = Buffer.alloc(512)

/** One look at the mounts of now: what it reads, it reads once. */
export class MountLook {
  readonly #namespace = binding.mountNamespace()
  readonly #unique: boolean
  readonly #mountinfo: () => Buffer
  readonly #statmount: (mountId: bigint) => number
  #overlays: Set<string> | undefined

  /**
   * @param unique whether mount ids are the unique ones
   * @param mountinfo what to read when ids cannot be asked for; throws without /proc
   */
  constructor(
    unique: boolean,
    mountinfo = () => readFileSync('/proc/thread-self/mountinfo'),
    statmount = (mountId: bigint) => binding.statmount(mountId, 0n, statmountBuffer),
  ) {
    this.#unique = unique
    this.#mountinfo = mountinfo
    this.#statmount = statmount
  }

  sees({ namespace, mountId, dev }: AttachedMount): boolean {
    if (namespace !== this.#namespace) return true
    if (this.#unique) {
      const result = this.#statmount(mountId)
      if (result === 0 || result === -ENOENT) return result === 0
    }
    try {
      this.#overlays ??= parseOverlays(this.#mountinfo().toString('latin1'))
    } catch {
      return true
    }
    const device = `${dev & 0xffff_ffffn}:${dev >> 32n}`
    return this.#overlays.has(this.#unique ? device : `${mountId} ${device}`)
  }
}

/** Of each overlay `major:minor` and `id major:minor`. */
function parseOverlays(mountinfo: string): Set<string> {
  const found = new Set<string>()
  for (const line of mountinfo.split('\n')) {
    if (!line.includes(' - overlay ')) continue
    const [id, , device] = line.split(' ')
    found.add(`${device}`).add(`${id} ${device}`)
  }
  return found
}
