/**
 * What the kernel shows of a mount, in mountinfo, by statmount(2) and inside of it, held against what a plan says.
 *
 * Which options the kernel shows hangs on more than what was asked for: it leaves out its defaults, turns some on with
 * others, and takes some back where there is no upper or more than one file system (uuid=off and uuid=on then become
 * uuid=null). So the same options are mounted by hand, too, with mount(2) over directories of the same kind, and it has to
 * show the same of both.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { binding } from '../../lib/binding.js'
import type { Explanation, Mount } from '../../lib/index.js'
import * as sys from '../../lib/sys.js'
import { isBelow, type Mount as Line, mounts } from '../support/mountinfo.js'
import { layersOf, type Place } from './acts.js'
import { attributeWords, propagationWords, type Said, said } from './said.js'
import type { Spec } from './spec.js'

/** What statmount(2) has of a mount; `id` is that of mountinfo. */
const statmountOf = (mountId: bigint) => {
  const out = Buffer.alloc(16_384)
  // STATMOUNT_SB_BASIC | STATMOUNT_MNT_BASIC | STATMOUNT_MNT_POINT | STATMOUNT_FS_TYPE
  const result = binding.statmount(mountId, 0x33n, out)
  if (result !== 0) throw new Error(`statmount: ${result}`)
  const text = (field: number) => {
    const at = 512 + out.readUInt32LE(field)
    return out.toString('latin1', at, out.indexOf(0, at))
  }
  return {
    id: out.readUInt32LE(56),
    attributes: Number(out.readBigUInt64LE(64)),
    propagation: Number(out.readBigUInt64LE(72)),
    type: text(36),
    target: text(108),
  }
}

/** The superblock's, without the layers, which it shows by names that need not lead anywhere. */
const optionsOf = ({ options }: Line): string[] =>
  options.filter((option) => !/^(lowerdir|datadir|upperdir|workdir)/.test(option)).sort()

/** Superblocks made by hand, by what they are made from. */
const known = new Map<string, readonly string[]>()

interface Kind {
  readonly hasUpper: boolean
  readonly isMixed: boolean
}

const optionsByHand = (where: Place, { type, options, isSuperReadOnly }: Said, kind: Kind) => {
  const key = JSON.stringify([type, options, isSuperReadOnly, kind])
  const found = known.get(key)
  if (found) return found
  const dir = where.area.mkdir('by-hand')
  const at = (name: string): string => {
    mkdirSync(join(dir, name))
    return join(dir, name)
  }
  const target = at('target')
  const lower = [where.layers[0]!, kind.isMixed ? where.others[1]! : where.layers[1]!]
  const dirs = [
    `lowerdir=${lower.join(':')}`,
    ...(kind.hasUpper ? [`upperdir=${at('upper')}`, `workdir=${at('work')}`] : []),
  ]
  const data = [...(type === 'overlay' ? dirs : []), ...options].join(',')
  sys.mount('by hand', target, type, isSuperReadOnly ? [sys.MS_RDONLY] : [], data)
  const shown = optionsOf(mounts().findLast((line) => line.target.equals(Buffer.from(target)))!)
  sys.umount(target)
  rmSync(dir, { recursive: true })
  known.set(key, shown)
  return shown
}

/** What is in it, and whose: by what was asked for. */
const checkContents = (t: Test, { what }: Spec, dir: Buffer): void => {
  if (what.kind === 'tmpfs') return
  const path = (name: string) => Buffer.concat([dir, Buffer.from(`/${name}`)])
  const own = what.kind === 'overlay' && what.isStack ? what.own : undefined
  const owner = own ?? what.idmap ?? 0
  const { uid, gid } = statSync(path('each'))
  t.same([uid, gid], [owner, owner], 'whose files')
  if (what.kind === 'bind') {
    t.same(readdirSync(path('below')), what.isRecursive ? ['inner'] : [])
    return
  }
  const { numbers, isMixed } = layersOf(what)
  const names = ['dir', 'each', ...numbers.map((i) => `only-${i}`), ...(isMixed ? ['other'] : [])]
  t.same(readdirSync(dir).sort(), names.sort(), 'its layers')
  t.equal(readFileSync(path('each'), 'utf8'), `layer ${numbers[0]}`, 'the topmost on top')
}

