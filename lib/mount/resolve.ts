/**
 * Symbolic links on the way to a place, resolved once.
 *
 * Plans follow none. Where one is met (ELOOP), it is resolved here and the plan is made anew with the path that comes
 * out: below a mount by the kernel, as after chroot(2), so that the links of an image lead nowhere else; above an
 * attached mount as the caller would, which the check of the mount's id makes safe.
 */
import { readlinkSync } from 'node:fs'
import { MountError, refine } from '../errors.js'
import type { Host } from '../overlay/host.js'
import { resolveParent, unmountFailure } from '../overlay/unmount.js'
import type { Flow } from '../program/flow.js'
import { failedStep, UnexpectedError } from '../program/outcome.js'
import { PlanBuilder } from '../program/plan.js'
import type { Pool } from '../program/pool.js'
import { isInside, mountOption, openFollowing, type Reach, reachSteps, type Spot } from './place.js'

export type Spots = Readonly<Partial<Record<'source' | 'target' | typeof mountOption, Spot>>>

/** What a failed plan has met a symbolic link on the way to. */
function linkOnTheWay(error: unknown): string | undefined {
  if (!(error instanceof MountError) || error.code !== 'ELOOP') return undefined
  const step = failedStep(error)
  return step?.call === 'openat2' ? step.subject?.option : undefined
}

/**
 * Runs a flow with places, and again with a place resolved where a symbolic link was met.
 *
 * A mount that is not where it was attached any more is told as `unmount` tells it.
 */
export function* withSpots<T, S extends Spots>(
  host: Host,
  pool: Pool,
  spots: S,
  run: (spots: S) => Flow<T>,
): Flow<T> {
  let now = spots
  const resolved = new Set<string>()
  for (;;) {
    try {
      return yield* run(now)
    } catch (error) {
      const option = linkOnTheWay(error)
      if (option === undefined || resolved.has(option)) throw explained(error, now)
      resolved.add(option)
      const spot = option === mountOption ? undefined : now[option as keyof Spots]
      if (option === mountOption) now = relocateAll(now)
      else if (spot && isInside(spot))
        now = { ...now, [option]: yield* resolveInside(host, pool, spot, error) }
      else throw error
    }
  }
}

function explained(error: unknown, spots: Spots): unknown {
  const isLook = error instanceof UnexpectedError && error.step.subject?.option === mountOption
  const target = isLook ? Object.values(spots).find(isInside)?.reach : undefined
  return target ? unmountFailure(error, pathOf(target)) : error
}

function pathOf(reach: Reach): Buffer {
  if (reach.kind === 'attached') return reach.target
  return reach.kind === 'below' ? reach.path : Buffer.from(`/proc/self/fd/${reach.fd}`)
}

function relocateAll<S extends Spots>(spots: S): S {
  const entries = Object.entries(spots).map(([option, spot]) => [
    option,
    spot && isInside(spot) ? { ...spot, reach: relocate(spot.reach) } : spot,
  ])
  return Object.fromEntries(entries)
}

function relocate(reach: Reach): Reach {
  if (reach.kind === 'below') return { ...reach, above: relocate(reach.above) }
  return reach.kind === 'attached' ? { ...reach, target: resolveParent(reach.target) } : reach
}

/** `..` of a link, while something is renamed or mounted: the kernel cannot tell whether it led out. */
const EAGAIN = 'EAGAIN'

/** The path with every link of it resolved below the mount; the end of it may be missing. */
function* resolveInside(
  host: Host,
  pool: Pool,
  spot: Extract<Spot, { reach: Reach }>,
  met: unknown,
): Flow<Spot> {
  const parts = spot.path.toString('latin1').split('/')
  for (let depth = parts.length, tries = 0; depth >= 0; ) {
    const b = new PlanBuilder('resolve')
    const root = reachSteps(b, spot.reach, host.features)
    const path = Buffer.from(parts.slice(0, depth).join('/'), 'latin1')
    b.output(openFollowing(b, root, Buffer.alloc(0), { option: mountOption }))
    b.output(openFollowing(b, root, path, { option: 'resolve', path }))
    try {
      const { outputs } = yield { plan: b.build(), pool, abortable: true }
      const below = relativeNames(host, outputs)
      if (below === undefined) throw met
      return {
        ...spot,
        path: Buffer.from([below, ...parts.slice(depth)].filter(Boolean).join('/'), 'latin1'),
      }
    } catch (error) {
      if (!(error instanceof MountError)) throw error
      if (error.code === EAGAIN && tries++ < 64) continue
      if (error.code !== 'ENOENT') throw error
      depth--
    }
  }
  throw met
}

/** Where the second fd is, seen from the first, as /proc tells; takes both over. */
function relativeNames(host: Host, fds: readonly number[]): string | undefined {
  try {
    const [top, found] = fds.map((fd) => readlinkSync(`/proc/self/fd/${fd}`, 'buffer').toString('latin1'))
    return found === top ? '' : found!.slice(top === '/' ? 1 : top!.length + 1)
  } catch {
    // without /proc the link stays what was met
    return undefined
  } finally {
    host.discard({ fds })
  }
}

/** Of a link that was met again: it leads nowhere, or somebody changes it. */
export function againHint(error: MountError): MountError {
  const option = linkOnTheWay(error)
  if (option !== 'target' && option !== 'source') return error
  return refine(error, {
    hint: `a symbolic link in ${option} leads to nothing inside the mount, or is being changed: it is not followed`,
  })
}
