/**
 * Opens the layers of a stack: which directories they are, what joins which tree, and an fd of each.
 *
 * A name alone is no proof: below a clone, a mount point shows what is under the mount, and an absolute
 * symbolic link leads out of it (both seen on Linux 6.18; the overlay is made without an error). So each
 * layer is opened below the tree and compared with what the caller sees, and what differs gets a tree of
 * its own.
 */
import type { Flow } from '../program/flow.js'
import { type Outcome, UnexpectedError } from '../program/outcome.js'
import { held } from '../program/plan.js'
import type { Pool } from '../program/pool.js'
import { type Identity, identityOf } from '../program/result.js'
import type { Slot } from '../program/step.js'
import { relativeTo } from './bytes.js'
import type { Here, Host, StageHold, StageLease } from './host.js'
import type { ImageLease, OpenImage } from './image-cache.js'
import { openImages } from './images.js'
import type { Group, OpenLayer, OpenLayers, TopAttributes } from './layers.js'
import { lookAtLayers } from './look.js'
import type { MappingLease } from './mappings.js'
import { imageAt, layerSubject, type StackSpec } from './spec.js'
import type { Staging } from './staging.js'
import {
  type Candidate,
  candidates,
  layerName,
  planTrees,
  type Seen,
  type TreesPlan,
  treeName,
} from './trees.js'

/** Layers that are open, and what has to be closed with them. */
export interface Opened {
  readonly layers: OpenLayers
  readonly top: Pick<TopAttributes, 'mode' | 'uid' | 'gid'>
  /** the top layer as the caller sees it, among `fds` or of an image: through an idmapped tree not all of it can be read */
  readonly topFd: number
  readonly fds: readonly number[]
  /** of layers that have one of their own; what layers share belongs to the lease */
  readonly trees: readonly number[]
  readonly lease: MappingLease | undefined
  /** of layers that are images */
  readonly images: readonly ImageLease[]
  readonly stage: StageHold
}

export interface OpenOptions {
  /** where the call began: the caller may have moved on by the time that a stage is there */
  readonly here: Here
  /** also without an idmap, find out which layers can share a tree: for mounts with mappings of their own */
  readonly grouped: boolean
  /** no fd is kept of a layer that can be reached by its name below its group's directory */
  readonly byName: boolean
  /** idmapped trees are attached in its staging namespace; the lease is the caller's until this ends well */
  readonly stage?: StageLease | undefined
}

/** Opens the layers. */
export function* openLayers(
  host: Host,
  spec: StackSpec,
  { here, grouped, byName, stage: stageLease }: OpenOptions,
): Flow<Opened> {
  const pool = here.composing
  const look = yield* lookAtLayers(host, pool, spec)
  const own: Owned = { fds: new Set(look.fds), trees: [] }
  let images: ReadonlyMap<number, ImageLease> = new Map()
  const stage: StageHold = { lease: stageLease }
  let lease: MappingLease | undefined
  const opened = (layers: OpenLayers, { fd }: Seen, top: Opened['top']): Opened => ({
    layers,
    top,
    topFd: fd.fd,
    fds: [...own.fds],
    trees: own.trees,
    lease,
    images: [...images.values()],
    stage,
  })
  try {
    if (look.images.length > 0) images = yield* openImages(host, pool, spec, look.images)
    const seen = spec.layers.map((_, i) => look.seen[i] ?? seenImage(images.get(i)!.image))
    const top = images.get(0)?.image.top ?? look.top!
    if (!spec.idmap && !grouped && !stageLease) return opened(ungrouped(spec, seen), seen[0]!, top)
    lease = stageLease ? stageLease.mapping(spec.idmap) : spec.idmap && host.mapping(spec.idmap)
    const joining = new Joining(spec, seen, lease, own, byName, stageLease?.staging)
    yield* joining.run(host, pool)
    const topFd = seen[0]!.fd.fd
    const drop = joining.unused().filter((fd) => fd !== topFd)
    for (const fd of drop) own.fds.delete(fd)
    host.discard({ fds: drop })
    return opened(joining.layers(), seen[0]!, top)
  } catch (error) {
    discardOwned(host, { fds: [...own.fds], trees: own.trees, stage })
    for (const image of images.values()) image.release(false)
    lease?.release(false)
    throw error
  }
}

