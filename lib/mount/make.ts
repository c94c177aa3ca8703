/**
 * Makes a bind mount or a tmpfs: chooses the way, finds out what the plan has to know, runs it, and hands out the
 * handle.
 */
import { MountError } from '../errors.js'
import * as f from '../flags.js'
import type { Features } from '../host/features.js'
import type { Here, Host } from '../overlay/host.js'
import type { MappingLease } from '../overlay/mappings.js'
import type { MountKind } from '../overlay/reap.js'
import * as c from '../program/calls.js'
import type { Flow } from '../program/flow.js'
import { failedStep, type Outcome } from '../program/outcome.js'
import { cwd, held, type Plan, PlanBuilder } from '../program/plan.js'
import { identityOf } from '../program/result.js'
import { type FdArg, type Step, statfsField, statxField } from '../program/step.js'
import { rootOf } from './attach.js'
import { type Known, type MadeMount, planBind, sourceSubject } from './bind.js'
import { chooseWay, needOf, type Way } from './choose.js'
import { planBindClassic, planTmpfsClassic } from './classic.js'
import { explainMountFailure } from './failure.js'
import { Mount } from './mount.js'
import { isInside, openPlace, refreshed, type Spot } from './place.js'
import { withSpots } from './resolve.js'
import type { BindSpec, TargetSpec, TmpfsSpec } from './spec.js'
import { planTmpfs } from './tmpfs.js'

/** Mounts a bind. */
export function* makeBind(host: Host, spec: BindSpec): Flow<Mount> {
  const lease = spec.idmap && host.mapping(spec.idmap)
  try {
    return yield* make(host, spec, 'bind', lease, function* (here, now, way, known) {
      const needed = spec.create || way === 'classic'
      const looked = needed ? yield* look(here, now, host.features) : undefined
      try {
        const all = { ...known, ...looked }
        return yield* run(here, way === 'classic' ? planBindClassic(now, all) : planBind(now, all))
      } finally {
        if (looked?.owned) host.discard({ fds: [looked.sourceFd] })
      }
    })
  } finally {
    lease?.release(true)
  }
}

/** Mounts a tmpfs. */
export function makeTmpfs(host: Host, spec: TmpfsSpec): Flow<Mount> {
  return make(host, spec, 'tmpfs', undefined, function* (here, now, way, known) {
    return yield* run(here, way === 'classic' ? planTmpfsClassic(now, known) : planTmpfs(now, known))
  })
}

type Made = { readonly made: MadeMount; readonly outcome: Outcome }

function* run(here: Here, made: MadeMount): Flow<Made> {
  return { made, outcome: yield { plan: made.plan, pool: here.composing, abortable: true } }
}

function spotsOf(spec: TargetSpec | BindSpec): { source?: Spot; target?: Spot } {
  return {
    ...('source' in spec && !('fd' in spec.source) && { source: refreshed(spec.source) }),
    ...(spec.target && { target: refreshed(spec.target) }),
  }
}

function* make<S extends TargetSpec | BindSpec>(
  host: Host,
  spec: S,
  kind: MountKind,
  lease: MappingLease | undefined,
  attempt: (here: Here, spec: S, way: Way, known: Known) => Flow<Made>,
): Flow<Mount> {
  const here = host.here()
  host.admit(here)
  let parents = false
  for (;;) {
    const { features } = host
    const spots = spotsOf(spec)
    const { way, notes } = chooseWay(needOf({ ...spec, ...spots }), features, host.rung)
    try {
      return yield* withSpots(host, here.composing, spots, function* (found): Flow<Mount> {
        const now: S = { ...spec, ...found }
        const known: Known = {
          features,
          isDirectory: true,
          mountFlags: 0,
          parents,
          notes,
          usernsFd: lease?.usernsFd,
        }
        const { made, outcome } = yield* attempt(here, now, way, known)
        return handOver(host, here, kind, way, now.target, made, outcome, lease)
      })
    } catch (error) {
      if (error instanceof MountError && host.rung === 'auto' && host.lacks(error)) continue
      if (!parents && isMissingParent(error)) {
        parents = true
        continue
      }
      throw explainMountFailure(error, spec, features, way)
    }
  }
}

/** A mkdirat of `create` found no directory to make one in. */
function isMissingParent(error: unknown): boolean {
  if (!(error instanceof MountError) || error.code !== 'ENOENT') return false
  const step = failedStep(error)
  const flags = step?.call === 'openat' && step.args[2]?.kind === 'int' ? Number(step.args[2].value) : 0
  return step?.call === 'mkdirat' || (flags & f.O_CREAT) !== 0
}

interface Looked {
  readonly sourceFd: number
  /** the fd is ours */
  readonly owned: boolean
  readonly isDirectory: boolean
  readonly mountFlags: number
}

const S_IFMT = 0o170000
const S_IFDIR = 0o040000

/** Plan of a look at the source: what it is, and with which flags it is mounted. */
export function planLook(spec: BindSpec, features: Features): { plan: Plan; statx: Step; statfs: Step } {
  const b = new PlanBuilder('look at the source')
  const subject = sourceSubject(spec)
  const source = openSource(b, spec, features)
  const statx = c.statxFd(source, features.uniqueMountId, { report: true, subject })
  const statfs = c.fstatfs(source, { report: true, subject })
  b.add(statx, statfs)
  return { plan: b.build(), statx, statfs }
}

function openSource(b: PlanBuilder, spec: BindSpec, features: Features): FdArg {
  const subject = sourceSubject(spec)
  const { source } = spec
  if ('fd' in source) return held(source.fd, 'source')
  const root = rootOf(b, source, features)
  const slot = b.output(b.slot('source'))
  if (root === undefined) b.add(c.openat(slot, cwd, source.path, f.O_PATH, { subject }))
  else b.add(openPlace(slot, root, source.path, subject))
  return slot
}

function* look(here: Here, spec: BindSpec, features: Features): Flow<Looked> {
  const { plan, statx, statfs } = planLook(spec, features)
  const outcome = yield { plan, pool: here.composing, abortable: true }
  const owned = !('fd' in spec.source)
  return {
    sourceFd: 'fd' in spec.source ? spec.source.fd : outcome.outputs[0]!,
    owned,
    isDirectory: (outcome.report(statx)!.readUInt16LE(statxField.mode.offset) & S_IFMT) === S_IFDIR,
    mountFlags: Number(outcome.report(statfs)!.readBigUInt64LE(statfsField.flags.offset)),
  }
}

function handOver(
  host: Host,
  { namespace }: Here,
  kind: MountKind,
  rung: Way,
  target: Spot | undefined,
  { plan, identity, outputs }: MadeMount,
  outcome: Outcome,
  lease: MappingLease | undefined,
): Mount {
  const { mountId, dev, ino } = identityOf(outcome.report(identity)!)
  const fd = (of: 'mount' | 'userns') => outcome.outputs[outputs.indexOf(of)]
  const userns = fd('userns')
  if (userns !== undefined) lease?.addUserns(userns)
  const place = target && isInside(target) ? { mount: target.mount, path: target.path } : undefined
  return new Mount(host, {
    rung,
    kind,
    target: place ? undefined : target?.path,
    place,
    mountFd: fd('mount'),
    mountId,
    dev,
    ino,
    namespace,
    notes: plan.notes,
    claim: 0,
  })
}