const kinds = (line: Line) => line.propagation.map((each) => each.split(':')[0])

/** One mount of mountinfo against what is said of it. */
const checkLine = (
  t: Test,
  line: Line,
  expected: Pick<Said, 'attributes' | 'propagation'>,
  shared: { readonly parent: boolean; readonly source: boolean },
) => {
  t.same([...line.attributes].sort(), attributeWords(expected.attributes), 'attributes')
  t.same(kinds(line), propagationWords(expected, shared), 'propagation')
}

/** What is mounted, if anything is, below the place of all and was not before. */
export const newMounts = ({ area }: Place, before: ReadonlySet<number>): Line[] =>
  mounts().filter((line) => isBelow(line, area.dir) && !before.has(line.id))

/** @param target where it was asked for; a detached mount has been attached there since, which `isLate` says */
export const check = (
  t: Test,
  where: Place,
  {
    spec,
    plan,
    mount,
    target,
    isLate,
    before,
  }: {
    readonly spec: Spec
    readonly plan: Explanation
    readonly mount: Mount
    readonly target: Buffer
    readonly isLate: boolean
    readonly before: ReadonlySet<number>
  },
): void => {
  const { what } = spec
  t.equal(mount.rung, plan.rung)
  t.same(
    mount.notes.filter((note) => !plan.notes.includes(note)),
    [],
    'no note that explain has not',
  )
  const isIdmappedStack = what.kind === 'overlay' && what.isStack && what.idmap !== undefined
  const trees = sys.MOUNT_ATTR_RDONLY | (isIdmappedStack ? sys.MOUNT_ATTR_IDMAP : 0)
  const { attached, detached } = said(plan, { cloned: 'tmpfs', ofTrees: trees })
  const [expected, ...more] = isLate ? detached : attached
  t.same([more.length, (isLate ? attached : detached).length], [0, 0], 'one mount is said')
  const lines = newMounts(where, before)
  const line = lines.find((each) => each.target.equals(target))
  if (expected === undefined || line === undefined) {
    t.fail(`said: ${expected?.type}, there: ${lines.map((each) => each.target)}`)
    return
  }
  t.equal(lines.length, expected.inner ? 2 : 1, 'as many mounts')
  if (isLate) for (const each of [expected, expected.inner]) each?.propagation.push('attach')
  else if (expected.target && !expected.target.includes('{')) {
    t.equal(expected.target, target.toString('latin1'), 'where')
  }
  const parent = spec.isShared && spec.target?.inGroup !== true
  t.equal(line.type, expected.type)
  const shared = { parent, source: spec.isShared }
  checkLine(t, line, expected, shared)
  if (expected.inner) {
    checkLine(t, lines.find((each) => each !== line)!, expected.inner, shared)
  }
  const stat = statmountOf(mount.mountId)
  t.equal(stat.id, line.id, 'the id is of this mount')
  t.equal(stat.type, expected.type)
  t.equal(stat.target, target.toString('latin1'))
  t.same(attributeWords(stat.attributes), attributeWords(expected.attributes), 'statmount')
  t.equal((stat.propagation & sys.MS_SHARED) !== 0, kinds(line).includes('shared'))
  t.equal((stat.propagation & sys.MS_UNBINDABLE) !== 0, kinds(line).includes('unbindable'))
  checkContents(t, spec, target)
  const isOverlay = expected.type === 'overlay'
  if (!isOverlay && what.kind !== 'tmpfs') return
  const kind = {
    hasUpper: what.kind === 'overlay' && what.upper === 'both',
    isMixed: what.kind === 'overlay' && layersOf(what).isMixed,
  }
  t.same(optionsOf(line), optionsByHand(where, expected, kind), `options: ${expected.options}`)
}