/** Gives back what opening took; `linger` keeps for a moment what the next call may want. */
export function closeOpened(host: Host, opened: Opened, linger: boolean): void {
  const { lease, images, stage } = opened
  discardOwned(host, opened)
  lease?.release(linger)
  for (const image of images) image.release(linger)
  stage.lease?.release()
}

function discardOwned(host: Host, { fds, trees, stage }: Pick<Opened, 'fds' | 'trees' | 'stage'>): void {
  if (stage.lease) stage.lease.takeDown(trees)
  host.discard(stage.lease ? { fds } : { fds, trees })
}

const seenImage = ({ identity, fd }: OpenImage): Seen => ({ identity, path: undefined, fd })

/** What a stack being opened has to close if that fails, or when it is closed. */
interface Owned {
  readonly fds: Set<number>
  readonly trees: number[]
}

/** Layers for mounts without a mapping: every one by the caller's own fd. */
export function ungrouped(spec: StackSpec, seen: readonly Seen[]): OpenLayers {
  return {
    list: seen.map((layer, i) => layerOf(spec, i, layer, { fd: layer.fd, group: i, name: undefined })),
    groups: seen.map(({ fd }) => ({ root: fd })),
    idmapped: false,
    staged: false,
    userns: undefined,
  }
}

export function layerOf(
  spec: StackSpec,
  index: number,
  { identity, mountFlags }: Pick<Seen, 'identity' | 'mountFlags'>,
  reached: Pick<OpenLayer, 'fd' | 'group' | 'name'>,
): OpenLayer {
  const subject = layerSubject(spec, index)
  const key = subject.option === 'datadir' ? 'datadir+' : 'lowerdir+'
  return { subject, key, identity, mountFlags, ...reached, isImage: imageAt(spec, index) !== undefined }
}

/** Layers on their way into groups. Every fd that comes up is in `own` at once, whatever happens next. */
class Joining {
  readonly #spec: StackSpec
  readonly #seen: readonly Seen[]
  readonly #lease: MappingLease | undefined
  readonly #own: Owned
  readonly #byName: boolean
  readonly #staging: Staging | undefined
  readonly #list: OpenLayer[] = []
  readonly #groups: Group[] = []

  constructor(
    spec: StackSpec,
    seen: readonly Seen[],
    lease: MappingLease | undefined,
    own: Owned,
    byName: boolean,
    staging: Staging | undefined,
  ) {
    this.#spec = spec
    this.#seen = seen
    this.#lease = lease
    this.#own = own
    this.#byName = byName
    this.#staging = staging
  }

  *run({ features }: Host, pool: Pool): Flow<void> {
    const seen = this.#seen
    let wanted = candidates(seen)
    const joined = new Set(wanted.flatMap(({ members }) => members))
    let alone = seen.map((_, i) => i).filter((i) => !joined.has(i))
    while (wanted.length > 0 || alone.length > 0) {
      const { idmap } = this.#spec
      const trees = planTrees({
        spec: this.#spec,
        features,
        seen,
        candidates: wanted,
        alone,
        idmap,
        lease: this.#lease,
        staging: this.#staging,
      })
      let outcome: Outcome
      try {
        outcome = yield { plan: trees.plan, pool, abortable: true }
      } catch (error) {
        const stale = staleTree(error, trees, wanted)
        if (stale === undefined) throw error
        this.#lease?.dropTree(stale)
        continue
      }
      const failed = this.#take(trees, wanted, alone, outcome)
      wanted = []
      alone = failed
    }
  }

