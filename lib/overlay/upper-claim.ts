/**
 * A mount's claim to its upper and work directories: from before it is made until it is gone.
 */
import { binding } from '../binding.js'
import { MountError } from '../errors.js'
import * as f from '../flags.js'
import type { Identity } from '../program/result.js'
import { statxField } from '../program/step.js'
import type { Host } from './host.js'
import { isPresent, type Rootfs, type Whereabouts } from './rootfs.js'
import type { MountSpec } from './spec.js'
import {
  inodeKey,
  isReservation,
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
  /** by path, until the mount is there */
  readonly #passing: Reservation[] = []
  /** by inode */
  readonly #lasting: Reservation[] = []
  #rootfs: WeakRef<Rootfs> | undefined
  #whereabouts: Whereabouts | undefined

  /** Throws EBUSY if another mount has one of them. */
  constructor(host: Host, spec: MountSpec) {
    this.#table = host.uppers
    this.#spec = spec
    this.#unique = host.features.uniqueMountId
    try {
      for (const option of options) {
        const path = spec[option]
        if (path === undefined) continue
        this.#reserve(option, pathKey(path), this.#passing)
        const key = inodeOf(path)
        if (key !== undefined) this.#reserve(option, key, this.#lasting)
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
      const key = isKnown ? inodeKey(upper.dev, upper.ino) : path && inodeOf(path)
      if (key !== undefined) this.#reserve(option, key, this.#lasting, false)
    }
    for (const reservation of this.#passing) reservation.release()
    return this.#lasting
  }

  become(rootfs: Rootfs): void {
    this.#rootfs = new WeakRef(rootfs)
    this.#whereabouts = rootfs.whereabouts
  }

  drop(): void {
    for (const reservation of [...this.#passing, ...this.#lasting]) reservation.release()
  }

  get where(): string {
    return (this.#whereabouts?.target ?? this.#spec.target)?.toString() ?? 'a detached mount'
  }

  inUse(): boolean {
    if (this.#whereabouts === undefined) return true
    if (this.#whereabouts.target) return isPresent(this.#whereabouts, this.#unique)
    return this.#rootfs?.deref() !== undefined
  }

  #reserve(option: (typeof options)[number], key: string, into: Reservation[], isFatal = true): void {
    const result = this.#table.reserve(key, this)
    if (isReservation(result)) into.push(result)
    // upper and work are one directory: the kernel refuses that, and diagnose says why
    else if (result !== this && isFatal) throw inUse(option, this.#spec[option]!, result)
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

function inodeOf(path: Buffer): string | undefined {
  const bytes = Buffer.concat([path, Buffer.of(0)])
  if (binding.statx(f.AT_FDCWD, bytes, 0, f.STATX_INO, statxBuffer) < 0) return undefined
  return inodeKey(
    statxBuffer.readBigUInt64LE(statxField.dev.offset),
    statxBuffer.readBigUInt64LE(statxField.ino.offset),
  )
}
