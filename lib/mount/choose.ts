/**
 * By fd or by mount(2): bind mounts and tmpfs know these two ways. Any rung but classic means by fd, so that a Mounter
 * whose rung is forced for its overlays can mount them too; `'auto'` falls back where the calls are missing.
 */
import type { Features } from '../host/features.js'
import { missing, type RungChoice, RungError } from '../overlay/choose.js'
import { isInDetached, isInside } from './place.js'
import type { BindSpec, TargetSpec } from './spec.js'

export type Way = 'direct' | 'classic'

/** What of a spec decides. */
export interface Need {
  readonly clones: boolean
  /** mount_setattr(2) is needed for it by fd */
  readonly setsAttributes: boolean
  readonly setsAttributesBelow: boolean
  readonly idmap: boolean
  readonly detached: boolean
  readonly inside: boolean
  readonly inDetached: boolean
  readonly beneath: boolean
}

export function needOf(spec: TargetSpec | BindSpec): Need {
  const bind = 'source' in spec ? spec : undefined
  const { target } = spec
  const source = bind && !('fd' in bind.source) && isInside(bind.source)
  return {
    clones: bind !== undefined,
    setsAttributes: bind !== undefined || spec.propagation !== undefined,
    setsAttributesBelow: bind?.recursiveAttributes ?? false,
    idmap: bind?.idmap !== undefined,
    detached: target === undefined,
    inside: source === true || (target !== undefined && isInside(target)),
    inDetached: target !== undefined && isInside(target) && isInDetached(target.reach),
    beneath: spec.beneath,
  }
}

function obstacle(way: Way, need: Need, features: Features): string | undefined {
  const inside: (keyof Features)[] = need.inside ? ['openat2'] : []
  if (way === 'direct') {
    const setattr: (keyof Features)[] = need.setsAttributes ? ['mountSetattr'] : []
    const clone: (keyof Features)[] = need.clones ? ['openTree'] : []
    return missing(features, ['mayMount', 'fsContext', ...clone, ...setattr, ...inside])
  }
  if (need.idmap) return 'mount(2) does not idmap'
  if (need.detached) return 'mount(2) needs a target: it attaches what it makes'
  if (need.inDetached) return 'mount(2) reaches nothing inside a detached mount'
  if (need.beneath) return 'mount(2) attaches nothing beneath another mount'
  if (need.setsAttributesBelow) {
    return 'mount(2) sets the attributes of one mount: for the mounts below it takes mount_setattr(2), or attributes.recursive: false'
  }
  return missing(features, ['mayMount', ...inside])
}

/** @throws RungError if neither serves, or the forced one does not */
export function chooseWay(
  need: Need,
  features: Features,
  choice: RungChoice,
): { readonly way: Way; readonly notes: readonly string[] } {
  const ways: readonly Way[] =
    choice === 'auto' ? ['direct', 'classic'] : choice === 'classic' ? ['classic'] : ['direct']
  const reasons: Record<string, string> = {}
  for (const way of ways) {
    const why = obstacle(way, need, features)
    if (why === undefined) {
      return {
        way,
        notes: Object.entries(reasons).map(([name, text]) => `rung ${name} was passed over: ${text}`),
      }
    }
    reasons[way] = why
  }
  const list = Object.entries(reasons).map(([name, why]) => `${name}: ${why}`)
  throw new RungError(`no rung can mount this: ${list.join('; ')}`, reasons)
}
