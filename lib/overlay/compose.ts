/**
 * One mount from open layers: rung, plan, program, handle. What both stacks and one-shot calls do.
 *
 * Three results of a program are not the end: a layer whose name shows something else by now (it was renamed)
 * gets a tree of its own; a call that turned out to be missing (a filter that the probe did not meet) is
 * marked so and the next rung is taken; a directory above one that is to be made is made too. Then the mount
 * is planned again. All happen before anything is visible; after the attach nothing is tried another way.
 */
import { nameOf } from '../diagnose/causes.js'
import { diagnose } from '../diagnose.js'
import { MountError, refine } from '../errors.js'
import { type Idmap, isMapped } from '../idmap.js'
import { renderCall } from '../program/explain.js'
import type { Flow } from '../program/flow.js'
import type { Fragment } from '../program/plan.js'
import { failedStep, type Outcome, UnexpectedError } from '../program/pool.js'
import { identityOf } from '../program/result.js'
import type { Step } from '../program/step.js'
import { choose, type RungName } from './choose.js'
import type { Here, Host } from './host.js'
import type { OpenLayers, TopAttributes } from './layers.js'
import { Rootfs } from './rootfs.js'
import * as classic from './rungs/classic.js'
import * as detachedTree from './rungs/detached-tree.js'
import * as direct from './rungs/direct.js'
import type { Composition, RungInput } from './rungs/rung.js'
import type { MountSpec, StackSpec } from './spec.js'
import { UpperClaim } from './upper-claim.js'

const planners: Readonly<Record<RungName, (input: RungInput) => Composition>> = {
  'detached-tree': detachedTree.plan,
  direct: direct.plan,
  classic: classic.plan,
}

/** Open layers, and what is kept between mounts from them. */
export interface Base {
  readonly spec: StackSpec
  layers: OpenLayers
  /** for an upper that may have to be made */
  readonly top: (upperdir: Uint8Array) => TopAttributes
  readonly fragments: Map<string, Fragment>
}

/** The plan of a mount; pure but for reading /proc/PID/uid_map of a user namespace given by path. */
export function planMount(
  host: Pick<Host, 'features' | 'rung'>,
  base: Base,
  asked: MountSpec,
  parents = false,
): { rung: RungName; composition: Composition } {
  const own = base.spec.idmap
  const { features } = host
  const spec = isSame(asked.idmap, own) ? { ...asked, idmap: undefined } : asked
  const idmap = spec.idmap ?? own
  const need = { idmap: idmap !== undefined, detached: spec.target === undefined }
  const { rung, notes } = choose(need, features, host.rung)
  const { layers, fragments } = base
  const top = spec.create && spec.upperdir ? base.top(spec.upperdir) : unknownTop
  return {
    rung,
    composition: planners[rung]({ layers, spec, idmap, top, features, parents, notes, fragments }),
  }
}

/** The stack's own mapping, asked for again, needs no tree of its own. */
const isSame = (a: Idmap | undefined, b: Idmap | undefined): boolean =>
  a !== undefined && b !== undefined && isMapped(a) && isMapped(b) && a.key === b.key

const unknownTop: TopAttributes = { mode: 0o755, uid: 0, gid: 0, xattrs: [] }

/** Makes the mount. */
export function* compose(host: Host, here: Here, base: Base, spec: MountSpec): Flow<Rootfs> {
  const claim = new UpperClaim(host, spec)
  try {
    const { rung, composition, outcome } = yield* attempt(host, here, base, spec)
    const made = handOver(host, here.namespace, rung, composition, outcome, spec, claim)
    claim.become(made)
    return made
  } catch (error) {
    claim.drop()
    throw error
  }
}

function* attempt(
  host: Host,
  here: Here,
  base: Base,
  spec: MountSpec,
): Flow<{ rung: RungName; composition: Composition; outcome: Outcome }> {
  let parents = false
  for (let tries = 0; ; tries++) {
    const planned = base.layers
    const { rung, composition } = planMount(host, base, spec, parents)
    const { plan } = composition
    try {
      return { rung, composition, outcome: yield { plan, pool: here.composing, abortable: true } }
    } catch (error) {
      const step =
        error instanceof UnexpectedError ? error.step : error instanceof MountError && failedStep(error)
      if (tries <= planned.list.length && step && reroot(base, planned, step)) continue
      if (error instanceof MountError && host.rung === 'auto' && host.lacks(error)) continue
      if (!parents && isMissingParent(error)) {
        parents = true
        continue
      }
      throw explainFailure(error, base, spec, rung)
    }
  }
}

/**
 * Gives the layer that a step was about a tree of its own; false if the step was about no layer. Another mount
 * that was under way at the same time may have done so already.
 */
function reroot(base: Base, planned: OpenLayers, step: Step): boolean {
  const { list, groups } = base.layers
  if (step.call !== 'statx' && step.call !== 'openat2') return false
  const index = planned.list.findIndex(({ subject, name }) => name !== undefined && subject === step.subject)
  const { fd, name } = list[index] ?? {}
  if (fd === undefined) return false
  if (name === undefined) return true
  const layer = { ...list[index]!, group: groups.length, name: undefined }
  base.layers = { ...base.layers, list: list.with(index, layer), groups: [...groups, { root: fd }] }
  base.fragments.clear()
  return true
}

/** A mkdirat of `create` found no directory to make one in. Looking for each of them every time would lock them all. */
function isMissingParent(error: unknown): boolean {
  return error instanceof MountError && error.code === 'ENOENT' && failedStep(error)?.call === 'mkdirat'
}

const EROFS = 30
const ESTALE = 116

function explainFailure(error: unknown, base: Base, spec: MountSpec, rung: RungName): unknown {
  if (error instanceof UnexpectedError) {
    const { step, plan } = error
    const readOnly = step.call === 'fstatfs'
    const hint = readOnly
      ? 'the kernel made the overlay read-only because it could not prepare the work directory; nothing was mounted'
      : `${step.subject ? nameOf(step.subject) : 'a directory'} was replaced by another directory meanwhile; nothing was mounted`
    return new MountError({
      errno: readOnly ? EROFS : ESTALE,
      syscall: step.call,
      call: renderCall(step),
      path: step.subject?.path,
      hint,
      step: plan.indexOf(step),
      rung,
    })
  }
  return error instanceof MountError ? refine(diagnose(error, base.spec, spec), { rung }) : error
}

function handOver(
  host: Host,
  namespace: number,
  rung: RungName,
  { plan, identity, upper, outputs, kind }: Composition,
  outcome: Outcome,
  spec: MountSpec,
  claim: UpperClaim,
): Rootfs {
  const { mountId, dev } = identityOf(outcome.report(identity)!)
  const fdsOf = (wanted: 'mount' | 'tree') => outcome.outputs.filter((_, i) => outputs[i]!.kind === wanted)
  const trees = fdsOf('tree')
  if (trees.length > 0) host.discard({ trees })
  const reservations = claim.mounted(upper && identityOf(outcome.report(upper)!))
  const [mountFd] = fdsOf('mount')
  return new Rootfs(host, {
    rung,
    kind,
    target: spec.target,
    mountFd,
    mountId,
    dev,
    namespace,
    notes: plan.notes,
    reservations,
  })
}
