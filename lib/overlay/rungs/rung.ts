/** What every rung is given and what it answers: the seam between choosing and planning. */
import type { Features } from '../../host/features.js'
import type { Idmap } from '../../idmap.js'
import type { Fragment, Plan } from '../../program/plan.js'
import type { Slot, Step } from '../../program/step.js'
import type { OpenLayers, TopAttributes } from '../layers.js'
import type { Planned } from '../spec.js'
import type { Staging } from '../staging.js'

export interface RungInput {
  readonly layers: OpenLayers
  readonly spec: Planned
  /** the mapping of this mount, its own or the stack's */
  readonly idmap: Idmap | undefined
  readonly top: TopAttributes
  readonly features: Features
  /** source of the overlay: who made it (owner-mark.ts) */
  readonly mark?: string | undefined
  /** how many holes the spec has */
  readonly holes: number
  /** with `create`, make the directories above too */
  readonly parents: boolean
  /** with `create`, finish an upper that was found unfinished */
  readonly unfinished: boolean
  /** notes of the choice */
  readonly notes: readonly string[]
  /** the encoded layers of earlier mounts of the same stack, by what made them */
  readonly fragments: Map<string, Fragment>
  /** the staging namespace, of the rungs that need one */
  readonly staging?: Staging | undefined
}

/** A planned mount: the plan, and which of its steps and outputs mean what. */
export interface Composition {
  readonly plan: Plan
  /** reports the mount's id */
  readonly identity: Step
  /** the outputs of the plan, in order */
  readonly outputs: readonly Output[]
  /** an overlay of its own, or a clone of a layer */
  readonly kind: 'overlay' | 'clone'
}

export interface Output {
  readonly slot: Slot
  readonly kind: 'mount' | 'tree' | 'namespace'
}

/** A fragment made once per stack and encoded once. */
export function cachedFragment(
  fragments: Map<string, Fragment>,
  key: string,
  make: () => Fragment,
): Fragment {
  const fragment = fragments.get(key) ?? make()
  fragments.set(key, fragment)
  return fragment
}

export const cloneNote = 'one layer and no upperdir: the mount is a read-only clone of that layer, no overlay'
export const propagationNote =
  'propagation is set after the attach: below a shared parent, copies have reached its peers by then'
