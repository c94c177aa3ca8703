/**
 * One superblock per image, shared by whoever mounts the same.
 *
 * The kernel makes a new superblock for each mount of a file (Linux 6.18), with a page cache of its own: two stacks
 * with one base image would read and keep it twice; and its end waits for a grace period. An image is known by device, inode, ctime and size of its
 * files and by its options: a file that was replaced or written to is another one. Stacks hold a lease for as long
 * as they are open; one-shot calls give theirs back at once, and the image stays for a second.
 */

import type { Identity } from '../program/result.js'
import type { HeldFd } from '../program/step.js'
import type { Leftovers } from './host.js'

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
  readonly image: OpenImage
  leases: number
  timer: NodeJS.Timeout | undefined
  retired: boolean
}

export class ImageCache {
  readonly #images = new Map<string, Entry>()
  readonly #discard: (leftovers: Leftovers) => void
  readonly #lingerMs: number

  constructor(discard: (leftovers: Leftovers) => void, lingerMs = 1000) {
    this.#discard = discard
    this.#lingerMs = lingerMs
  }

  /** The image, if it is mounted. */
  lease(key: string): ImageLease | undefined {
    const entry = this.#images.get(key)
    return entry && this.#leaseOf(key, entry)
  }

  /** Takes over an image that was mounted; the one that another call has mounted meanwhile is used instead. */
  add(key: string, image: OpenImage): ImageLease {
    let entry = this.#images.get(key)
    if (entry === undefined) {
      entry = { image, leases: 0, timer: undefined, retired: false }
      this.#images.set(key, entry)
    } else this.#discard({ trees: [image.fd.fd] })
    return this.#leaseOf(key, entry)
  }

  /** Closes what no lease holds, and the rest with its last lease. */
  trim(): void {
    for (const [key, entry] of this.#images) this.#retire(key, entry)
  }

  #leaseOf(key: string, entry: Entry): ImageLease {
    let held = true
    entry.leases++
    return {
      image: entry.image,
      release: (linger) => {
        if (!held) return
        held = false
        if (--entry.leases > 0) return
        if (!linger || entry.retired) return this.#drop(key, entry)
        // from its first rest on: calls in quick succession do not keep it for ever
        entry.timer ??= setTimeout(() => this.#retire(key, entry), this.#lingerMs).unref()
      },
    }
  }

  /** Nobody finds it any more: it goes now, or with its last lease. */
  #retire(key: string, entry: Entry): void {
    clearTimeout(entry.timer)
    entry.retired = true
    this.#images.delete(key)
    if (entry.leases === 0) this.#drop(key, entry)
  }

  #drop(key: string, entry: Entry): void {
    clearTimeout(entry.timer)
    if (this.#images.get(key) === entry) this.#images.delete(key)
    this.#discard({ trees: [entry.image.fd.fd] })
  }
}
