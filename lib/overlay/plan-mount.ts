/**
 * Plans a mount of open layers, or finds the plan of an earlier one that differs in its paths only.
 *
 * Mounts of one stack mostly have one shape: the same options, and paths of their own. The plan of a shape is
 * made once, with holes for the paths (and for the texts of a mapping of the mount's own, and of SELinux contexts);
 * what is left to do for each mount is to fill them. Shapes whose plans look into the paths are planned each time.
 */
import type { Features } from '../host/features.js'
import { type Idmap, isMapped } from '../idmap.js'
import type { Fragment } from '../program/plan.js'
import type { Fill, Hole } from '../program/step.js'
import { lastName } from './bytes.js'
import { choose, isStaged, type Need, type RungName } from './choose.js'
import type { Host, StageHold } from './host.js'
import type { OpenLayers, TopAttributes } from './layers.js'
import { checkHere, optionNotes } from './options.js'
import * as classic from './rungs/classic.js'
import * as detachedTree from './rungs/detached-tree.js'
import * as direct from './rungs/direct.js'
import type { Composition, RungInput } from './rungs/rung.js'
import * as staged from './rungs/staged.js'
import * as stagedClassic from './rungs/staged-classic.js'
import { imageCount, type MountSpec, type Planned, type StackSpec } from './spec.js'
import { adaptOptions } from './userxattr.js'

const planners: Readonly<Record<RungName, (input: RungInput) => Composition>> = {
  'detached-tree': detachedTree.plan,
  direct: direct.plan,
  staged: staged.plan,
  'staged-classic': stagedClassic.plan,
  classic: classic.plan,
}

/** Open layers, and what is kept between mounts from them. */
export interface Base {
  readonly spec: StackSpec
  layers: OpenLayers
  /** for an upper that may have to be made */
  readonly top: (upperdir: Uint8Array) => TopAttributes
  readonly kept: Kept
  /** the lease of the staging namespace, once a rung has needed one */
  readonly stage: StageHold
}

/** Thrown by planning: the rung that was chosen works in a staging namespace, and `Base.stage` has none yet. */
export class StageNeeded extends Error {}

/** What of earlier plans serves later ones, as long as the layers are the same. */
export interface Kept {
  /** what the fragments were made for */
  features: Features | undefined
  readonly fragments: Map<string, Fragment>
  readonly templates: Map<Shape, Template>
}

export const nothingKept = (): Kept => ({
  features: undefined,
  fragments: new Map(),
  templates: new Map(),
})

type Shape = string | number

/** What of a mount decides which rungs apply. */
export const needOf = (stack: StackSpec, spec: Planned): Need => ({
  idmap: (spec.idmap ?? stack.idmap) !== undefined,
  detached: spec.target === undefined,
  images: imageCount(stack) > 0,
  inside: spec.inside !== undefined,
  clone: stack.layers.length === 1 && spec.upperdir === undefined,
  propagation: spec.propagation !== undefined,
})

/** What of a host the planning needs. */
type Planner = Pick<Host, 'features' | 'rung'> & Partial<Pick<Host, 'mark'>>

interface Template {
  readonly planned: PlannedMount
  readonly features: Features
  readonly top: TopAttributes
}

export interface PlannedMount {
  readonly rung: RungName
  readonly composition: Composition
  /** of a plan with holes */
  readonly fills?: readonly Fill[]
}

const unknownTop: TopAttributes = { mode: 0o755, uid: 0, gid: 0, xattrs: [] }

const topOf = (base: Base, spec: MountSpec): TopAttributes =>
  spec.create && spec.upperdir ? base.top(spec.upperdir) : unknownTop

/**
 * The plan of a mount, without holes; pure but for reading /proc/PID/uid_map of a user namespace given by path.
 *
 * @param missing with `create`: make the directories above too; finish an upper that is there
 */
export function planMount(
  host: Planner,
  base: Base,
  asked: MountSpec,
  missing: { readonly parents?: boolean; readonly unfinished?: boolean } = {},
): PlannedMount {
  const spec = withoutSame(asked, base)
  return plan(host, base, spec, spec.idmap ?? base.spec.idmap, topOf(base, spec), missing)
}

/** The same, with a plan that was made before if there is one. */
export function planWarm(host: Planner, base: Base, asked: MountSpec): PlannedMount {
  const spec = withoutSame(asked, base)
  // a staged upper is looked up below the directory above it, so the plan depends on the paths
  const shape = base.stage.lease && spec.upperdir ? undefined : shapeOf(spec)
  if (shape === undefined) return planMount(host, base, spec)
  const { features } = host
  const top = topOf(base, spec)
  let template = base.kept.templates.get(shape)
  if (template === undefined || template.features !== features || template.top !== top) {
    const { holes, planned } = withHoles(spec)
    // a mapping that differs from mount to mount is not to be looked into
    const idmap = spec.idmap ? undefined : base.spec.idmap
    template = { planned: plan(host, base, planned, idmap, top, { holes }), features, top }
    base.kept.templates.set(shape, template)
  }
  const { rung, composition } = template.planned
  return { rung, composition, fills: fillsOf(spec, rung) }
}

