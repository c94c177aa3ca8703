/**
 * Random specs, mounted for real: each comes to be what `explain` says of it, as mountinfo and statmount(2) show it, or it
 * is refused with a code and nothing is left of it. One that `explain` refuses is refused by the mount, too.
 *
 * `OVERLAYFD_RUNS=20` for twenty times as many. A failure names the seed and the path of its spec: `OVERLAYFD_SEED` and
 * `OVERLAYFD_PATH` bring that one again.
 */
import { mkdirSync, readdirSync } from 'node:fs'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import type { Mount, MountGroup } from '../../lib/index.js'
import * as sys from '../../lib/sys.js'
import { watch } from '../support/left.js'
import { mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { scratch } from '../support/scratch.js'
import { type Acts, actsOf, leavePlace, makePlace, mountBelow, type Place, unmountBelow } from './acts.js'
import { settings } from './settings.js'
import { check, newMounts } from './shown.js'
import { type Spec, specs } from './spec.js'

const joined = (...parts: readonly (Buffer | string)[]): Buffer =>
  Buffer.concat(
    parts.flatMap((part, i) => (i === 0 ? [Buffer.from(part)] : [Buffer.from('/'), Buffer.from(part)])),
  )

const treeOf = (dir: string | Buffer): string[] =>
  readdirSync(dir, { encoding: 'buffer', withFileTypes: true }).flatMap((entry) => {
    const at = joined(dir, entry.name)
    return [at.toString('latin1'), ...(entry.isDirectory() ? treeOf(at) : [])]
  })

const codes =
  /^(E[A-Z0-9]+|ERR_INVALID_ARG_(TYPE|VALUE)|ERR_OUT_OF_RANGE|ERR_INVALID_STATE|ERR_OVERLAYFD_[A-Z_]+)$/
const codeOf = (error: unknown): string => String((error as { code?: unknown })?.code)

const tried = async <T>(run: () => T | Promise<T>): Promise<{ value?: T; error?: unknown }> => {
  try {
    return { value: await run() }
  } catch (error) {
    return { error }
  }
}

const counts = { mounted: 0, refused: 0, failed: 0 }
/** Why mounts failed that were explained. */
const failures = new Map<string, number>()

/** A directory with what the spec needs, and where it is to be mounted. */
const prepare = ({ area, mounters }: Place, spec: Spec, base: string) => {
  sys.mount(null, area.dir, null, spec.isShared ? [sys.MS_SHARED] : [sys.MS_PRIVATE], null)
  if (!spec.isMissing) for (const dir of ['upper', 'work']) mkdirSync(`${base}/${dir}`)
  const { parts, inGroup } = spec.target ?? {}
  if (parts === undefined) return {}
  if (inGroup) {
    mkdirSync(`${base}/group`)
    const group: MountGroup = mounters.get(spec.rung)!.openGroupSync(`${base}/group`)
    return { group, target: Buffer.from(group.target(parts[0]! as Uint8Array)) }
  }
  const target = joined(base, 't', ...parts)
  if (!spec.isMissing) mkdirSync(target, { recursive: true })
  return { target }
}

/** What was mounted is what was said; a detached one is attached first, to be seen. */
const examine = async (
  t: Test,
  where: Place,
  {
    spec,
    base,
    target,
    before,
    mount,
    plan,
  }: Round & { mount: Mount; plan: Parameters<typeof check>[2]['plan'] },
) => {
  const known = { spec, plan, mount, before }
  if (target) {
    t.notOk(mount.detached)
    check(t, where, { ...known, target, isLate: false })
    return
  }
  t.ok(mount.detached)
  t.same(newMounts(where, before), [], 'detached')
  const late = joined(base, 'late')
  mkdirSync(late)
  const { error } = await tried(() => (spec.isSync ? mount.attachSync(late) : mount.attach(late)))
  // the kernel takes nothing unbindable below a shared mount
  if (spec.isShared && spec.propagation === 'unbindable') t.equal(codeOf(error), 'EINVAL')
  else if (error) t.fail(`attach: ${error}`)
  else check(t, where, { ...known, target: late, isLate: true })
}

interface Round {
  readonly spec: Spec
  readonly base: string
  readonly target: Buffer | undefined
  /** ids of the mounts that are there without it */
  readonly before: ReadonlySet<number>
}

/** Answers whether it was mounted. */
const tryOut = async (t: Test, where: Place, acts: Acts, round: Round): Promise<boolean> => {
  const { spec, base, target } = round
  const names = treeOf(base)
  const plan = await tried(acts.explain)
  const { value: mount, error } = await tried(acts.mount)
  if (mount) {
    counts.mounted++
    if (plan.value) await examine(t, where, { ...round, mount, plan: plan.value })
    else t.fail(`mounted, and explain said ${plan.error}`)
    await (spec.isSync ? mount.unmountSync() : mount.unmount({ wait: 'teardown' }))
    return true
  }
  t.match(codeOf(error), codes, `a code: ${error}`)
  if (plan.error) {
    counts.refused++
    t.equal(codeOf(error), codeOf(plan.error), 'refused as explain refuses it')
    return false
  }
  counts.failed++
  const why = `${codeOf(error)} ${(error as { hint?: string }).hint ?? (error as Error).message.slice(0, 100)}`
  failures.set(why, (failures.get(why) ?? 0) + 1)
  const isAbove = (path: string) => spec.create === true && target?.toString('latin1').startsWith(path)
  t.same(
    treeOf(base).filter((path) => !names.includes(path) && !isAbove(path)),
    [],
    'no directory is left',
  )
  return false
}

t.test('a mount is what explain says', privileged, async (t) => {
  const area = scratch(t)
  const left = watch()
  const where = makePlace(area)
  let rounds = 0
  const property = fc.asyncProperty(specs, async (spec) => {
    const base = area.mkdir(`round-${rounds++}`)
    const { target, group } = prepare(where, spec, base)
    const { what } = spec
    if (what.kind === 'bind') mountBelow(where)
    const before = new Set(mounts().map(({ id }) => id))
    const acts = actsOf(where, spec, base, target)
    const isMade = await tryOut(t, where, acts, { spec, base, target, before })
    await acts.close?.()
    t.same(
      newMounts(where, before).map(({ target }) => target.toString()),
      [],
      'no mount is left',
    )
    await group?.unmount()
    if (what.kind === 'bind') {
      // a peer of its source, which has to be asked for, takes what is mounted there along
      const isPeer = what.isRecursive && spec.isShared && spec.propagation === 'shared'
      t.equal(unmountBelow(where), !(isMade && isPeer), 'what is mounted below the source')
    }
    if (!t.passing()) throw new Error('see above')
  })
  await fc.assert(property, settings(150))
  const of = `${JSON.stringify(counts)} of ${rounds}`
  t.ok(counts.mounted * 5 > rounds, of)
  t.comment(of, ...[...failures].map(([why, times]) => `${times} ${why}`))
  await leavePlace(where)
  sys.mount(null, area.dir, null, [sys.MS_PRIVATE], null)
  t.same(await left({ threads: true }), [], 'nothing is left')
})
