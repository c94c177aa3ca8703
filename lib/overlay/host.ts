/**
 * What stacks and root filesystems need of the mounter that they belong to: threads to run plans on, and the
 * caches that outlive one call. An interface, so that the arrow points
 * from the mounter to the overlay and not back.
 */

import type { MountError } from '../errors.js'
import type { Features } from '../host/features.js'
import type { Idmap } from '../idmap.js'
import type { Flow } from '../program/flow.js'
import type { Plan } from '../program/plan.js'
import type { Pool } from '../program/pool.js'
import type { Need, RungChoice } from './choose.js'
import type { FdBudget } from './fd-budget.js'
import type { ImageCache } from './image-cache.js'
import type { MappingLease } from './mappings.js'
import type { Staging } from './staging.js'

/** Fds that are to be closed off the hot path. */
export interface Leftovers {
  /** ordinary fds: their close costs nothing */
  readonly fds?: readonly number[]
  /** detached trees: each close waits for a grace period, so they are closed together */
  readonly trees?: readonly number[]
}

/** A mount namespace, and the threads that the mounter has in it. */
export interface Here {
  /** tells it from others: the unique id of its root's mount (before Linux 6.8 the namespace's inode) */
  readonly namespace: number
  /** threads that make mounts */
  readonly composing: Pool
  /** threads that take them down: they wait for grace periods */
  readonly reaping: Pool
  /** threads that go to other mount namespaces: what is there may hold them for ever, and nobody else then */
  readonly visiting: Pool
  /** how many programs of mounts are under way */
  readonly mounting: number
}

/** The staging namespace for as long as somebody may be in it, and the trees that are kept there. */
export interface StageLease {
  readonly staging: Staging
  /** as `Host.mapping`, and the same without one: its trees are attached there */
  mapping(idmap: Idmap | undefined): MappingLease
  /** takes trees over that are attached there, and takes them down soon */
  takeDown(trees: readonly number[]): void
  release(): void
}

/** Where a stack, or a call, has its lease, once it has needed one. */
export interface StageHold {
  lease: StageLease | undefined
}

export interface Host {
  readonly features: Features
  readonly rung: RungChoice
  /** what its overlays have as their source; undefined where /proc does not tell who we are */
  readonly mark: string | undefined
  /** images that are mounted, shared by those who use the same */
  readonly images: ImageCache
  /** fds of layers that stacks may keep */
  readonly budget: FdBudget
  /** the caller's mount namespace, looked up anew: asked once per operation */
  here(): Here
  /** threads that take down in a mount namespace: those it has, or the caller's if he is in it */
  reapingIn(namespace: number): Pool | undefined
  /** throws if so many more mounts than the mounter lets wait would wait */
  admit(here: Here, mounts?: number): void
  /** the user namespace and the trees of a mapping, shared with others that use the same */
  mapping(idmap: Idmap): MappingLease
  /**
   * the staging namespace of a mount namespace, made if it is not there; undefined if a call for it is missing, and
   * then the features lack it from now on
   *
   * @param need what it is for
   * @throws RungError if a call was refused this time; what was asked for needs it
   */
  stage(here: Here, need: Need): Flow<StageLease | undefined>
  /** takes fds over and closes them soon */
  discard(leftovers: Leftovers): void
  /** runs a plan that takes something down, and nobody waits for it */
  later(plan: Plan): void
  /** closes everything that was discarded, as the flow goes on */
  flush(): Flow<void>
  /** a call was refused as not there: true if the next plan will do without it */
  lacks(error: MountError): boolean
}
