/**
 * One superblock per image, shared by whoever mounts the same.
 *
 * The kernel makes a new superblock for each mount of a file (Linux 6.18), with a page cache of its own: two stacks
 * with one base image would read and keep it twice; and its end waits for a grace period. An image is known by device, inode, ctime and size of its
 * files and by its options: a file that was replaced or written to is another one. Stacks hold a lease for as long
 * as they are open; one-shot calls give theirs back at once, and the image stays for a second (resting.ts).
 */

import type { Identity } from '../program/result.js'
import type { HeldFd } from '../program/step.js'
import type { Leftovers } from './host.js'
import { Resting } from './resting.js'

/** A mounted image: its root, attached nowhere. */
export interface OpenImage {
  readonly fd: HeldFd
  readonly identity: Identity
  /** of its root directory */
  readonly top: { readonly mode: number; readonly uid: number; readonly gid: number }
}

export interface ImageLease {
  readonly image: OpenImage
  /** ends the lease; `linger` keeps the image for a while, else it is closed with the last lease */
  release(linger: boolean): void
}

interface Entry {
  readonly key: string
  readonly image: OpenImage
  leases: number
  retired: boolean
}

export class ImageCache {
  readonly #images = new Map<string, Entry>()
  readonly #discard: (leftovers: Leftovers) => void
  readonly #resting: Resting<Entry>

  constructor(discard: (leftovers: Leftovers) => void, lingerMs = 1000) {
    this.#discard = discard
    this.#resting = new Resting((entry) => this.#retire(entry), lingerMs)
  }

  /** The image, if it is mounted. */
  lease(key: string): ImageLease | undefined {
    const entry = this.#images.get(key)
    return entry && this.#leaseOf(entry)
  }

  /** Takes over an image that was mounted; the one that another call has mounted meanwhile is used instead. */
  add(key: string, image: OpenImage): ImageLease {
    let entry = this.#images.get(key)
    if (entry === undefined) {
      entry = { key, image, leases: 0, retired: false }
      this.#images.set(key, entry)
    } else this.#discard({ trees: [image.fd.fd] })
    return this.#leaseOf(entry)
  }

  /** Closes what no lease holds, and the rest with its last lease. */
  trim(): void {
    for (const entry of this.#images.values()) this.#retire(entry)
  }

  #leaseOf(entry: Entry): ImageLease {
    let held = true
    entry.leases++
    this.#resting.wake(entry)
    return {
      image: entry.image,
      release: (linger) => {
        if (!held) return
        held = false
        if (--entry.leases > 0) return
        if (!linger || entry.retired) this.#drop(entry)
        else this.#resting.add(entry)
      },
    }
  }

  /** Nobody finds it any more: it goes now, or with its last lease. */
  #retire(entry: Entry): void {
    entry.retired = true
    this.#forget(entry)
    if (entry.leases === 0) this.#drop(entry)
  }

  #forget(entry: Entry): void {
    this.#resting.delete(entry)
    if (this.#images.get(entry.key) === entry) this.#images.delete(entry.key)
  }

  #drop(entry: Entry): void {
    this.#forget(entry)
    this.#discard({ trees: [entry.image.fd.fd] })
  }
}
