/**
 * Opens the layers of a stack: which directories they are, what joins which tree, and an fd of each.
 *
 * A name alone is no proof: below a clone, a mount point shows what is under the mount, and an absolute
 * symbolic link leads out of it (both seen on Linux 6.18; the overlay is made without an error). So each
 * layer is opened below the tree and compared with what the caller sees, and what differs gets a tree of
 * its own.
 */
import { readlinkSync } from 'node:fs'
import type { Flow } from '../program/flow.js'
import { held } from '../program/plan.js'
import { type Outcome, type Pool, UnexpectedError } from '../program/pool.js'
import { type Identity, identityOf } from '../program/result.js'
import { type Slot, statxField } from '../program/step.js'
import { relativeTo } from './bytes.js'
import type { Host } from './host.js'
import type { Group, OpenLayer, OpenLayers, TopAttributes } from './layers.js'
import type { MappingLease } from './mappings.js'
import { layerSubject, type StackSpec } from './spec.js'
import {
  type Candidate,
  candidates,
  layerName,
  planLook,
  planTrees,
  type Seen,
  type TreesPlan,
} from './trees.js'

/** Layers that are open, and what has to be closed with them. */
export interface Opened {
  readonly layers: OpenLayers
  readonly top: Pick<TopAttributes, 'mode' | 'uid' | 'gid'>
  readonly fds: readonly number[]
  /** of layers that have one of their own; what layers share belongs to the lease */
  readonly trees: readonly number[]
  readonly lease: MappingLease | undefined
}

/**
 * Opens the layers.
 *
 * @param grouped also without an idmap, find out which layers can share a tree: for mounts with mappings
 *   of their own
 */
export function* openLayers(host: Host, spec: StackSpec, grouped: boolean): Flow<Opened> {
  const pool = host.here().composing
  const look = planLook(spec, host.features)
  const looked = yield { plan: look.plan, pool, abortable: true }
  const seen = look.reports.map(
    (report, i): Seen => ({
      identity: identityOf(looked.report(report)!),
      path: pathOf(spec, i),
      fd: held(looked.outputs[i]!, layerName(spec, i)),
    }),
  )
  const top = ownerAndMode(looked.report(look.reports[0]!)!)
  const own: Owned = { fds: new Set(looked.outputs), trees: [] }
  if (!spec.idmap && !grouped) {
    return { layers: ungrouped(spec, seen), top, fds: looked.outputs, trees: [], lease: undefined }
  }
  const lease = spec.idmap && host.mapping(spec.idmap)
  try {
    const layers = yield* joinTrees(host, pool, spec, seen, lease, own)
    return { layers, top, fds: [...own.fds], trees: own.trees, lease }
  } catch (error) {
    host.discard({ fds: [...own.fds], trees: own.trees })
    lease?.release(false)
    throw error
  }
}

/** What a stack being opened has to close if that fails, or when it is closed. */
interface Owned {
  readonly fds: Set<number>
  readonly trees: number[]
}

function ownerAndMode(statx: Buffer): Opened['top'] {
  return {
    mode: statx.readUInt16LE(statxField.mode.offset),
    uid: statx.readUInt32LE(statxField.uid.offset),
    gid: statx.readUInt32LE(statxField.gid.offset),
  }
}

function pathOf(spec: StackSpec, index: number): Buffer | undefined {
  const layer = spec.layers[index]!
  if ('path' in layer) return layer.path
  try {
    const path = readlinkSync(`/proc/self/fd/${layer.fd}`, 'buffer')
    return path[0] === 0x2f ? path : undefined
  } catch {
    // without /proc the layer gets a tree of its own
    return undefined
  }
}

/** Layers for mounts without a mapping: every one by the caller's own fd. */
export function ungrouped(spec: StackSpec, seen: readonly Seen[]): OpenLayers {
  return {
    list: seen.map((layer, i) => layerOf(spec, i, layer, { fd: layer.fd, group: i, name: undefined })),
    groups: seen.map(({ fd }) => ({ root: fd })),
    idmapped: false,
    userns: undefined,
  }
}

