/**
 * Places that mounts are made of and attached to: a path of the caller's, or one below a mount of this library,
 * where no symbolic link leads out.
 *
 *   operation     calls                                             what it makes sure of
 *   ---------     -----                                             ---------------------
 *   reach         detached: its fd. attached: openat2 of the        it is still the mount that was made
 *                 directory above, openat of the name, statx
 *   open inside   openat2(mount, path, IN_ROOT | NO_SYMLINKS)       nothing outside of it is reached
 *   create        mkdirat and openat2 of each part, one below       each part is a directory inside, no link
 *                 the other
 *
 * A symbolic link on the way is resolved once, inside, by resolve.ts, and the path that comes out is used from then on.
 */
import { invalidArgType, invalidArgValue, outOfRange } from '../errors.js'
import * as f from '../flags.js'
import type { Features } from '../host/features.js'
import { absolute, splitLast } from '../overlay/bytes.js'
import { checkKeys } from '../overlay/call-options.js'
import { remembered } from '../overlay/identity.js'
import { bytesOf, type PathLike } from '../path.js'
import * as c from '../program/calls.js'
import { cwd, held, type PlanBuilder } from '../program/plan.js'
import {
  type Expectation,
  type FdArg,
  type Slot,
  type Step,
  type Subject,
  statxField,
} from '../program/step.js'
import type { Mount } from './mount.js'
import type { Standing } from './standing.js'

/** A path below a mount that this library has made, attached or detached. */
export interface Below {
  /** a Rootfs or another Mount */
  mount: Mount
  /**
   * from the mount's root on, with or without a slash before it, without `..`. Symbolic links are followed as after
   * chroot(2), so that none leads out of the mount
   */
  path: PathLike
}

/** How plans get at a mount. */
export type Reach =
  | { readonly kind: 'detached'; readonly fd: number }
  | {
      readonly kind: 'attached'
      readonly target: Buffer
      readonly mountId: bigint
      readonly dev: bigint
    }
  | {
      readonly kind: 'below'
      readonly above: Reach
      readonly path: Buffer
      readonly mountId: bigint
      readonly dev: bigint
    }

/** A checked place. */
export type Spot =
  | { readonly path: Buffer; readonly reach?: undefined; readonly mount?: undefined }
  /** path: without a slash before it; `''` is the mount's root */
  | { readonly mount: Standing; readonly reach: Reach; readonly path: Buffer }

export type Inside = Extract<Spot, { reach: Reach }>

export const isInside = (spot: Spot): spot is Inside => spot.reach !== undefined

/** The spot of now: while a call waited, a mount may have been attached. */
export const refreshed = <T extends Spot>(spot: T): T =>
  isInside(spot) ? { ...spot, reach: spot.mount.reach() } : spot

/** A path below another. */
export const below = (path: Buffer, name: Buffer): Buffer =>
  name.length === 0 ? path : Buffer.concat([path, Buffer.from('/'), name])

/** True inside a mount that is attached nowhere: there the kernel changes no attributes any more, and unmounts nothing. */
export function isInDetached(reach: Reach): boolean {
  return reach.kind === 'below' ? isInDetached(reach.above) : reach.kind === 'detached'
}

/** By what it can do: a mount of another copy of this package will do. */
const isMount = (value: unknown): value is Mount =>
  typeof value === 'object' && value !== null && typeof Reflect.get(value, 'standing')?.reach === 'function'

/** Path or place below a mount; `mayBeRoot`: the mount itself will do. */
export function parseSpot(value: unknown, name: string, mayBeRoot: boolean): Spot {
  if (typeof value === 'string' || value instanceof Uint8Array) return { path: parsePath(value, name) }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalidArgType(name, 'string, Buffer or an object { mount, path }', value)
  }
  const { mount, path } = checkKeys(value, name, ['mount', 'path'])
  if (!isMount(mount)) throw invalidArgType(`${name}.mount`, 'a Mount', mount)
  const below = parseBelow(path, `${name}.path`)
  if (below.length === 0 && !mayBeRoot) {
    throw invalidArgValue(`${name}.path`, path, 'must lead to something below the root of the mount')
  }
  const { standing } = mount
  return { mount: standing, reach: standing.reach(), path: below }
}

/** A target: no `/`, and no name that ends in `..`. */
export function parseTarget(value: unknown, name: string): Spot {
  const spot = parseSpot(value, name, false)
  if (isInside(spot) || splitLast(spot.path) !== undefined) return spot
  throw invalidArgValue(name, value, "must be a path below '/' and not end in '..'")
}

/** A checked fd number. */
export function parseFd(value: number, name: string): number {
  if (!Number.isInteger(value) || value < 0 || value > 0x7fff_ffff)
    throw outOfRange(name, 'an open fd', value)
  return value
}

function parsePath(value: PathLike, name: string): Buffer {
  const bytes = bytesOf(value, name)
  // the caller may write to his own bytes while they are waited for
  return absolute(typeof value === 'string' ? bytes : Buffer.from(bytes))
}

function parseBelow(value: unknown, name: string): Buffer {
  const parts = Buffer.from(bytesOf(value as PathLike, name))
    .toString('latin1')
    .split('/')
    .filter((part) => part !== '' && part !== '.')
  if (parts.includes('..')) throw invalidArgValue(name, value, "must not hold '..'")
  return Buffer.from(parts.join('/'), 'latin1')
}

const inside = f.RESOLVE_IN_ROOT | f.RESOLVE_NO_SYMLINKS | f.RESOLVE_NO_MAGICLINKS

