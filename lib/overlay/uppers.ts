/**
 * Uppers and work directories that this process has in use: the kernel only warns (in its log) about a
 * second overlay on the same upper unless index=on, and what happens then is undefined.
 *
 * Directories are known by device and inode. One that is still to be made is known by its path until
 * its mount is there. An entry whose mount has meanwhile been taken away by somebody else does not count.
 */
export interface UpperUse {
  /** where it is mounted; for the message */
  readonly where: string
  /** false when the mount is gone, whoever took it away */
  inUse(): boolean
}

export interface Reservation {
  /** now known by its inode */
  found(dev: bigint, ino: bigint): void
  release(): void
}

export class UpperTable {
  readonly #uses = new Map<string, UpperUse>()

  /**
   * Enters a directory.
   *
   * @param key `inodeKey` of it, or its path while it does not exist
   * @returns the use that stands in the way, or the reservation
   */
  reserve(key: string, use: UpperUse): UpperUse | Reservation {
    const other = this.#uses.get(key)
    if (other?.inUse()) return other
    const keys = new Set([key])
    this.#uses.set(key, use)
    return {
      found: (dev, ino) => {
        keys.add(inodeKey(dev, ino))
        this.#uses.set(inodeKey(dev, ino), use)
      },
      release: () => {
        for (const k of keys) if (this.#uses.get(k) === use) this.#uses.delete(k)
      },
    }
  }
}

export const inodeKey = (dev: bigint, ino: bigint): string => `${dev}:${ino}`
export const isReservation = (result: UpperUse | Reservation): result is Reservation => 'release' in result
