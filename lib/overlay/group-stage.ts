/**
 * The mount that a group hangs its rootfs below: a tmpfs, private, with a directory for each of them.
 *
 *   operation   by fd                                   by mount(2)                    taken back by
 *   ---------   -----                                   -----------                    -------------
 *   stage       fsopen, fsconfig, fsmount, statx        openat of the target           close
 *   attach      move_mount: visible                     mount: visible; openat, statx  umount2
 *   private     mount(2) MS_PRIVATE                     the same
 *   directory   open, statx: still the stage? mkdir     the same                       (goes with the stage)
 *
 * It becomes private after the attach: a detached mount may be made private, but below a shared parent it comes
 * out shared all the same (Linux 6.18). Nothing is below it by then, so nothing but an empty tmpfs has a copy.
 */
import { closeSync, mkdirSync, openSync } from 'node:fs'
import { binding } from '../binding.js'
import { diagnoseAttach } from '../diagnose.js'
import { errnoNumber } from '../errno.js'
import { MountError } from '../errors.js'
import { limitHint } from '../exhausted.js'
import * as f from '../flags.js'
import type { Features } from '../host/features.js'
import { callNotation, fdNotation, stringNotation } from '../notation.js'
import * as c from '../program/calls.js'
import type { Flow } from '../program/flow.js'
import { type Outcome, UnexpectedError } from '../program/outcome.js'
import { cwd, type Plan, PlanBuilder } from '../program/plan.js'
import { identityOf } from '../program/result.js'
import { type Step, statxField, type Text } from '../program/step.js'
import { splitLast } from './bytes.js'
import { missing, RungError } from './choose.js'
import type { Host } from './host.js'
import { exchanged, isMountRoot } from './identity.js'

/** Others may pass through it, but not list who runs here. */
const mode = '0711'
/** where /proc does not tell who makes it */
const unmarked = 'overlayfd-group'

export interface StagePlan {
  readonly plan: Plan
  /** reports the stage's mount id */
  readonly identity: Step
}

/** A stage at `target`; `byFd`: by an fs context; `source` says who makes it (owner-mark.ts). */
export function planStage(
  target: Buffer,
  byFd: boolean,
  features: Pick<Features, 'uniqueMountId' | 'mountSetattr'>,
  source = unmarked,
): StagePlan {
  const { uniqueMountId } = features
  const b = new PlanBuilder('open group')
  const subject = { option: 'target', path: target }
  const mount = b.slot('stage')
  // by fd it is the mount before it is anywhere; by name it has to prove it
  const expect = byFd ? [] : isMountRoot(features)
  const identity = c.statxFd(mount, uniqueMountId, { report: true, expect, subject })
  if (byFd) {
    const fs = b.slot('fs')
    b.add(c.fsopen(fs, 'tmpfs'), c.setString(fs, 'source', source), c.setString(fs, 'mode', mode))
    b.always(c.close(fs))
    b.add(c.create(fs))
    b.add(c.fsmount(mount, fs, f.MOUNT_ATTR_NOSUID | f.MOUNT_ATTR_NODEV | f.MOUNT_ATTR_NOEXEC))
    b.always(c.close(mount))
    const attach = c.attach(mount, target, { subject })
    b.add(identity, attach)
    b.undo(attach, c.umount(['/proc/self/fd/', mount], true, false))
  } else {
    const at = b.slot('target')
    const open = f.O_PATH | f.O_DIRECTORY | f.O_NOFOLLOW
    b.add(c.openat(at, cwd, target, open, { subject }))
    b.always(c.close(at))
    const flags = f.MS_NOSUID | f.MS_NODEV | f.MS_NOEXEC
    const through = { commits: true, subject }
    const visible = c.mount(source, ['/proc/self/fd/', at], 'tmpfs', flags, `mode=${mode}`, through)
    // what was opened before is below the mount, and the path may lead elsewhere by now
    const again: Text = ['/proc/self/fd/', at, '/../', splitLast(target)!.name]
    b.add(visible, c.openat(mount, cwd, again, open, { subject }), identity)
    b.undo(visible, c.umount(again, true))
    b.always(c.close(mount))
  }
  b.add(c.mount(null, ['/proc/self/fd/', mount], null, f.MS_PRIVATE, null))
  return { plan: b.build(), identity }
}