  /** Puts layers into groups; answers those that are not what their name shows below the group's root. */
  #take(
    trees: TreesPlan,
    wanted: readonly Candidate[],
    alone: readonly number[],
    outcome: Outcome,
  ): number[] {
    const fds = new Map(trees.outputs.map((slot, i) => [slot, outcome.outputs[i]!]))
    const treeSlots = new Set([
      ...trees.groups.map(({ tree }) => tree),
      ...trees.alone.values(),
      trees.userns,
    ])
    for (const [slot, fd] of fds) if (fd >= 0 && !treeSlots.has(slot)) this.#own.fds.add(fd)
    if (trees.userns) this.#lease?.addUserns(fds.get(trees.userns)!)
    const failed = wanted.flatMap((candidate, g) => this.#takeGroup(trees, candidate, g, fds, outcome))
    for (const i of alone) {
      const slot = trees.alone.get(i)
      if (slot) this.#own.trees.push(fds.get(slot)!)
      const fd = slot ? held(fds.get(slot)!, treeName(layerName(this.#spec, i))) : this.#seen[i]!.fd
      this.#add(i, { fd, group: this.#groups.length, name: undefined })
      this.#groups.push({ root: this.#seen[i]!.fd })
    }
    return failed
  }

  #takeGroup(
    trees: TreesPlan,
    { parent: path, mountId, members }: Candidate,
    index: number,
    fds: ReadonlyMap<Slot, number>,
    outcome: Outcome,
  ): number[] {
    const { parent, tree, report } = trees.groups[index]!
    const identity = identityOf(outcome.report(report)!)
    if (tree) this.#lease?.addTree(path, { fd: fds.get(tree)!, identity })
    if (identity.mountId !== mountId) return [...members]
    const treeFd = this.#lease?.tree(path)?.fd
    const name = path.toString('latin1')
    const group = this.#groups.length
    const failed: number[] = []
    let below = mountId
    for (const i of members) {
      const layer = trees.layers.get(i)!
      const statx = outcome.report(layer.report)
      const again = statx && identityOf(statx)
      if (again === undefined || !sameDirectory(again, this.#seen[i]!.identity)) {
        failed.push(i)
        continue
      }
      below = again.mountId
      // below the tree, or else the caller's view
      const kept = treeFd === undefined ? this.#seen[i]!.fd.fd : fds.get(layer.slot)!
      const fd = this.#byName ? undefined : held(kept, layerName(this.#spec, i))
      this.#add(i, { fd, group, name: relativeTo(path, this.#seen[i]!.path!) })
    }
    const root = held(fds.get(parent)!, name)
    this.#groups.push({
      root,
      tree: treeFd === undefined ? root : held(treeFd, treeName(name)),
      mountId: below,
    })
    return failed
  }

  #add(index: number, reached: Pick<OpenLayer, 'fd' | 'group' | 'name'>): void {
    this.#list[index] = layerOf(this.#spec, index, this.#seen[index]!, reached)
  }

  /** Fds that were needed on the way only. */
  unused(): number[] {
    const kept = new Set([...this.#list.map(({ fd }) => fd?.fd), ...this.#groups.map(({ root }) => root.fd)])
    return [...this.#own.fds].filter((fd) => !kept.has(fd))
  }

  layers(): OpenLayers {
    const usernsFd = this.#lease?.usernsFd
    return {
      list: this.#list,
      groups: this.#groups,
      idmapped: this.#spec.idmap !== undefined,
      staged: this.#staging !== undefined,
      userns: usernsFd === undefined ? undefined : held(usernsFd, 'userns'),
    }
  }
}

const sameDirectory = (a: Identity, b: Identity) => a.dev === b.dev && a.ino === b.ino

/** The directory whose kept tree turned out to be of another one. */
function staleTree(error: unknown, trees: TreesPlan, wanted: readonly Candidate[]): Buffer | undefined {
  if (!(error instanceof UnexpectedError)) return undefined
  const index = trees.groups.findIndex(({ report }) => report === error.step)
  return wanted[index]?.parent
}
