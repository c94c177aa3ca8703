/**
 * What a call would do: its plans in order, and what they cost together.
 *
 * Explaining needs no right and no kernel that could do it: fds that would be opened are printed by name.
 */
import { type Features, withChanges } from '../host/features.js'
import { type Cost, costOf } from '../program/cost.js'
import { held, type Plan } from '../program/plan.js'
import type { Identity } from '../program/result.js'
import type { Step } from '../program/step.js'
import { relativeTo } from './bytes.js'
import { planCheckUpper } from './check-upper.js'
import { choose, isStaged, type RungChoice, type RungName } from './choose.js'
import { planImages } from './images.js'
import type { OpenLayers } from './layers.js'
import { type Look, planLook } from './look.js'
import { layerOf, ungrouped } from './open.js'
import { markShape } from './owner-mark.js'
import { needOf, nothingKept, planMount } from './plan-mount.js'
import { planDiscard } from './reap.js'
import type { MountSpec, StackSpec } from './spec.js'
import { assumedStage, assumedStaging, planUnstage, type Staging } from './staging.js'
import { candidates, layerName, planTrees, type Seen, treeName } from './trees.js'

/** A rung, its plans, and their cost. `String(explanation)` prints all of it. */
export class Explanation {
  /** the rung that was chosen */
  readonly rung: RungName
  /** in the order in which they run; each is one native call */
  readonly plans: readonly Plan[]

  readonly #notes: readonly string[]

  /** `notes`: what is to be said besides what the plans say themselves. */
  constructor(rung: RungName, plans: readonly Plan[], notes: readonly string[] = []) {
    this.rung = rung
    this.plans = plans
    this.#notes = notes
  }

  /** What a successful run costs, all plans together. */
  get cost(): Cost {
    return costOf(this.plans)
  }

  /** What the rung cannot promise, and what was passed over. */
  get notes(): readonly string[] {
    return [...new Set([...this.#notes, ...this.plans.flatMap(({ notes }) => notes)])]
  }

  /** Every system call, in order. */
  get steps(): readonly Step[] {
    return this.plans.flatMap(({ steps }) => steps)
  }

  toString(): string {
    return [...this.#notes.map((note) => `note: ${note}`), ...this.plans.map(String)].join('\n')
  }

  toJSON(): object {
    return { rung: this.rung, cost: this.cost, notes: this.notes, plans: this.plans }
  }
}

/** What is to be said where this process could not do what is explained. */
export const mayNotMount = ({ mayMount, reasons }: Features): string[] => {
  const why = reasons['mayMount']
  return mayMount ? [] : [`this process may not mount${why === undefined ? '' : `: ${why}`}`]
}

/** A stand-in: every layer on one mount, none of them a symbolic link, nothing cached. */
function assumeSeen(spec: StackSpec): Seen[] {
  return spec.layers.map((layer, i) => {
    const identity: Identity = { dev: 0n, ino: 0n, mountId: 0n }
    const name = `${'image' in layer ? 'image ' : ''}${layerName(spec, i)}`
    return { identity, path: 'path' in layer ? layer.path : undefined, fd: held(-1, name) }
  })
}

/**
 * Explains a call of mountOverlay from nothing: layers opened, mounted, and closed again. That this process may
 * not mount is a note, no obstacle: what would be done is the same.
 */
export function explainOverlay(
  spec: { stack: StackSpec; mount: MountSpec },
  found: Features,
  rungChoice: RungChoice,
): Explanation {
  const { stack, mount } = spec
  const features = withChanges(found, { mayMount: true })
  const notes = mayNotMount(found)
  const need = needOf(stack, mount)
  const { rung } = choose(need, features, rungChoice)
  const seen = assumeSeen(stack)
  const look = planLook(stack, features)
  const plans: Plan[] = [look.plan]
  if (need.images) plans.push(assumeImages(stack, look, features))
  const staging = isStaged(rung) ? assumedStaging : undefined
  const layers =
    stack.idmap || staging ? assumeTrees(stack, seen, features, plans, staging) : ungrouped(stack, seen)
  const base = {
    spec: stack,
    layers,
    top: () => ({ mode: 0o755, uid: 0, gid: 0, xattrs: [] }),
    kept: nothingKept(),
    stage: { lease: assumedStage },
  }
  const opened = plans.flatMap(({ outputs }) => outputs)
  const own = opened.filter(({ name }) => name.startsWith('tree of ') || name.startsWith('image ')).length
  const { composition } = planMount({ features, rung: rungChoice, mark: markShape }, base, mount)
  const trees = own + composition.outputs.filter(({ kind }) => kind === 'tree').length
  if (mount.checkUpper) plans.push(planCheckUpper(mount, features))
  plans.push(composition.plan)
  const fds = Array(opened.length - own).fill(0)
  if (staging) {
    if (own > 0) plans.push(planUnstage(staging, Array(own).fill(0)))
    notes.push('the staging namespace is made at its first use, which is not counted')
  }
  plans.push(planDiscard({ fds, trees: staging ? [] : Array(trees).fill(0) }))
  return new Explanation(rung, plans, notes)
}

/** None of them is mounted already. */
function assumeImages(spec: StackSpec, { images }: Look, features: Features): Plan {
  const wanted = [...images].map(([layer, files]) => ({
    layer,
    files: files.map(({ name }) => held(-1, name)),
  }))
  return planImages(spec, wanted, features).plan
}

function assumeTrees(
  spec: StackSpec,
  seen: readonly Seen[],
  features: Features,
  plans: Plan[],
  staging: Staging | undefined,
): OpenLayers {
  const wanted = candidates(seen)
  const joined = new Set(wanted.flatMap(({ members }) => members))
  const alone = seen.map((_, i) => i).filter((i) => !joined.has(i))
  const idmap = spec.idmap
  const trees = planTrees({
    spec,
    features,
    seen,
    candidates: wanted,
    alone,
    idmap,
    lease: undefined,
    staging,
  })
  plans.push(trees.plan)
  const list = seen.map((layer, i) => {
    const group = wanted.findIndex(({ members }) => members.includes(i))
    const name = group < 0 ? undefined : relativeTo(wanted[group]!.parent, layer.path!)
    return layerOf(spec, i, layer, {
      fd: group < 0 ? held(-1, treeName(layerName(spec, i))) : layer.fd,
      group: group < 0 ? wanted.length + alone.indexOf(i) : group,
      name,
    })
  })
  const roots = [...wanted.map(({ parent }) => parent.toString()), ...alone.map((i) => layerName(spec, i))]
  return {
    list,
    groups: roots.map((root) => ({ root: held(-1, root) })),
    idmapped: idmap !== undefined,
    staged: staging !== undefined,
    userns: idmap && held(-1, 'userns'),
  }
}
