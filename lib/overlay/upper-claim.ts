/**
 * A mount's claim to its upper and work directories: from before it is made until it is gone.
 */
import { binding } from '../binding.js'
import { MountError } from '../errors.js'
import * as f from '../flags.js'
import type { Identity } from '../program/result.js'
import { statxField } from '../program/step.js'
import { ancestors } from './bytes.js'
import type { Host } from './host.js'
import type { MountLook, Whereabouts } from './presence.js'
import type { Rootfs } from './rootfs.js'
import type { MountSpec } from './spec.js'
import {
  inodeKey,
  isReservation,
  nameKey,
  pathKey,
  type Reservation,
  type UpperTable,
  type UpperUse,
} from './uppers.js'

const EBUSY = 16
const options = ['upperdir', 'workdir'] as const

export class UpperClaim implements UpperUse {
  readonly #table: UpperTable
  readonly #spec: MountSpec
  readonly #unique: boolean
  /** by path and by name, until the mount is there */
  readonly #passing: Reservation[] = []
  /** by inode */
  readonly #lasting: Reservation[] = []
  #conflict: MountError | undefined
  #rootfs: WeakRef<Rootfs> | undefined
  #whereabouts: Whereabouts | undefined

  /** Throws EBUSY if another mount has one of them. */
  constructor(host: Pick<Host, 'uppers' | 'features'>, spec: MountSpec) {
    this.#table = host.uppers
    this.#spec = spec
    this.#unique = host.features.uniqueMountId
    try {
      for (const option of options) {
        const path = spec[option]
        if (path === undefined) continue
        this.#reserve(option, pathKey(path), this.#passing)
        const inode = inodeOf(path)
        if (inode === undefined || spec.create) this.#reserve(option, nameOf(path), this.#passing)
        if (inode !== undefined) this.#reserve(option, inodeKey(...inode), this.#lasting)
        if (this.#conflict) throw this.#conflict
      }
    } catch (error) {
      this.drop()
      throw error
    }
  }

  /** The directories are there by now. Answers what is to be released when the mount is gone. */
  mounted(upper: Identity | undefined): readonly Reservation[] {
    for (const option of options) {
      const path = this.#spec[option]
      const isKnown = option === 'upperdir' && upper !== undefined
      const inode = isKnown ? ([upper.dev, upper.ino] as const) : path && inodeOf(path)
      if (inode !== undefined) this.#reserve(option, inodeKey(...inode), this.#lasting)
    }
    for (const reservation of this.#passing) reservation.release()
    return this.#lasting
  }

  /**
   * Takes the mount down again and throws EBUSY if another has one of its directories: both were claimed by
   * different names, and a directory above was made in between.
   */
  become(rootfs: Rootfs): void {
    if (this.#conflict) {
      rootfs.unmountSync()
      throw this.#conflict
    }
    const { whereabouts } = rootfs
    this.#rootfs = new WeakRef(rootfs)
    this.#whereabouts = whereabouts
    if (this.#lasting.length === 0) return
    this.#table.hasDevice(whereabouts.dev, this)
    whereabouts.attached = () => {
      for (const reservation of this.#lasting) reservation.settle(whereabouts, this.where)
    }
    if (whereabouts.target) whereabouts.attached()
  }

  drop(): void {
    for (const reservation of [...this.#passing, ...this.#lasting]) reservation.release()
  }

  get where(): string {
    return (this.#whereabouts?.target ?? this.#spec.target)?.toString() ?? 'a detached mount'
  }

  inUse(look: MountLook): boolean {
    if (this.#whereabouts === undefined) return true
    if (this.#table.isSuperseded(this.#whereabouts.dev, this)) return false
    if (this.#whereabouts.target) return look.sees(this.#whereabouts)
    return this.#rootfs?.deref() !== undefined
  }

  #reserve(option: (typeof options)[number], key: string, into: Reservation[]): void {
    const result = this.#table.reserve(key, this, this.#unique)
    if (isReservation(result)) into.push(result)
    // upper and work are one directory: the kernel refuses that, and diagnose says why
    else if (result !== this) this.#conflict ??= inUse(option, this.#spec[option]!, result)
  }
}

function inUse(option: string, path: Buffer, { where }: UpperUse): MountError {
  return new MountError({
    errno: EBUSY,
    syscall: 'fsconfig',
    call: `mount with ${option} "${path.toString()}"`,
    path,
    hint: `this ${option} is in use by the overlay at ${where}: two overlays on one ${option} are undefined behaviour`,
  })
}

const statxBuffer = Buffer.alloc(256)

function inodeOf(path: Uint8Array): readonly [dev: bigint, ino: bigint] | undefined {
  const bytes = Buffer.concat([path, Buffer.of(0)])
  if (binding.statx(f.AT_FDCWD, bytes, 0, f.STATX_INO, statxBuffer) < 0) return undefined
  return [
    statxBuffer.readBigUInt64LE(statxField.dev.offset),
    statxBuffer.readBigUInt64LE(statxField.ino.offset),
  ]
}

/** By the nearest directory above that is there: the way to it may be spelt in many ways. */
function nameOf(path: Uint8Array): string {
  for (const above of ancestors(path).reverse()) {
    const inode = inodeOf(above)
    if (inode !== undefined) return nameKey(...inode, path.subarray(above.length + 1))
  }
  return pathKey(path)
}
