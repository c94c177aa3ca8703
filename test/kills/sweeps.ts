/**
 * What is promised after a kill, asked after each: strace reported it; nothing is mounted but complete mounts at their
 * targets, and none of those before its attach or after its unmount; no process, no temporary directory is left; the
 * next process takes down what is there and leads the same life in the same place to its end; and then the file
 * system below is free, which it would not be if a namespace, a tree or a superblock were kept anywhere on the machine.
 *
 * The next process is this one.
 */
import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { binding } from '../../lib/binding.js'
import * as api from '../../lib/index.js'
import { cString } from '../../lib/path.js'
import { bundle } from '../support/bundle.mjs'
import { root } from '../support/child.js'
import { type Disk, diskPrograms, makeDisk } from '../support/disk.js'
import { startHolder } from '../support/holder.js'
import { isBelow, mounts } from '../support/mountinfo.js'
import { all, privileged, programs } from '../support/needs.js'
import { setXattrs, ways } from '../support/rungs.js'
import { read, type Scratch, scratch } from '../support/scratch.js'
import { mapping } from '../support/userns.js'
import { lives, type Place, targets } from './lives.mjs'
import { disproof, killAt, type Led, lead, markName, pointsOf } from './sweep.js'

const LAYERS = 2
/** of the top layer, and so of a new upper */
const top = { uid: 7, gid: 8, mode: 0o2750, xattr: 'user.of', value: 'the top layer' }