/** What the mount that was made must be known by. */
export function expectMount(
  { mountId, dev }: { readonly mountId: bigint; readonly dev: bigint },
  features: Features,
): Expectation[] {
  const expect: Expectation[] = [{ field: statxField.mountId, value: mountId }]
  // an id that may be reused is not enough
  if (!features.uniqueMountId) expect.push({ field: statxField.dev, value: dev })
  return expect
}

/** Subject of the steps that look for a mount. */
export const mountOption = 'mount'

/** Steps that open the root of a mount, once it has proved to be the one that was made. */
export function reachSteps(b: PlanBuilder, reach: Reach, features: Features): FdArg {
  if (reach.kind === 'detached') return held(reach.fd, 'mount')
  const { slot, subject } = openReach(b, reach, features)
  b.always(c.close(slot))
  b.add(
    c.statxFd(slot, features.uniqueMountId, { expect: expectMount(reach, features), report: true, subject }),
  )
  return slot
}

function openReach(
  b: PlanBuilder,
  reach: Exclude<Reach, { kind: 'detached' }>,
  features: Features,
): { slot: Slot; subject: Subject } {
  const subject = { option: mountOption, path: reach.kind === 'below' ? reach.path : reach.target }
  if (reach.kind === 'below') {
    const root = reachSteps(b, reach.above, features)
    const slot = b.slot('mount')
    b.add(c.openat2(slot, root, reach.path, f.O_PATH, inside, { subject }))
    return { slot, subject }
  }
  const { parent, name } = splitLast(reach.target)!
  const above = b.slot('parent')
  const slot = b.slot('mount')
  const flags = f.O_PATH | f.O_DIRECTORY
  b.add(
    features.openat2
      ? c.openat2(above, cwd, parent, flags, f.RESOLVE_NO_SYMLINKS, { subject })
      : c.openat(above, cwd, parent, flags, { subject }),
    c.openat(slot, above, name, f.O_PATH | f.O_NOFOLLOW, { subject }),
  )
  b.always(c.close(above))
  return { slot, subject }
}

/** Opens a place below a mount; `root`: an fd of the mount's root. */
export const openPlace = (slot: Slot, root: FdArg, path: Buffer, subject: Subject): Step =>
  c.openat2(slot, root, path.length === 0 ? '.' : path, f.O_PATH, inside, { subject })

/** The same for as long as the plan runs. */
export function openInside(b: PlanBuilder, root: FdArg, path: Buffer, subject: Subject): FdArg {
  if (path.length === 0) return root
  const slot = b.slot(subject.option)
  b.add(openPlace(slot, root, path, subject))
  b.always(c.close(slot))
  return slot
}

/** The same for links on the way: they are followed, and none leads out. */
export function openFollowing(b: PlanBuilder, root: FdArg, path: Buffer, subject: Subject): Slot {
  const slot = b.slot(subject.option)
  const resolve = f.RESOLVE_IN_ROOT | f.RESOLVE_NO_MAGICLINKS
  b.add(c.openat2(slot, root, path.length === 0 ? '.' : path, f.O_PATH, resolve, { subject }))
  return slot
}

const EEXIST = 17

/**
 * Steps that make a target where it is missing: a directory, or an empty file. What was made goes again if the plan
 * fails, but for the directories above.
 *
 * @param root an fd of the mount's root for a place inside one
 */
export function createSteps(
  b: PlanBuilder,
  spot: Spot,
  root: FdArg | undefined,
  { isDirectory, parents }: { readonly isDirectory: boolean; readonly parents: boolean },
): void {
  const subject = { option: 'target', path: spot.path }
  const tolerate = [EEXIST]
  let dir: FdArg = cwd
  let name = spot.path
  if (root !== undefined) {
    const parts = spot.path.toString('latin1').split('/')
    name = Buffer.from(parts.pop()!, 'latin1')
    dir = root
    for (const [i, part] of parts.entries()) {
      const bytes = Buffer.from(part, 'latin1')
      const next = b.slot(`directory ${i}`)
      b.add(
        c.mkdirat(dir, bytes, 0o755, { tolerate, subject }),
        c.openat2(next, dir, bytes, f.O_PATH | f.O_DIRECTORY, inside, { subject }),
      )
      b.always(c.close(next))
      dir = next
    }
  } else if (parents) {
    const above = spot.path.toString('latin1').split('/').slice(1, -1)
    for (let i = 1; i <= above.length; i++) {
      const path = Buffer.from(`/${above.slice(0, i).join('/')}`, 'latin1')
      b.add(c.mkdir(path, 0o777, { tolerate, subject: { option: 'create', path } }))
    }
  }
  if (isDirectory) {
    const made = c.mkdirat(dir, name, 0o755, { tolerate, subject })
    b.add(made).undo(made, c.rmdir(dir, name))
  } else {
    const file = b.slot('file')
    const made = c.createFile(file, dir, name, 0o644, { tolerate, subject })
    b.add(made)
    undoFile(b, made, file, dir, name)
    b.always(c.close(file))
  }
}

/** Takes a file away that was made, if it is still what stands at its name: unlinkat(2) would take any. */
function undoFile(b: PlanBuilder, made: Step, file: Slot, dir: FdArg, name: Buffer): void {
  const { remember, expect } = remembered(b, 'file')
  const own = c.statxFd(file, false, { remember })
  const there = c.statxPath(dir, name, false, { expect })
  b.undoInTurn(made, own, there, c.unlink(dir, name))
}