export function layerOf(
  spec: StackSpec,
  index: number,
  { identity }: Pick<Seen, 'identity'>,
  reached: Pick<OpenLayer, 'fd' | 'group' | 'name'>,
): OpenLayer {
  const subject = layerSubject(spec, index)
  return { subject, key: subject.option === 'datadir' ? 'datadir+' : 'lowerdir+', identity, ...reached }
}

/** Makes the trees; `own` is kept up to date with what the stack has to close. */
function* joinTrees(
  host: Host,
  pool: Pool,
  spec: StackSpec,
  seen: readonly Seen[],
  lease: MappingLease | undefined,
  { fds, trees: ownTrees }: Owned,
): Flow<OpenLayers> {
  const { features } = host
  const idmap = spec.idmap
  let wanted = candidates(seen)
  const joined = new Set(wanted.flatMap(({ members }) => members))
  let alone = seen.map((_, i) => i).filter((i) => !joined.has(i))
  const list: OpenLayer[] = []
  const groups: Group[] = []
  const drop: number[] = []

  while (wanted.length > 0 || alone.length > 0) {
    const trees = planTrees({ spec, features, seen, candidates: wanted, alone, idmap, lease })
    let outcome: Outcome
    try {
      outcome = yield { plan: trees.plan, pool, abortable: true }
    } catch (error) {
      const stale = staleTree(error, trees, wanted)
      if (stale === undefined) throw error
      lease?.dropTree(stale)
      continue
    }
    const fdOf = (slot: Slot) => outcome.outputs[trees.outputs.indexOf(slot)]!
    if (trees.userns) lease?.addUserns(fdOf(trees.userns))
    const failed: number[] = []
    wanted.forEach(({ parent, mountId, members }, g) => {
      const group = trees.groups[g]!
      const identity = identityOf(outcome.report(group.report)!)
      const parentFd = fdOf(group.parent)
      fds.add(parentFd)
      const usable = identity.mountId === mountId
      if (group.tree) lease?.addTree(parent, { fd: fdOf(group.tree), identity })
      const number = groups.length
      if (usable) groups.push({ root: held(parentFd, parent.toString('latin1')) })
      for (const i of members) {
        const { slot, report } = trees.layers.get(i)!
        const fd = fdOf(slot)
        const again = outcome.report(report)
        const same = usable && again !== undefined && sameDirectory(identityOf(again), seen[i]!.identity)
        if (!same) {
          failed.push(i)
          if (fd >= 0) drop.push(fd)
          continue
        }
        // one fd a layer is kept: below the tree, or else the caller's view
        const kept = idmap ? fd : seen[i]!.fd.fd
        const spare = idmap ? seen[i]!.fd.fd : fd
        fds.delete(spare)
        fds.add(kept)
        drop.push(spare)
        const name = relativeTo(parent, seen[i]!.path!)
        list[i] = layerOf(spec, i, seen[i]!, { fd: held(kept, layerName(spec, i)), group: number, name })
      }
    })
    for (const i of alone) {
      const slot = trees.alone.get(i)
      const fd = slot ? held(fdOf(slot), layerName(spec, i)) : seen[i]!.fd
      if (slot) ownTrees.push(fd.fd)
      list[i] = layerOf(spec, i, seen[i]!, { fd, group: groups.length, name: undefined })
      groups.push({ root: seen[i]!.fd })
    }
    wanted = []
    alone = failed
  }
  host.discard({ fds: drop })
  const usernsFd = lease?.usernsFd
  return {
    list,
    groups,
    idmapped: idmap !== undefined,
    userns: usernsFd === undefined ? undefined : held(usernsFd, 'userns'),
  }
}

const sameDirectory = (a: Identity, b: Identity) => a.dev === b.dev && a.ino === b.ino

/** The directory whose kept tree turned out to be of another one. */
function staleTree(error: unknown, trees: TreesPlan, wanted: readonly Candidate[]): Buffer | undefined {
  if (!(error instanceof UnexpectedError)) return undefined
  const index = trees.groups.findIndex(({ report }) => report === error.step)
  return wanted[index]?.parent
}