const command = (program: string, ...args: string[]): string => {
  const PATH = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`
  return execFileSync(program, args, { encoding: 'utf8', env: { ...process.env, PATH } }).trim()
}

/** Waits for what the kernel, or a process that was killed, does in a moment. */
const until = async <T>(look: () => T, isDone: (seen: T) => boolean, ms = 20_000): Promise<T> => {
  const end = performance.now() + ms
  for (;;) {
    const seen = look()
    if (isDone(seen) || performance.now() > end) return seen
    await sleep(5)
  }
}

/** What is there at a moment, in the namespace where the targets are. */
const mountedBelow = (dir: string, pid: number | 'self') =>
  mounts(pid)
    .filter((mount) => isBelow(mount, dir))
    .map((mount) => ({ ...mount, path: mount.target.toString() }))

/** Marked processes that have not ended; a zombie's environment is empty. */
const processes = (mark: string): string[] =>
  readdirSync('/proc').filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(mark)
    } catch {
      return false
    }
  })

interface Way {
  readonly rung: api.RungName
  readonly idmap: api.IdmapOption | undefined
  readonly shift: number
}

/** What a mount shows that is as it should be. */
const whole = (life: string, { shift }: Way) => {
  if (life === 'tmpfs') return { root: '0:0 40700 -61', files: [null, null, null] }
  const root = `${top.uid + shift}:${top.gid + shift} 42750 ${top.value.length}`
  return { root, files: ['layer 0', 'layer 0', life === 'bind' ? null : 'layer 1'] }
}

const seen = (path: string) => {
  const { uid, gid, mode } = lstatSync(path)
  const size = binding.lgetxattr(cString(path, 'path'), cString(top.xattr, 'name'), Buffer.alloc(0))
  const root = `${uid}:${gid} ${mode.toString(8)} ${size}`
  return { root, files: read(path, 'each', 'only-0', 'dir/from-1') }
}

interface Case {
  readonly life: string
  readonly way: Way
  readonly disk: Disk
  readonly place: Place
  /** the process in whose mount namespace the targets are */
  readonly holder: number | 'self'
}

/** As it is seen there. */
const pathIn = ({ holder }: Case, path: string) => (holder === 'self' ? path : `/proc/${holder}/root${path}`)

/** What is wrong with what is mounted below the place, and at how many targets something is. */
const look = (each: Case) => {
  const { life, way, place, holder } = each
  const wrong: string[] = []
  const wanted = targets[life]!.map((name) => join(place.base, name))
  const found = mountedBelow(place.base, holder)
  for (const { path, type } of found) {
    if (!wanted.includes(path)) wrong.push(`${type} at ${path}`)
    else if (found.filter((other) => other.path === path).length > 1) wrong.push(`two mounts at ${path}`)
    // the group's own mount has nothing but directories
    else if (life !== 'group' || type === 'overlay') {
      const [is, should] = [seen(pathIn(each, path)), whole(life, way)]
      if (JSON.stringify(is) !== JSON.stringify(should)) wrong.push(`${path} shows ${JSON.stringify(is)}`)
    }
  }
  if (holder !== 'self') {
    const here = mountedBelow(place.base, 'self')
    if (here.length > 0) wrong.push(`here, not there: ${here.map(({ path }) => path).join(' ')}`)
  }
  return { wrong, mounted: wanted.map((path) => (found.some((one) => one.path === path) ? 1 : 0)).join('') }
}

/** Takes down what a killed process had attached, by what it had said of it, or by its mark. */
const takeDown = async (
  each: Case,
  mounter: api.Mounter,
  { said }: Led,
  owner: number,
): Promise<string[]> => {
  const { life, place, holder } = each
  const wrong: string[] = []
  if (holder !== 'self') {
    for (const { path } of mountedBelow(place.base, holder).reverse())
      command('nsenter', `--mount=/proc/${holder}/ns/mnt`, 'umount', '-n', path)
    return wrong
  }
  if (life === 'bind' || life === 'tmpfs') {
    for (const { path } of mountedBelow(place.base, 'self').reverse()) command('umount', '-n', path)
    return wrong
  }
  for (const json of life === 'group' ? [] : said) {
    try {
      await (await mounter.openRootfs(JSON.parse(json))).unmount()
    } catch (error) {
      if (error instanceof api.HandoverError === false) wrong.push(String(error))
    }
  }
  for (const { target, owner: found, isUnmounted, error } of await mounter.reconcile(place.base, {
    unmount: true,
  })) {
    if (found.pid !== owner || !isUnmounted) wrong.push(`${target} of ${found.pid} was left: ${error}`)
  }
  const left = mountedBelow(place.base, 'self')
  if (left.length > 0) wrong.push(`still mounted: ${left.map(({ path }) => path).join(' ')}`)
  return wrong
}

/** Leads the life to its end, as the process after the one that was killed. */
const leadOn = async (each: Case, mounter: api.Mounter): Promise<string[]> => {
  const { life, place } = each
  const wrong: string[] = []
  let last = ''
  const made = () => {
    const { wrong: found, mounted } = look(each)
    wrong.push(...found)
    last = mounted
  }
  try {
    await (await lives[life]!({ mounter, place, made }))()
  } catch (error) {
    wrong.push(`the next process: ${(error as Error).message}`)
  }
  if (wrong.length === 0 && !last.endsWith('1')) wrong.push('the next process mounted nothing')
  await mounter.close()
  return wrong
}

const enough = (life: string, base: string) => {
  for (const name of ['a', 'b', 'c', ...(life === 'group' ? ['group'] : [])])
    mkdirSync(join(base, name), { recursive: true })
}

/** Sets a case up, and undoes it; what is wrong afterwards is added. */
const inPlace = async (
  life: string,
  way: Way,
  disk: Disk,
  run: (each: Case) => Promise<string[]>,
): Promise<string[]> => {
  disk.mount()
  const base = join(disk.dir, 'base')
  enough(life, base)
  const holder = /inside/.test(life) ? await startHolder() : undefined
  const place: Place = {
    rung: way.rung,
    ...(way.idmap && { idmap: way.idmap, other: mapping(300_000) }),
    lowerdir: Array.from({ length: LAYERS }, (_, i) => join(disk.dir, 'layers', String(i), 'fs')),
    base,
    ...(holder && { namespace: `/proc/${holder.pid}/ns/mnt` }),
  }
  const wayOfLife = life === 'own mapping' ? { ...way, shift: 300_000 } : way
  try {
    return await run({ life, way: wayOfLife, disk, place, holder: holder?.pid ?? 'self' })
  } finally {
    await holder?.end()
    // only what is not a mount point is there by now, or umount below says so
    if (mountedBelow(base, 'self').length === 0) rmSync(base, { recursive: true, force: true })
    for (const { path } of mountedBelow(base, 'self').reverse()) command('umount', '-n', '-l', path)
  }
}

/** `OVERLAYFD_KILLS=7 npm run test:kills` tries each seventh point only. */
const stride = Number(process.env['OVERLAYFD_KILLS'] ?? 1)

/** Order in which a target may be seen: not yet, there, not any more. */
const phases = /^0*1*0*$/

const sweep = async (t: Test, area: Scratch, life: string, way: Way, disk: Disk): Promise<void> => {
  const mark = `${markName}=${process.pid}`
  const tmp = area.mkdir('tmp')
  const program = area.path('program.mjs')
  await bundle(join(root, 'test/kills/program.mjs'), program)
  const lived = { name: life, tmp, program }
  let found: ReturnType<typeof pointsOf> | undefined
  const whileLed = await inPlace(life, way, disk, async (each) => {
    const led = await lead({ ...lived, place: each.place })
    t.same(
      { status: led.status, stderr: led.stderr },
      { status: 0, stderr: '' },
      'it ends well when it is let',
    )
    found = pointsOf(led, each.place.base)
    return [...look(each).wrong, ...(await takeDown(each, new api.Mounter(), led, led.pid))]
  })
  t.same([whileLed, await disk.unmount()], [[], ''], 'and leaves nothing')
  const { points, shadowed } = found!
  t.same(
    [...new Set(shadowed.map(({ call }) => call))].filter((call) => !/^(statx|open_tree_attr)$/.test(call)),
    [],
    'every call can be met, or changes nothing',
  )
  const order = new Map<string, string[][]>()
  const bad: string[] = []
  for (const [k, point] of points.entries()) {
    if (k % stride !== 0 && k !== points.length - 1) continue
    let state = ''
    let isTold = false
    const wrong = await inPlace(life, way, disk, async (each) => {
      const led = await killAt({ ...lived, place: each.place }, point)
      const no = disproof(led, point)
      if (no !== undefined) return [no]
      const { wrong, mounted } = look(each)
      state = mounted
      isTold = led.said.length > 0
      const left = await until(
        () => processes(mark),
        (pids) => pids.length === 0,
      )
      if (left.length > 0) wrong.push(`processes are left: ${left.join(' ')}`)
      const mounter = new api.Mounter({ rung: way.rung, threads: 1, reapers: 1 })
      wrong.push(...(await takeDown(each, mounter, led, led.pid)))
      return [...wrong, ...(await leadOn(each, mounter))]
    })
    const held = await disk.unmount()
    if (held !== '') wrong.push(`the disk is still held: ${held}`)
    // what is done in the background has no order until the last handle was told
    const states = [...state].map((digit) => (point.thread === 'ofd-reap' && !isTold ? '' : digit))
    order.set(point.thread, [...(order.get(point.thread) ?? []), states])
    if (wrong.length > 0)
      bad.push(`${k + 1}. ${point.thread} ${point.call}(${point.args}): ${wrong.join('; ')}`)
  }
  t.same(bad, [], `killed at ${points.length} calls`)
  for (const [thread, states] of order) {
    for (const i of states[0]!.keys())
      t.match(
        states.map((each) => each[i]).join(''),
        phases,
        `${thread}: each target comes once and goes once`,
      )
  }
  t.same(readdirSync(tmp), [], 'no temporary directory')
  t.comment(`${way.rung}, ${life}: ${points.length} kills`)
}

/** A file's share: lives of a rung. */
export const sweeps = (rung: api.RungName, names: readonly string[], idmapped = true): void => {
  const found = ways.find((way) => way.rung === rung)!
  const way: Way = idmapped ? found : { ...found, idmap: undefined, shift: 0 }
  for (const life of names) {
    t.test(`${rung}: ${life}`, all(privileged, programs('strace', ...diskPrograms)), async (t) => {
      const area = scratch(t)
      const disk = makeDisk(area)
      disk.mount()
      const [first] = area.layers(LAYERS, { base: disk.dir })
      chownSync(first!, top.uid, top.gid)
      chmodSync(first!, top.mode)
      setXattrs(first!, { [top.xattr]: top.value })
      t.equal(await disk.unmount(), '')
      await sweep(t, area, life, way, disk)
    })
  }
}
