/**
 * Whether a mount that was attached once is still there, wherever it is by now: it may have been moved, or be
 * covered by another.
 *
 *   statmount(2)   Linux 6.8, by the unique id; ENOENT means gone
 *   mountinfo      before that, or where a filter refuses the call: an overlay's line with its device, and its
 *                  id if that is one of mountinfo's. Both are used again, so the answer may be yes too often
 *
 * Another mount namespace than the caller's can be looked into if its own id is known (Linux 6.11: of one that a mount
 * was attached inside); else what is attached there counts as there.
 */
import { closeSync, openSync, readFileSync } from 'node:fs'
import { binding } from '../binding.js'
import { readingIfThere } from '../exhausted.js'

/** A mount as it was when it was attached. */
export interface AttachedMount {
  /** number of the mount namespace it was attached in */
  readonly namespace: number
  readonly mountId: bigint
  readonly dev: bigint
}

// the addon numbers them too, for results that nobody is there to take
const { firstElsewhere } = binding

/** The number of a namespace that an fd is of, and that the caller is not in: by its own id, which is never
 * used again (Linux 6.11; before, all of them have one number). */
export function numberOf(namespaceFd: number): number {
  const id = binding.mountNamespaceId(namespaceFd)
  return firstElsewhere + Math.max(0, id)
}

/** Whether such a number is that of the caller's own namespace: of a mount that was attached by way of its fd. */
export function isOwnNamespace(namespace: number): boolean {
  if (namespace <= firstElsewhere) return false
  const path = '/proc/thread-self/ns/mnt'
  const fd = readingIfThere(path, () => openSync(path, 'r'))
  // without /proc it cannot be told
  if (fd === undefined) return false
  try {
    return numberOf(fd) === namespace
  } finally {
    closeSync(fd)
  }
}

/** The id of the namespace with such a number; undefined if it is not known. */
const namespaceIdOf = (namespace: number): bigint | undefined =>
  namespace > firstElsewhere ? BigInt(namespace - firstElsewhere) : undefined

const ENOENT = 2
const statmountBuffer = Buffer.alloc(512)

/** One look at the mounts of now: what it reads, it reads once. */
export class MountLook {
  readonly #namespace = binding.mountNamespace()
  readonly #unique: boolean
  readonly #mountinfo: () => Buffer
  readonly #statmount: (mountId: bigint) => number
  #overlays: Map<string, string> | undefined

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
    const id = namespaceIdOf(namespace)
    if (id !== undefined) return binding.statmountIn(id, mountId, 0n, statmountBuffer) !== -ENOENT
    if (namespace !== this.#namespace) return true
    if (this.#unique) {
      const result = this.#statmount(mountId)
      if (result === 0 || result === -ENOENT) return result === 0
    }
    const overlays = this.#read()
    if (overlays === undefined) return true
    return overlays.has(this.#unique ? deviceOf(dev) : `${mountId} ${deviceOf(dev)}`)
  }

  /** Where the overlay with this device is mounted, for a message. */
  whereIs({ namespace, dev }: AttachedMount): string {
    if (namespace !== this.#namespace) return 'a place in another mount namespace'
    return this.#read()?.get(deviceOf(dev)) ?? 'a place that is not known'
  }

  #read(): Map<string, string> | undefined {
    try {
      this.#overlays ??= parseOverlays(this.#mountinfo().toString('latin1'))
    } catch {
      // without /proc nothing is known of the mounts
    }
    return this.#overlays
  }
}

const deviceOf = (dev: bigint): string => `${dev & 0xffff_ffffn}:${dev >> 32n}`

/** The mount points of overlays, by `major:minor` and by `id major:minor`. */
function parseOverlays(mountinfo: string): Map<string, string> {
  const found = new Map<string, string>()
  for (const line of mountinfo.split('\n')) {
    if (!line.includes(' - overlay ')) continue
    const [id, , device, , target = ''] = line.split(' ')
    // octal escapes of bytes
    const bytes = target.replace(/\\([0-7]{3})/g, (_, octal) =>
      String.fromCharCode(Number.parseInt(octal, 8)),
    )
    const path = Buffer.from(bytes, 'latin1').toString()
    found.set(`${device}`, path).set(`${id} ${device}`, path)
  }
  return found
}
