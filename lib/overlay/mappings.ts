/**
 * One user namespace and one idmapped tree per (directory, mapping), shared by whoever uses the same.
 *
 * Stacks hold a lease for as long as they are open. One-shot calls give theirs back at once, and the trees
 * stay for a second: the next call with the same mapping finds them. A tree is found by the path of its
 * directory and must prove to be the same directory of the same mount before it is used again.
 */
import { type Idmap, isMapped } from '../idmap.js'
import type { Identity } from '../program/result.js'
import type { Leftovers } from './host.js'
import { Resting } from './resting.js'

export interface Tree {
  readonly fd: number
  /** of the directory that it is a clone of */
  readonly identity: Identity
}

interface Mapping {
  /** by which it is found; none of one that is not shared */
  readonly id: string | undefined
  leases: number
  usernsFd: number | undefined
  readonly trees: Map<string, Tree>
  /** made twice by calls at the same time */
  readonly spare: number[]
  retired: boolean
}

export interface MappingLease {
  readonly usernsFd: number | undefined
  tree(path: Uint8Array): Tree | undefined
  /** the cache takes the fds over */
  addUserns(fd: number): void
  addTree(path: Uint8Array, tree: Tree): void
  /** it was found to be of another directory */
  dropTree(path: Uint8Array): void
  /** ends the lease; `linger` keeps what it has for a while, else it is closed with the last lease */
  release(linger: boolean): void
}

const key = (path: Uint8Array) => Buffer.from(path).toString('latin1')

export class MappingCache {
  readonly #mappings = new Map<string, Mapping>()
  readonly #discard: (leftovers: Leftovers) => void
  readonly #resting: Resting<Mapping>

  constructor(discard: (leftovers: Leftovers) => void, lingerMs = 1000) {
    this.#discard = discard
    this.#resting = new Resting((mapping) => this.#retire(mapping), lingerMs)
  }

  /** Without a mapping: of trees that are not idmapped. */
  lease(idmap: Idmap | undefined): MappingLease {
    // a namespace given by path or fd may be another one at the next call: it is not shared
    const id = idmap === undefined ? 'none' : isMapped(idmap) ? idmap.key : undefined
    let mapping = id === undefined ? undefined : this.#mappings.get(id)
    if (mapping === undefined) {
      mapping = {
        id,
        leases: 0,
        usernsFd: undefined,
        trees: new Map(),
        spare: [],
        retired: false,
      }
      if (id !== undefined) this.#mappings.set(id, mapping)
    }
    mapping.leases++
    this.#resting.wake(mapping)
    return this.#leaseOf(mapping)
  }

  /** Closes what no lease holds, and the rest with its last lease. */
  trim(): void {
    for (const mapping of this.#mappings.values()) this.#retire(mapping)
  }

  /** Nobody finds it any more: it goes now, or with its last lease. */
  #retire(mapping: Mapping): void {
    mapping.retired = true
    this.#forget(mapping)
    if (mapping.leases === 0) this.#drop(mapping)
  }

  #forget(mapping: Mapping): void {
    this.#resting.delete(mapping)
    const { id } = mapping
    if (id !== undefined && this.#mappings.get(id) === mapping) this.#mappings.delete(id)
  }

  #leaseOf(mapping: Mapping): MappingLease {
    let held = true
    return {
      get usernsFd() {
        return mapping.usernsFd
      },
      tree: (path) => mapping.trees.get(key(path)),
      addUserns(fd) {
        if (mapping.usernsFd === undefined) mapping.usernsFd = fd
        else mapping.spare.push(fd)
      },
      addTree(path, tree) {
        const before = mapping.trees.get(key(path))
        if (before) mapping.spare.push(before.fd)
        mapping.trees.set(key(path), tree)
      },
      dropTree(path) {
        const before = mapping.trees.get(key(path))
        if (before) mapping.spare.push(before.fd)
        mapping.trees.delete(key(path))
      },
      release: (linger) => {
        if (!held) return
        held = false
        if (--mapping.leases > 0) return
        if (!linger || mapping.id === undefined || mapping.retired) this.#drop(mapping)
        else this.#resting.add(mapping)
      },
    }
  }

  #drop(mapping: Mapping): void {
    this.#forget(mapping)
    const fds = mapping.usernsFd === undefined ? [] : [mapping.usernsFd]
    this.#discard({ fds, trees: [...mapping.trees.values()].map(({ fd }) => fd).concat(mapping.spare) })
    mapping.usernsFd = undefined
    mapping.trees.clear()
    mapping.spare.length = 0
  }
}