/** A stage that is attached. */
export interface Stage {
  readonly path: Buffer
  /** inode of the mount namespace */
  readonly namespace: number
  readonly mountId: bigint
  readonly dev: bigint
  readonly uniqueMountId: boolean
}

/** Attaches a stage; by mount(2) where the calls for it are missing. */
export function* attachStage(host: Host, path: Buffer): Flow<Stage> {
  const { composing: pool, namespace } = host.here()
  for (;;) {
    const { features } = host
    const why = missing(features, ['mayMount'])
    if (why !== undefined) throw new RungError(`no rung can mount this: ${why}`, { group: why })
    const { plan, identity } = planStage(
      path,
      features.fsContext && host.rung !== 'classic',
      features,
      host.mark,
    )
    let outcome: Outcome
    try {
      outcome = yield { plan, pool, abortable: true }
    } catch (error) {
      if (error instanceof MountError && host.rung === 'auto' && host.lacks(error)) continue
      throw error instanceof UnexpectedError ? (exchanged(error) ?? error) : diagnoseAttach(error)
    }
    const { mountId, dev } = identityOf(outcome.report(identity)!)
    return { path, namespace, mountId, dev, uniqueMountId: features.uniqueMountId }
  }
}

const EINVAL = 22
const EBUSY = 16
const buffer = Buffer.alloc(256)

/**
 * Makes a directory in the stage, once it has made sure that this is what is there. On the calling thread: a few
 * calls on a tmpfs are shorter than the way to another thread, which may have a queue.
 */
export function makeDirectory(stage: Stage, name: Buffer): void {
  const fd = attempt('open', stage.path, stage.path, 'O_PATH|O_DIRECTORY|O_NOFOLLOW', () =>
    openSync(stage.path, f.O_PATH | f.O_DIRECTORY | f.O_NOFOLLOW),
  )
  try {
    checkStage(stage, fd)
    const path = Buffer.concat([stage.path, Buffer.from('/'), name])
    const through = Buffer.concat([Buffer.from(`/proc/self/fd/${fd}/`), name])
    attempt('mkdir', path, through, '0755', () => mkdirSync(through, 0o755))
  } finally {
    closeSync(fd)
  }
}

function checkStage({ path, mountId, dev, uniqueMountId }: Stage, fd: number): void {
  const mask = f.STATX_INO | (uniqueMountId ? f.STATX_MNT_ID_UNIQUE : f.STATX_MNT_ID)
  binding.statx(fd, Buffer.of(0), f.AT_EMPTY_PATH, mask, buffer)
  const found = identityOf(buffer)
  if (found.mountId === mountId && found.dev === dev) return
  const attributes = buffer.readBigUInt64LE(statxField.attributes.offset)
  const isMount = (attributes & BigInt(f.STATX_ATTR_MOUNT_ROOT)) !== 0n
  throw new MountError({
    errno: isMount ? EBUSY : EINVAL,
    syscall: 'statx',
    call: callNotation('statx', fdNotation(fd), '""', 'AT_EMPTY_PATH'),
    path,
    hint: isMount
      ? 'another mount covers the group: nothing was made in it'
      : 'the group is not mounted there any more: somebody else has unmounted or moved it',
  })
}

const hints: Readonly<Record<string, string>> = {
  EEXIST:
    'the name was given out before: its target serves one rootfs after the other, so keep it; rmdir frees the name',
  ENOENT: 'the group cannot be reached any more: its directory was renamed or deleted',
}

function attempt<T>(syscall: string, path: Buffer, named: Buffer, rest: string, run: () => T): T {
  try {
    return run()
  } catch (cause) {
    const { code = '' } = cause as NodeJS.ErrnoException
    const errno = errnoNumber(code)
    if (errno === undefined) throw cause
    const call = callNotation(syscall, stringNotation(named), rest)
    throw new MountError({ errno, syscall, call, path, hint: hints[code] ?? limitHint(code) })
  }
}