function plan(
  { features, rung: choice, mark }: Planner,
  { spec: stack, layers, kept, stage }: Base,
  spec: Planned,
  idmap: Idmap | undefined,
  top: TopAttributes,
  { parents = false, unfinished = false, holes = 0 },
): PlannedMount {
  if (kept.features !== features) {
    kept.fragments.clear()
    kept.features = features
  }
  const { rung, notes } = choose(needOf(stack, spec), features, choice)
  const staging = isStaged(rung) ? stage.lease?.staging : undefined
  if (isStaged(rung) && staging === undefined) throw new StageNeeded()
  const isOverlay = layers.list.length > 1 || spec.upperdir !== undefined
  checkHere(spec.options, features, 'options.options')
  const adapted = isOverlay ? adaptOptions(spec.options, features) : { options: spec.options, notes: [] }
  const ownNotes = optionNotes(spec.options, features, spec.upperdir !== undefined)
  const ownHoles = spec.targetName && !wantsTargetName(spec, rung) ? holes - 1 : holes
  const input: RungInput = {
    layers,
    spec: { ...spec, options: adapted.options },
    idmap,
    top,
    features,
    mark,
    parents,
    unfinished,
    notes: [...notes, ...adapted.notes, ...ownNotes],
    holes: ownHoles,
    fragments: kept.fragments,
    staging,
  }
  return { rung, composition: planners[rung](input) }
}

/** It has a hole of its own then, the last one. */
const wantsTargetName = ({ create }: Pick<MountSpec, 'create'>, rung: RungName): boolean =>
  create || rung === 'classic'

/** The stack's own mapping, asked for again, needs no tree of its own. */
function withoutSame(spec: MountSpec, { spec: { idmap: own } }: Base): MountSpec {
  const { idmap } = spec
  if (!idmap || !own || !isMapped(idmap) || !isMapped(own) || idmap.key !== own.key) return spec
  return { ...spec, idmap: undefined }
}

/** What mounts have in common that may share a plan; undefined if the plan depends on more than that. */
function shapeOf(spec: MountSpec): Shape | undefined {
  const { upperdir, target, inside, idmap, upper, create, options, attributes, propagation } = spec
  if (upper === 'idmapped') return undefined
  if (idmap !== undefined && (!isMapped(idmap) || upper !== 'asis' || create)) return undefined
  // what create makes is known again by its owner
  const owner = create ? (process.geteuid?.() ?? 0) : 0
  const flags =
    128 * owner +
    ((upperdir ? 1 : 0) |
      (target ? 2 : 0) |
      (idmap ? 4 : 0) |
      (upper === 'shifted' ? 8 : 0) |
      (create ? 16 : 0) |
      (options.userxattr === false ? 32 : 0) |
      (inside ? 64 : 0))
  const { mountAttr, ms } = attributes
  // most mounts: a number is found sooner than a text is made
  if (options.list.length === 0 && (mountAttr | ms) === 0 && propagation === undefined) return flags
  const texts = options.list.map(({ key, value, isText }) => (isText ? key : `${key}\0${value}`))
  return [flags, options.resetVolatile, mountAttr, ms, propagation, ...texts].join('\0')
}

/** The paths and texts in the order of the holes. */
function fillsOf(spec: MountSpec, rung: RungName): Fill[] {
  const { upperdir, workdir, target, inside, idmap, options, create } = spec
  const fills: Fill[] = []
  if (upperdir && workdir) fills.push(upperdir, workdir)
  if (inside) fills.push(inside.namespace, inside.above, inside.name)
  else if (target) fills.push(target)
  if (idmap && isMapped(idmap)) fills.push(idmap.uidMap, idmap.gidMap)
  for (const { value, isText } of options.list) if (isText) fills.push(value!)
  if (create && upperdir && workdir) fills.push(lastName(upperdir), lastName(workdir))
  if (target && !inside && wantsTargetName(spec, rung)) fills.push(lastName(target))
  return fills
}

function withHoles(spec: MountSpec): { holes: number; planned: Planned } {
  let holes = 0
  const hole = (name: string): Hole => ({ hole: holes++, name })
  const upper = spec.upperdir && { upperdir: hole('upperdir'), workdir: hole('workdir') }
  const target = spec.target && (spec.inside ? insideHoles(hole) : { target: hole('target') })
  const idmap = spec.idmap && { idmap: { uidMap: hole('uid_map'), gidMap: hole('gid_map') } }
  const list = spec.options.list.map((each) => (each.isText ? { ...each, value: hole(each.key) } : each))
  const options = { ...spec.options, list }
  const upperNames = spec.create &&
    upper && { upperName: hole('name of upperdir'), workName: hole('name of workdir') }
  const targetName = spec.target && !spec.inside && { targetName: hole('name of target') }
  return { planned: { ...spec, ...upper, ...target, ...idmap, options, ...upperNames, ...targetName }, holes }
}

/** The path as a whole is in no step of theirs. */
const insideHoles = (hole: (name: string) => Hole): Pick<Planned, 'inside'> => ({
  inside: {
    namespace: hole('target.mountNamespace'),
    above: hole('directory above target.path'),
    name: hole('name of target.path'),
  },
})
