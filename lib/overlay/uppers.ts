/**
 * Uppers and work directories that this process has in use: the kernel only warns (in its log) about a
 * second overlay on the same upper unless index=on, and what happens then is undefined.
 *
 * Directories are known by device and inode, and by path too while their mount is being made: one that is
 * still to be made has nothing else, and somebody may see it as soon as it is there. An entry whose mount has meanwhile been taken away by somebody else does not count.
 */
export interface UpperUse {
  /** where it is mounted; for the message */
  readonly where: string
  /** false when the mount is gone, whoever took it away */
  inUse(): boolean
}

export interface Reservation {
  release(): void
}

export class UpperTable {
  readonly #uses = new Map<string, UpperUse>()

  /**
   * Enters a directory.
   *
   * @param key `inodeKey` or `pathKey` of it
   * @returns the use that stands in the way, or the reservation
   */
  reserve(key: string, use: UpperUse): UpperUse | Reservation {
    const other = this.#uses.get(key)
    if (other?.inUse()) return other
    this.#uses.set(key, use)
    return {
      release: () => {
        if (this.#uses.get(key) === use) this.#uses.delete(key)
      },
    }
  }
}

/** Of the whole process: two mounters may be asked for the same upper. */
export const uppersInUse = new UpperTable()

export const inodeKey = (dev: bigint, ino: bigint): string => `${dev}:${ino}`
export const pathKey = (path: Uint8Array): string => `path:${Buffer.from(path).toString('latin1')}`
export const isReservation = (result: UpperUse | Reservation): result is Reservation => 'release' in result
