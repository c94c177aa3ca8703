/**
 * Every stage of pending work × every end that is not a kill, under one version of Node. A life is led once, and the
 * calls of the owned threads are its stages; then once for each of them and each end, the thread held at that call
 * by the supervisor until who ends waits for it.
 *
 *   workers     terminate() · process.exit() and an exception in the worker · process.exit() with answers that nobody has seen
 *   processes   process.exit() · an exception that nobody catches · process.exit() with answers that nobody has seen
 *
 * What is promised: it ends as it was told to, neither by a signal nor late, and says nothing; what place.mjs asks for; of a
 * worker, no fd and no thread is left in the process, and the next mount is made there; and in the end the disk is free.
 * A target's mount comes once and goes once in the order of the stages: nothing that is undone is seen.
 */
import { rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import type { RungName } from '../../lib/index.js'
import { compileSupervisor } from '../faults/supervised.js'
import { bundle } from '../support/bundle.mjs'
import { root, run } from '../support/child.js'
import { type Disk, diskPrograms, makeDisk } from '../support/disk.js'
import { startHolder } from '../support/holder.js'
import { all, privileged, programs } from '../support/needs.js'
import { ways } from '../support/rungs.js'
import { type Scratch, scratch } from '../support/scratch.js'
import { mapping } from '../support/userns.js'
import { afterwards, type Place, prepare } from './place.mjs'

const LAYERS = 2

/** Lives (test/kills/lives.mjs) that differ by rung. */
const livesOf: Readonly<Record<RungName, readonly string[]>> = {
  'detached-tree': [
    'mount',
    'own mapping',
    'detached',
    'many',
    'move',
    'group',
    'inside',
    'leave inside',
    'bind',
    'tmpfs',
  ],
  direct: ['mount', 'detached', 'many', 'move'],
  staged: ['mount', 'own mapping', 'move', 'inside'],
  'staged-classic': ['mount', 'own mapping', 'detached'],
  classic: ['mount', 'many', 'move', 'bind', 'tmpfs'],
}

/** As test/runtimes/install has them. */
const versions = ['n20', 'n22', 'n24', 'n26'] as const
export type Version = (typeof versions)[number]

/**
 * `OVERLAYFD_ENDS=10 npm run test:ends` tries each tenth case only, other ones under each version of Node: up to 12 every
 * stage is met under one of them by an end of a worker and by one of a process.
 */
const stride = Number(process.env['OVERLAYFD_ENDS'] ?? 1)
const offsetOf = (version: Version): number =>
  Math.floor((stride * versions.indexOf(version)) / versions.length)

interface Point {
  readonly thread: string
  readonly index: number
  readonly call: string
  /** the JS thread waits for it, and so cannot end by itself */
  readonly isBlocking: boolean
}

interface Result {
  readonly point: Point
  readonly end: string
  readonly mounted: string
  readonly wrong: readonly string[]
}

const processEnds = ['exit', 'throw', 'late'] as const
const statuses = { exit: 7, throw: 1, late: 5 }

/** Order in which a target may be seen: not yet, there, not any more. */
const phases = /^0*1*0*$/

/** What is wrong with the order in which targets come and go, by thread and end. */
const disorder = (results: readonly Result[]): string[] => {
  const wrong: string[] = []
  const groups = new Map<string, string[]>()
  for (const { point, end, mounted } of results) {
    // what is collected in the background has no place in the order
    if (point.thread === 'ofd-reap' && point.call === 'close') continue
    const key = `${point.thread}, ${end}`
    groups.set(key, [...(groups.get(key) ?? []), mounted])
  }
  for (const [key, seen] of groups)
    for (const i of Array.from(seen[0]!).keys()) {
      const order = seen.map((each) => each[i]).join('')
      if (!phases.test(order)) wrong.push(`${key}: target ${i}: ${order}`)
    }
  return wrong
}

/** What the file has swept. */
const total = { stages: 0, workers: 0, processes: 0 }

interface Sweep {
  readonly supervisor: string
  readonly program: string
  readonly node: string
  /** which of each `stride` cases */
  readonly offset: number
  readonly place: Place
}

const start = ({ supervisor, program, node, place }: Sweep, args: readonly string[], timeout: number) =>
  run(supervisor, [node, program, ...args], { timeout, env: { TMPDIR: place.tmp } })

const sweepWorkers = async (t: Test, sweep: Sweep) => {
  const pick = JSON.stringify({ stride, offset: sweep.offset })
  const { status, signal, stdout, stderr } = await start(
    sweep,
    ['workers', JSON.stringify(sweep.place), pick],
    1_200_000,
  )
  t.same({ status, signal, stderr }, { status: 0, signal: null, stderr: '' }, 'the process with the workers')
  const [first, ...results] = stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
  t.same(first?.wrong, [], 'led to its end')
  return { points: (first?.points ?? []) as Point[], results: results as Result[] }
}

/** One process, at one point; undefined if it never got there. */
const endProcess = async (
  sweep: Sweep,
  point: Point,
  end: (typeof processEnds)[number],
): Promise<Result | undefined> => {
  const { place } = sweep
  prepare(place)
  const { status, signal, stdout, stderr, isTimedOut } = await start(
    sweep,
    ['process', JSON.stringify(place), JSON.stringify(point), end],
    60_000,
  )
  const { wrong, mounted } = await afterwards(place)
  if (stdout === '' && status === 0) return undefined
  if (status !== statuses[end] || isTimedOut)
    wrong.push(`ended with ${isTimedOut ? 'nothing' : (status ?? signal)}`)
  if (end === 'throw' ? !/Error: thrown on purpose/.test(stderr) : stderr !== '')
    wrong.push(`said: ${stderr}`)
  return { point, end, mounted, wrong }
}

const sweepProcesses = async (sweep: Sweep, points: readonly Point[]): Promise<Result[]> => {
  const results: Result[] = []
  for (const [k, point] of points.entries()) {
    if (point.isBlocking) continue
    for (const [e, end] of processEnds.entries()) {
      if ((k * processEnds.length + e) % stride !== sweep.offset) continue
      let result: Result | undefined
      for (let tries = 0; result === undefined && tries < 4; tries++)
        result = await endProcess(sweep, point, end)
      results.push(result ?? { point, end, mounted: '', wrong: ['was not met'] })
    }
  }
  return results
}

const sweepLife = async (t: Test, sweep: Sweep): Promise<void> => {
  const { points, results } = await sweepWorkers(t, sweep)
  t.ok(points.length > 10, `${points.length} stages`)
  const others = await sweepProcesses(sweep, points)
  for (const [where, found] of Object.entries({ workers: results, processes: others })) {
    const bad = found.filter(({ wrong }) => wrong.length > 0)
    t.same(
      bad.map(
        ({ point, end, wrong }) =>
          `${end} at ${point.thread} ${point.call} ${point.index}: ${wrong.join('; ')}`,
      ),
      [],
      `${where}: ${found.length} ends`,
    )
    t.same(
      disorder(found.filter(({ mounted }) => mounted !== '')),
      [],
      `${where}: each target comes and goes once`,
    )
  }
  total.stages += points.length
  total.workers += results.length
  total.processes += others.length
}

/** Calls what is to be done with a place for a life, which is there only meanwhile. */
const inPlace = async (
  t: Test,
  area: Scratch,
  disk: Disk,
  rung: RungName,
  life: string,
  use: (place: Place) => Promise<void>,
) => {
  const { idmap, shift } = ways.find((way) => way.rung === rung)!
  const holder = /inside/.test(life) ? await startHolder() : undefined
  const place: Place = {
    life,
    rung,
    shift: life === 'own mapping' ? 300_000 : shift,
    ...(idmap && { idmap, other: mapping(300_000) }),
    lowerdir: Array.from({ length: LAYERS }, (_, i) => join(disk.dir, 'layers', String(i), 'fs')),
    base: join(disk.dir, 'base'),
    tmp: area.mkdir('tmp'),
    ...(holder && { holder: holder.pid, namespace: `/proc/${holder.pid}/ns/mnt` }),
  }
  try {
    await use(place)
  } finally {
    await holder?.end()
  }
  t.equal(await disk.unmount(), '', 'the disk is free')
}

/** A file's share: all lives of all rungs, under one version. */
export const sweeps = (name: Version): void => {
  const node = join(root, 'test/runtimes/node_modules', name, 'bin/node')
  t.teardown(() => {
    // past tap, which shows nothing of what passed
    console.error(
      `${name}: ${total.stages} stages, ${total.workers} ends of workers, ${total.processes} of processes`,
    )
  })
  for (const [rung, names] of Object.entries(livesOf) as [RungName, readonly string[]][]) {
    t.test(`${name}, ${rung}`, all(privileged, programs('gcc', ...diskPrograms)), async (t) => {
      const { status, stderr } = await run(join(root, 'test/runtimes/install'), [], { timeout: 300_000 })
      t.equal(status, 0, stderr)
      const area = scratch(t)
      const here = dirname(fileURLToPath(import.meta.url))
      const program = area.path('program.mjs')
      await bundle(join(here, 'program.mjs'), program)
      const supervisor = compileSupervisor(area.dir)
      const disk = makeDisk(area)
      disk.mount()
      area.layers(LAYERS, { base: disk.dir })
      t.equal(await disk.unmount(), '')
      for (const life of names) {
        await t.test(life, async (t) => {
          disk.mount()
          await inPlace(t, area, disk, rung, life, (place) =>
            sweepLife(t, { supervisor, program, node, offset: offsetOf(name), place }),
          )
        })
      }
      rmSync(program)
    })
  }
}
