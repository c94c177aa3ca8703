/**
 * How a mount stands: where it is, what its handle holds of it (the fd while it is detached, an fd of another mount
 * namespace, a claim to its upper), and what becomes of all this when it is attached, moved, unmounted or dropped.
 *
 *   detached ── attach ──▶ attached ── unmount ──▶ gone
 *       └──────── unmount, or dropped ──────────────▲
 *   release() leaves the mount as it is, and the handle without it
 */
import { binding } from '../binding.js'
import { invalidState } from '../errors.js'
import type { RungName } from '../overlay/choose.js'
import { type Group, joinGroup, type Member } from '../overlay/group-table.js'
import type { Phase } from '../overlay/handover-json.js'
import type { Host } from '../overlay/host.js'
import { type MountLook, numberOf } from '../overlay/presence.js'
import { type MountKind, planCloseMount } from '../overlay/reap.js'
import { below, type Inside, isInDetached, isInside, type Reach, type Spot } from './place.js'
import { Turns } from './turns.js'

/** A mount, as it was made or found. */
export interface MountState {
  /** undefined of a mount that came as an fd */
  readonly rung: RungName | undefined
  readonly kind: MountKind
  readonly target: Buffer | undefined
  /** inside another mount, instead of a target */
  readonly place?: Place | undefined
  readonly mountFd: number | undefined
  readonly mountId: bigint
  readonly dev: bigint
  /** of the root directory */
  readonly ino?: bigint
  /** its source, if that names its maker */
  readonly mark?: string | undefined
  readonly namespace: number
  readonly notes: readonly string[]
  /** number of what it has claimed; 0 if that is nothing */
  readonly claim: number
  /** of the mount namespace that it was attached in, if that is not the caller's */
  readonly namespaceFd?: number | undefined
}

/** Where in another mount a mount is: a path without symbolic links, and without a slash before it. */
export interface Place {
  readonly mount: Standing
  readonly path: Buffer
}

interface Dropped {
  readonly fd: number
  readonly host: Host
  readonly state: MountState
}

/** What a detached mount that is dropped without being unmounted leaves behind. */
const dropped = new FinalizationRegistry<Dropped>(({ fd, host, state }) => {
  host.later(planCloseMount(fd, state.claim, { early: false }, state.kind))
  const name = state.kind === 'overlay' || state.kind === 'clone' ? 'Rootfs' : 'Mount'
  process.emitWarning(`a detached ${name} was garbage collected without unmount()`, {
    code: `OVERLAYFD_${name.toUpperCase()}_DROPPED`,
  })
})

/** Of a mount in another namespace, which stays there: nothing keeps the namespace alive any more. */
const left = new FinalizationRegistry<{ readonly fd: number; readonly host: Host }>(({ fd, host }) => {
  host.discard({ fds: [fd] })
})

