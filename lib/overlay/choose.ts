/**
 * Chooses the rung: the first in the table that applies to the spec and that this kernel can do.
 *
 * A table of predicates over probed behaviour. A rung that cannot be used says in one sentence which
 * feature is missing, and that sentence is what the caller gets when none is left or one was forced.
 */
import { invalidArgValue } from '../errors.js'
import type { Features } from '../host/features.js'

/** The ways to compose, best first. */
export const rungs = ['detached-tree', 'direct', 'staged', 'staged-classic', 'classic'] as const
/** A way to compose; what each needs and costs is in the README. */
export type RungName = (typeof rungs)[number]
/** A rung's name, or `'auto'`: the first that works. */
export type RungChoice = RungName | 'auto'

/** Rungs that make their overlays in a staging namespace. */
export const isStaged = (rung: RungName | undefined): boolean =>
  rung === 'staged' || rung === 'staged-classic'

/** What of a spec decides which rungs apply. */
export interface Need {
  readonly idmap: boolean
  readonly detached: boolean
  /** layers are erofs images */
  readonly images?: boolean
  /** attached in another mount namespace than the caller's */
  readonly inside?: boolean
  /** one layer and no upper: a clone of it */
  readonly clone?: boolean
  /** propagation is set */
  readonly propagation?: boolean
}

/** A sentence that says why a rung does not serve; undefined if it does. */
type Obstacle = (need: Need, features: Features, isForced: boolean) => string | undefined

/** Which of these features are missing, in a sentence. */
export const missing = (features: Features, names: readonly (keyof Features)[]): string | undefined => {
  const absent = [...new Set(names)].filter((name) => features[name] === false)
  if (absent.length === 0) return undefined
  const list = absent.map((name) => `${name} is missing (${features.reasons[name] ?? 'not there'})`)
  return list.join(', ')
}

/** What sets the attributes of a clone: one call does both, and where that is missing another one. */
const clonesWith = ({ openTreeAttr, mountSetattr }: Features): readonly (keyof Features)[] =>
  openTreeAttr || mountSetattr ? [] : ['openTreeAttr', 'mountSetattr']

const noImages = 'it takes no erofs images: they are mounted detached'

/** What a staging namespace needs, and a tree in it. */
const staging = [
  'overlay',
  'mayMount',
  'fsContext',
  'openTree',
  'mountSetattr',
  'openat2',
  'mountNamespaces',
  'ownDirectory',
] as const satisfies readonly (keyof Features)[]

/** What entering another mount namespace needs, and a target that is looked up there. */
export const visiting = [
  'openat2',
  'mountNamespaces',
  'ownDirectory',
] as const satisfies readonly (keyof Features)[]

const obstacles: Readonly<Record<RungName, Obstacle>> = {
  'detached-tree': (need, features) => {
    if (!need.idmap) return 'it is for idmapped layers, and there is no idmap'
    const why = missing(features, [
      'overlay',
      'mayMount',
      'fsContext',
      'openTree',
      'detachedLayers',
      ...clonesWith(features),
      ...(need.propagation ? (['mountSetattr'] as const) : []),
      'appendLayers',
      'layersByFd',
      'openat2',
      ...(need.inside ? visiting : []),
    ])
    return features.detachedLayers ? why : `${why}; idmapped layers need Linux 6.15`
  },
  direct: (need, features) =>
    need.idmap
      ? 'it does not idmap'
      : missing(features, [
          'overlay',
          'mayMount',
          'fsContext',
          ...(need.clone ? (['openTree', ...clonesWith(features)] as const) : (['appendLayers'] as const)),
          ...(need.propagation ? (['mountSetattr'] as const) : []),
          ...(need.inside ? visiting : []),
        ]),
  staged: (need, features, isForced) => {
    if (need.images) return noImages
    if (!need.idmap && !isForced) return 'without an idmap it only costs more'
    return missing(features, [...staging, 'appendLayers'])
  },
  // without an idmap: for a mount that stays detached, which mount(2) alone cannot make
  'staged-classic': (need, features, isForced) => {
    if (need.images) return noImages
    if (!need.idmap && !need.detached && !isForced) return 'without an idmap it only costs more'
    return missing(features, staging)
  },
  classic: (need, features) => {
    if (need.idmap) return 'mount(2) does not idmap'
    if (need.detached) return 'mount(2) needs a target: it attaches what it makes'
    if (need.inside) return 'mount(2) attaches what it makes, in the namespace where the layers are'
    return missing(features, ['overlay', 'mayMount'])
  },
}

/** An image is mounted detached, so it takes what layers in detached mounts take, on whatever rung. */
function imageObstacle({ images }: Need, features: Features): string | undefined {
  const why = images ? missing(features, ['fsContext', 'erofsImages', 'detachedLayers']) : undefined
  // the first: a rung that needs no fs context needs one for its images
  return why && `${why}; erofs images as layers need Linux 6.15`
}

const obstacleOf = (rung: RungName, need: Need, features: Features, choice: RungChoice) =>
  obstacles[rung](need, features, choice !== 'auto') ?? imageObstacle(need, features)

/** Thrown when no rung serves, or the forced one does not. */
export class RungError extends Error {
  /** always this one */
  readonly code = 'ERR_OVERLAYFD_RUNG'
  /** why each rung that was looked at does not serve */
  readonly obstacles: Readonly<Record<string, string>>

  constructor(message: string, reasons: Readonly<Record<string, string>>) {
    super(message)
    this.name = 'RungError'
    this.obstacles = reasons
  }
}

export interface Choice {
  readonly rung: RungName
  /** why better rungs were passed over; not what the spec itself rules out */
  readonly notes: readonly string[]
}

/** The same by other calls. */
const detour = (rung: RungName, features: Features): string[] =>
  rung === 'detached-tree' && !features.openTreeAttr
    ? [`${missing(features, ['openTreeAttr'])}: open_tree and mount_setattr, a call more for each tree`]
    : []

/** The rung for a spec, and what is to be said about the choice. */
export function choose(need: Need, features: Features, choice: RungChoice): Choice {
  const reasons: Record<string, string> = {}
  const candidates = choice === 'auto' ? rungs : [choice]
  for (const rung of candidates) {
    const obstacle = obstacleOf(rung, need, features, choice)
    if (obstacle === undefined) {
      const passed = Object.entries(reasons).filter(([, why]) => why.includes('missing'))
      const notes = passed.map(([name, why]) => `rung ${name} was passed over: ${why}`)
      return { rung, notes: [...notes, ...detour(rung, features)] }
    }
    reasons[rung] = obstacle
  }
  const list = Object.entries(reasons).map(([rung, why]) => `${rung}: ${why}`)
  const message =
    choice === 'auto'
      ? // what no rung can do without is one reason, not one for each of them
        `no rung can compose this: ${missing(features, ['overlay', 'mayMount']) ?? list.join('; ')}`
      : `rung ${choice} cannot compose this: ${reasons[choice]}`
  throw new RungError(message, reasons)
}

/** The rung that `choose` would take, if there is one. */
export function serves(need: Need, features: Features, choice: RungChoice): RungName | undefined {
  const candidates = choice === 'auto' ? rungs : [choice]
  return candidates.find((rung) => obstacleOf(rung, need, features, choice) === undefined)
}

/** Checks a rung's name from an option or from OVERLAYFD_RUNG. */
export function parseRung(value: unknown, name: string): RungChoice {
  if (value === undefined || value === '') return 'auto'
  if (value === 'auto' || rungs.some((rung) => rung === value)) return value as RungChoice
  throw invalidArgValue(name, value, `must be one of 'auto', '${rungs.join("', '")}'`)
}
