/**
 * Uppers and work directories that this process has in use: the kernel only warns (in its log) about a
 * second overlay on the same upper unless index=on, and what happens then is undefined.
 *
 * Directories are known by device and inode. While a mount is being made they are known by path too, and one
 * that is still to be made by its name below the nearest directory there is: somebody may see it as soon as
 * it is there. What other environments of the process (worker threads) have is asked of the addon, which keeps
 * the names of all. An entry whose mount has meanwhile been taken away by somebody else does not count.
 */
import { binding, type ClaimBinding } from '../binding.js'
import { type AttachedMount, MountLook } from './presence.js'

export interface UpperUse {
  /** where it is mounted; for the message */
  readonly where: string
  /** false when the mount is gone, whoever took it away */
  inUse(look: MountLook): boolean
}

export interface Reservation {
  release(): void
  /** tells other environments where the mount is; without it they take the entry for one in use */
  settle(mount: AttachedMount, where: string): void
}

interface Entry {
  readonly use: UpperUse
  /** the addon's number of it; 0 without */
  readonly claim: number
}

/** Entries in the table before it is swept for the first time. */
const minimum = 64

export class UpperTable {
  readonly #entries = new Map<string, Entry>()
  /** the last one of each device: whoever had it before is gone */
  readonly #devices = new Map<bigint, UpperUse>()
  readonly #shared: ClaimBinding | undefined
  #sweepAt = minimum

  /** @param shared what other environments see; nothing unless told */
  constructor(shared?: ClaimBinding) {
    this.#shared = shared
  }

  get size(): number {
    return this.#entries.size
  }

  /**
   * Enters a directory.
   *
   * @param key `inodeKey`, `nameKey` or `pathKey` of it
   * @param unique whether mount ids are the unique ones
   * @returns the use that stands in the way, or the reservation
   */
  reserve(key: string, use: UpperUse, unique = true): UpperUse | Reservation {
    const before = this.#entries.get(key)
    if (before && (before.use === use || before.use.inUse(new MountLook(unique)))) return before.use
    const claim = this.#claim(key, before?.claim ?? 0, unique)
    if (typeof claim !== 'number') return claim
    const entry = { use, claim }
    this.#entries.set(key, entry)
    if (this.#entries.size >= this.#sweepAt) this.#sweep(unique)
    return {
      release: () => {
        if (this.#entries.get(key) === entry) this.#drop(key, entry)
      },
      settle: (mount, where) => this.#shared?.noteClaim(claim, writeNote(mount, where)),
    }
  }

  /** The use's mount has a device of its own, which no other can have while it is there. */
  hasDevice(dev: bigint, use: UpperUse): void {
    this.#devices.set(dev, use)
  }

  isSuperseded(dev: bigint, use: UpperUse): boolean {
    return this.#devices.get(dev) !== use
  }

  /** Number of the claim, or the use by another environment that stands in the way. */
  #claim(key: string, before: number, unique: boolean): number | UpperUse {
    if (this.#shared === undefined || key.startsWith(byPath)) return 0
    const name = Buffer.from(key, 'latin1')
    for (let over = before; ; ) {
      const claim = this.#shared.claim(name, over)
      if (claim > 0) return claim
      over = -claim
      const note = this.#shared.claimNote(over)
      const use = note && readNote(note)
      if (use?.inUse(new MountLook(unique))) return use
    }
  }

  #drop(key: string, { claim }: Entry): void {
    this.#entries.delete(key)
    if (claim !== 0) this.#shared?.dropClaim(claim)
  }

  /** Handles may be released or dropped, and their mounts be taken away by others: nobody tells us of that. */
  #sweep(unique: boolean): void {
    const look = new MountLook(unique)
    for (const [key, entry] of this.#entries) if (!entry.use.inUse(look)) this.#drop(key, entry)
    for (const [dev, use] of this.#devices) if (!use.inUse(look)) this.#devices.delete(dev)
    this.#sweepAt = Math.max(minimum, this.#entries.size * 2)
  }
}

/** Of all mounters: two of them may be asked for the same upper. */
export const uppersInUse = new UpperTable(binding)

export const inodeKey = (dev: bigint, ino: bigint): string => `${dev}:${ino}`
/** Of a directory that is still to be made. */
export const nameKey = (dev: bigint, ino: bigint, below: Uint8Array): string =>
  `${dev}:${ino}/${Buffer.from(below).toString('latin1')}`
/** For what is made while others look; only within one environment, the others notice it later. */
const byPath = 'path:'
export const pathKey = (path: Uint8Array): string => `${byPath}${Buffer.from(path).toString('latin1')}`
export const isReservation = (result: UpperUse | Reservation): result is Reservation => 'release' in result

/** What other environments read: mount id, device and namespace as 64-bit numbers, then where it is. */
function writeNote({ mountId, dev, namespace }: AttachedMount, where: string): Buffer {
  const numbers = Buffer.alloc(24)
  for (const [i, number] of [mountId, dev, BigInt(namespace)].entries())
    numbers.writeBigUInt64LE(number, i * 8)
  return Buffer.concat([numbers, Buffer.from(where)])
}

function readNote(note: Buffer): UpperUse {
  if (note.length === 0) return { where: 'another thread, not attached', inUse: () => true }
  const [mountId, dev, namespace] = [0, 8, 16].map((at) => note.readBigUInt64LE(at)) as [
    bigint,
    bigint,
    bigint,
  ]
  const mount = { mountId, dev, namespace: Number(namespace) }
  return { where: note.toString('utf8', 24), inUse: (look) => look.sees(mount) }
}
