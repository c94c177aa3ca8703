/**
 * One mount from open layers: rung, plan, program, handle. What both stacks and one-shot calls do.
 *
 * Five results of a program are not the end: a layer whose name shows something else by now (it was renamed)
 * gets a tree of its own; a call that turned out to be missing (a filter that the probe did not meet) is
 * marked so and the next rung is taken; a directory above one that is to be made is made too; an upper that a killed
 * process has made but not finished is finished; a claim in the way may be of a mount that is gone. Then the mount is planned again. All happen before anything is visible; after
 * the attach nothing is tried another way.
 */
import { realpathSync } from 'node:fs'
import { fullUpper, nameOf, otherMounts } from '../diagnose/causes.js'
import { diagnose } from '../diagnose.js'
import { MountError, refine } from '../errors.js'
import * as f from '../flags.js'
import type { Flow } from '../program/flow.js'
import { claimInTheWay, failedStep, type Outcome, UnexpectedError } from '../program/outcome.js'
import { identityOf } from '../program/result.js'
import type { Step } from '../program/step.js'
import { absolute, splitLast } from './bytes.js'
import { checkUpper, isBusy, whichIsBusy } from './check-upper.js'
import { choose, type RungName } from './choose.js'
import { beginCreating, dropStale, inUse } from './claims.js'
import type { Here, Host } from './host.js'
import { exchanged } from './identity.js'
import type { OpenLayers } from './layers.js'
import { checkHere } from './options.js'
import { type Base, needOf, type PlannedMount, planMount, planWarm, StageNeeded } from './plan-mount.js'
import { Rootfs } from './rootfs.js'
import type { Composition } from './rungs/rung.js'
import type { MountSpec } from './spec.js'
import { isUnfinished } from './upper.js'

/** Makes the mount. */
export function* compose(host: Host, here: Here, base: Base, spec: MountSpec): Flow<Rootfs> {
  const created = beginCreating(spec)
  try {
    if (spec.checkUpper) yield* checked(host, here, base, spec)
    return yield* attempt(host, here, base, spec)
  } finally {
    created?.()
  }
}

function* checked(host: Host, here: Here, base: Base, spec: MountSpec): Flow<void> {
  // a mount that is refused anyway is refused before anything is tried, and by the error that explain has for it
  choose(needOf(base.spec, spec), host.features, host.rung)
  checkHere(spec.options, host.features, 'options.options')
  try {
    yield* checkUpper(host, here, spec)
  } catch (error) {
    throw error instanceof MountError ? diagnose(error, base.spec, spec) : error
  }
}

function* attempt(host: Host, here: Here, base: Base, asked: MountSpec): Flow<Rootfs> {
  let spec = asked
  let isReal = false
  let missing = { parents: false, unfinished: false }
  for (let tries = 0; ; tries++) {
    const planned = base.layers
    const { features } = host
    // found once: what a path leads to after it was opened is another directory
    if (!isReal && base.stage.lease) {
      spec = withRealUpper(asked)
      isReal = true
    }
    let mount: PlannedMount
    try {
      const isUsual = !missing.parents && !missing.unfinished
      mount = isUsual ? planWarm(host, base, spec) : planMount(host, base, spec, missing)
    } catch (error) {
      if (!(error instanceof StageNeeded) || base.stage.lease) throw error
      yield* takeStage(host, here, base, spec)
      continue
    }
    const { rung, composition, fills } = mount
    let outcome: Outcome
    try {
      outcome = yield {
        plan: composition.plan,
        fills,
        pool: spec.inside ? here.visiting : here.composing,
        abortable: true,
      }
    } catch (error) {
      const step =
        error instanceof UnexpectedError ? error.step : error instanceof MountError && failedStep(error)
      const isElsewhere = step && leadsElsewhere(error)
      if (tries <= planned.list.length && isElsewhere && reroot(base, planned, step)) continue
      // another mount may have met the same meanwhile
      const isNews = error instanceof MountError && host.rung === 'auto' && host.lacks(error)
      const isMissing =
        isNews || (host.features !== features && error instanceof MountError && error.code === 'ENOSYS')
      // what was visible for a moment is not made again another way
      if (isMissing && !wasVisible(composition, error as MountError)) continue
      if (step && step.call === 'claim' && error instanceof MountError && error.code === 'EBUSY') {
        const claim = claimInTheWay(error)
        if (dropStale(claim, host.features.uniqueMountId)) continue
        throw refine(inUse(step, claim, error), { rung })
      }
      if (!missing.parents && isMissingParent(error, spec)) {
        missing = { ...missing, parents: true }
        continue
      }
      if (!missing.unfinished && error instanceof UnexpectedError && isUnfinished(error.step)) {
        missing = { ...missing, unfinished: true }
        continue
      }
      const found = isBusy(error) ? yield* whichIsBusy(host, here, spec, error) : error
      throw explainFailure(found, base, spec, rung)
    }
    return handOver(host, here.namespace, rung, composition, outcome, spec)
  }
}

/** It failed after the attach, and was taken back. */
const wasVisible = ({ plan }: Composition, { step }: MountError): boolean =>
  plan.steps.slice(0, step).some(({ commits }) => commits)