export class Standing implements Member {
  readonly host: Host
  readonly state: MountState
  readonly turns = new Turns(() => {
    const { claim } = this.state
    if (claim !== 0 && !this.turns.isBusy && this.#phase === 'gone') binding.dropStaleClaim(claim)
  })
  #phase: Phase
  #target: Buffer | undefined
  #namespace: number
  #notes: readonly string[]
  #mountFd: number | undefined
  #namespaceFd: number | undefined
  /** that it is attached below, if it is */
  #group: Group | undefined
  /** what it is attached inside, if that is a mount of ours */
  #place: Place | undefined
  /** what is attached inside it */
  #inside: Set<Standing> | undefined

  constructor(host: Host, state: MountState) {
    this.host = host
    this.state = state
    this.#target = state.target
    this.#notes = state.notes
    this.#namespace = state.namespace
    this.#mountFd = state.mountFd
    this.#phase = state.target === undefined ? 'detached' : 'attached'
    if (state.place !== undefined) this.#enter(state.place)
    if (state.mountFd !== undefined) {
      dropped.register(this, { fd: state.mountFd, host, state }, this)
    }
    if (state.namespaceFd !== undefined) this.keepNamespace(state.namespaceFd)
    else if (state.target !== undefined) this.#group = joinGroup(this, state.namespace, state.target)
  }

  get phase(): Phase {
    return this.#phase
  }

  get kind(): MountKind {
    return this.state.kind
  }

  get mountId(): bigint {
    return this.state.mountId
  }

  get claim(): number {
    return this.state.claim
  }

  get notes(): readonly string[] {
    return this.#notes
  }

  /** Undefined of a detached mount, and of one inside another. */
  get target(): Buffer | undefined {
    return this.#target
  }

  get namespace(): number {
    return this.#namespace
  }

  get namespaceFd(): number | undefined {
    return this.#namespaceFd
  }

  /** While it is detached. */
  get mountFd(): number | undefined {
    return this.#mountFd
  }

  /** What it is attached inside. */
  get outer(): Standing | undefined {
    return this.#place?.mount
  }

  /** True while its group is being unmounted. */
  get isGroupLeaving(): boolean {
    return this.#group?.isLeaving === true
  }

  get path(): Buffer {
    if (this.#phase === 'detached') return Buffer.from(`/proc/self/fd/${this.#mountFd}`)
    if (this.#phase === 'gone') throw invalidState('the mount is unmounted')
    if (this.#place) return below(this.#place.mount.path, this.#place.path)
    if (this.#target === undefined) throw invalidState('the mount was released')
    return this.#target
  }

  /** What another process is told: a mount inside a detached one has no place either. */
  get written(): { readonly phase: Phase; readonly target: Buffer | undefined; readonly namespace: number } {
    const own = { phase: this.#phase, target: this.#target, namespace: this.#namespace }
    if (this.#place === undefined || this.#phase === 'gone') return own
    const { phase, target, namespace } = this.#place.mount.written
    if (target === undefined) return { ...own, phase }
    return { phase: this.#phase, target: below(target, this.#place.path), namespace }
  }

  /** How plans get at it. */
  reach(): Reach {
    if (this.#phase === 'gone') throw invalidState('the mount is unmounted')
    if (this.#phase === 'released') throw released()
    if (this.#phase === 'detached') return { kind: 'detached', fd: this.#mountFd! }
    const { mountId, dev } = this.state
    if (this.#place)
      return { kind: 'below', above: this.#place.mount.reach(), path: this.#place.path, mountId, dev }
    if (this.#namespaceFd !== undefined) {
      throw invalidState('the mount is in another mount namespace: from here it can only be unmounted')
    }
    if (this.#namespace !== this.host.here().namespace) throw attachedElsewhere()
    return { kind: 'attached', target: this.#target!, mountId, dev }
  }

  /** Its own root as a place. */
  spot(): Inside {
    return { mount: this, reach: this.reach(), path: Buffer.alloc(0) }
  }

  /** It was attached in the namespace of such an fd, which it keeps. */
  keepNamespace(fd: number): void {
    this.#namespaceFd = fd
    this.#namespace = numberOf(fd)
    const { claim, mountId, dev } = this.state
    // its program did not know in which namespace that would be
    if (claim !== 0) binding.settleClaim(claim, mountId, dev, this.#namespace)
    left.register(this, { fd, host: this.host }, this)
  }

  /** The last fd of a namespace takes down what is in it: on a thread of the mounter. */
  #leaveNamespace(): void {
    if (this.#namespaceFd === undefined) return
    left.unregister(this)
    this.host.discard({ fds: [this.#namespaceFd] })
    this.#namespaceFd = undefined
  }

  /** It was detached, and is attached now. */
  attached(target: Spot, namespace: number, notes: readonly string[]): void {
    dropped.unregister(this)
    this.#namespace = namespace
    const { claim, mountId, dev } = this.state
    const isHidden = isInside(target) && isInDetached(target.reach)
    // nobody could look for the mount in a namespace where it is not: the claim ends with the handle
    if (claim !== 0 && !isHidden) binding.settleClaim(claim, mountId, dev, namespace)
    // an fd of an attached mount keeps it busy; closing it unmounts nothing any more
    const fd = this.#mountFd!
    this.#mountFd = undefined
    this.settled(target, namespace, notes)
    binding.closeOwned(fd)
  }

  /** Where it is from now on. */
  settled(target: Spot, namespace: number, notes: readonly string[]): void {
    this.#notes = [...this.#notes, ...notes]
    this.#phase = 'attached'
    this.#leaveOuter()
    this.#group?.leave(this)
    this.#place = undefined
    this.#target = undefined
    this.#group = undefined
    this.#namespace = namespace
    if (isInside(target)) this.#enter(target)
    else {
      this.#target = target.path
      if (this.#namespaceFd === undefined) this.#group = joinGroup(this, namespace, target.path)
    }
  }

  #enter({ mount, path }: Place): void {
    this.#phase = 'attached'
    this.#place = { mount, path }
    mount.#inside ??= new Set()
    mount.#inside.add(this)
  }

  #leaveOuter(): void {
    const { outer } = this
    if (outer) outer.#inside?.delete(this)
  }

  /** It was detached, and is unmounted. @returns its fd, which is to be closed */
  closing(): number {
    dropped.unregister(this)
    const fd = this.#mountFd!
    this.ended()
    return fd
  }

  /** It is unmounted. */
  ended(): void {
    this.#phase = 'gone'
    this.#group?.leave(this)
    this.#leaveNamespace()
    this.#mountFd = undefined
    this.#leaveOuter()
    // what was inside it went with it
    if (this.#inside) for (const mount of this.#inside) mount.#outerGone()
    this.#inside = undefined
  }

  /** Its group was unmounted, and it with it, unless somebody has moved it out before. */
  gone(look: MountLook): void {
    const { mountId, dev } = this.state
    if (this.#phase !== 'attached' || look.sees({ namespace: this.#namespace, mountId, dev })) return
    this.#gone()
  }

  #outerGone(): void {
    if (this.#phase === 'attached') this.#gone()
  }

  #gone(): void {
    // an operation that is under way drops it when it has ended
    if (!this.turns.isBusy) binding.dropClaim(this.claim)
    this.ended()
  }

  /** The mount stays. @returns the fd of a detached one, which is the caller's then */
  released(): number | undefined {
    const fd = this.#mountFd
    if (this.#phase === 'gone' || this.#phase === 'released') return undefined
    if (fd !== undefined) {
      dropped.unregister(this)
      this.#mountFd = undefined
      binding.disown(fd)
      binding.dropClaim(this.claim)
    }
    this.#phase = 'released'
    this.#group?.leave(this)
    this.#leaveNamespace()
    this.#leaveOuter()
    return fd
  }
}

export const released = () => invalidState('the mount was released: it is no longer this handle’s')
export const attachedElsewhere = () =>
  invalidState('the mount was attached in another mount namespace than the caller is in now')