/** The lease of the staging namespace, for as long as the layers are open. */
function* takeStage(host: Host, here: Here, { stage, spec }: Base, mount: MountSpec): Flow<void> {
  const lease = yield* host.stage(here, needOf(spec, mount))
  // planned again, it is another rung or none
  if (lease === undefined) return
  // another mount may have got one meanwhile
  if (stage.lease) lease.release()
  else stage.lease = lease
}

/** A name shows something else than it did, or nothing: errnos of openat2 and statx that say so. Others say nothing of it. */
const leadsElsewhere = (error: unknown): boolean =>
  error instanceof UnexpectedError ||
  (error instanceof MountError && ['ENOENT', 'ENOTDIR', 'ELOOP', 'EXDEV', 'EAGAIN'].includes(error.code))

/** A staged upper is looked up below the directory above it and the work directory, where no symbolic link is followed. */
const withRealUpper = (spec: MountSpec): MountSpec => ({
  ...spec,
  upperdir: spec.upperdir && realPath(spec.upperdir),
  workdir: spec.workdir && realPath(spec.workdir),
})

/** Of a directory that may have to be made, with those above it: what is there is resolved. */
function realPath(path: Buffer): Buffer {
  try {
    return realpathSync.native(path, 'buffer')
  } catch {
    // it may be missing, and the one above it not
  }
  const { parent, name } = splitLast(path) ?? {}
  return parent && name ? absolute(Buffer.concat([realPath(parent), slash, name])) : path
}
const slash = Buffer.from('/')

/**
 * Gives the layer that a step was about a tree of its own; false if the step was about no layer. Another mount
 * that was under way at the same time may have done so already.
 */
function reroot(base: Base, planned: OpenLayers, step: Step): boolean {
  const { list, groups } = base.layers
  if (step.call !== 'statx' && step.call !== 'openat2' && !isName(step)) return false
  // what is kept of it lies below a tree that is attached elsewhere: it cannot be cloned from here
  if (base.layers.staged) return false
  const index = planned.list.findIndex(({ subject, name }) => name !== undefined && subject === step.subject)
  const { fd, name } = list[index] ?? {}
  if (fd === undefined) return false
  if (name === undefined) return true
  const layer = { ...list[index]!, group: groups.length, name: undefined }
  base.layers = { ...base.layers, list: list.with(index, layer), groups: [...groups, { root: fd }] }
  base.kept.fragments.clear()
  base.kept.templates.clear()
  return true
}

/** A name given to the context: what stood there a moment ago is gone, or a symbolic link by now. */
const isName = ({ call, args: [, command] }: Step): boolean =>
  call === 'fsconfig' && command?.kind === 'int' && command.value === f.FSCONFIG_SET_STRING

/** A mkdirat of `create` found no directory to make one in. Looking for each of them every time would lock them all. */
function isMissingParent(error: unknown, { create }: MountSpec): boolean {
  if (!(error instanceof MountError) || error.code !== 'ENOENT') return false
  const step = failedStep(error)
  return step?.call === 'mkdirat' || (create && step?.subject?.option === 'target.path')
}

const EINVAL = 22
const EROFS = 30
const ESTALE = 116

function explainFailure(error: unknown, base: Base, spec: MountSpec, rung: RungName): unknown {
  if (error instanceof UnexpectedError) {
    const { step } = error
    const moved = exchanged(error, rung)
    if (moved) return moved
    const readOnly = step.call === 'fstatfs'
    // a clone of the directory above both shows what is below a mount in it
    const apart = readOnly ? undefined : otherMounts({ mount: spec })
    const full = readOnly ? fullUpper({ mount: spec }) : undefined
    const why = full === undefined ? '' : `, because ${full}`
    const hint = readOnly
      ? `the kernel made the overlay read-only because it could not prepare the work directory${why}; nothing was mounted`
      : (apart ??
        `${step.subject ? nameOf(step.subject) : 'a directory'} was replaced by another directory meanwhile; nothing was mounted`)
    return error.toMountError({ errno: readOnly ? EROFS : apart ? EINVAL : ESTALE, hint, rung })
  }
  return error instanceof MountError ? refine(diagnose(error, base.spec, spec), { rung }) : error
}

function handOver(
  host: Host,
  namespace: number,
  rung: RungName,
  { plan, identity, outputs, kind }: Composition,
  outcome: Outcome,
  spec: MountSpec,
): Rootfs {
  const { mountId, dev, ino } = identityOf(outcome.report(identity)!)
  let mountFd: number | undefined
  let namespaceFd: number | undefined
  const trees: number[] = []
  if (outputs.length > 0) {
    for (const [i, fd] of outcome.outputs.entries()) {
      const { kind } = outputs[i]!
      if (kind === 'mount') mountFd = fd
      else if (kind === 'namespace') namespaceFd = fd
      else trees.push(fd)
    }
  }
  if (trees.length > 0) host.discard({ trees })
  return new Rootfs(host, {
    rung,
    kind,
    target: spec.target,
    mountFd,
    namespaceFd,
    mountId,
    dev,
    ino,
    mark: kind === 'overlay' ? host.mark : undefined,
    namespace,
    notes: plan.notes,
    claim: outcome.claim,
  })
}
