/**
 * Names that somebody exchanges for symbolic links while mounts are made, moved, changed and unmounted: the rule of
 * docs/security.md ("How paths are resolved"), on every rung.
 *
 * Outside of what is mounted on lies what must stay as it is: a directory with a mount of somebody else's on each name
 * that a link could lead to, files, and their owners.
 */
import { execFileSync } from 'node:child_process'
import { closeSync, lstatSync, mkdirSync, openSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { LayerStack, type Mount, MountError, Mounter } from '../../lib/index.js'
import { watch } from '../support/left.js'
import { isBelow, mounts } from '../support/mountinfo.js'
import { all, privileged, programs } from '../support/needs.js'
import { forms, ways } from '../support/rungs.js'
import { type Scratch, scratch } from '../support/scratch.js'
import { buildSwapper, startSwapper } from '../support/swapper.js'
import { settings } from './settings.js'

const rounds = settings(15).numRuns as number
const sh = (...args: string[]): void => {
  execFileSync(args[0] as string, args.slice(1), { stdio: ['ignore', 'ignore', 'pipe'] })
}

/** What a race may answer: the name was a link, gone, another directory, or a mount in the way. */
const known = ['ELOOP', 'ENOENT', 'ENOTDIR', 'EINVAL', 'EBUSY', 'ESTALE', 'EXDEV', 'EAGAIN']

/** A place that nothing may reach: `target` in it is somebody else's mount. */
const outsideOf = (t: Test, area: Scratch) => {
  const dir = area.mkdir('outside')
  for (const name of ['target', 'second', 'upper', 'work', 'fs']) mkdirSync(join(dir, name))
  writeFileSync(join(dir, 'fs/secret'), 'of the host')
  for (const name of ['target', 'second']) {
    sh('mount', '-n', '-t', 'tmpfs', '-o', 'mode=755', 'theirs', join(dir, name))
    sh('mount', '-n', '--make-shared', join(dir, name))
    writeFileSync(join(dir, name, 'theirs'), 'theirs')
    t.teardown(() => sh('umount', '-n', join(dir, name)))
  }
  const seen = () => ({
    mounts: mounts()
      .filter((mount) => isBelow(mount, dir))
      .map(({ id, type, target, attributes, propagation, options }) =>
        [id, type, target, attributes, propagation, options].join(' '),
      ),
    entries: (readdirSync(dir, { recursive: true }) as string[]).sort().map((name) => {
      const { mode, uid, gid, ino } = lstatSync(join(dir, name))
      return [name, mode, uid, gid, ino].join(' ')
    }),
  })
  const before = seen()
  return {
    dir,
    isUntouched: (what: string) => t.same(seen(), before, `${what}: outside nothing has changed`),
    /** for what may go there by the rule: theirs are still there, as they were */
    areTheirs: (what: string) => {
      const now = seen().mounts
      t.same(
        before.mounts.filter((line) => !now.includes(line)),
        [],
        `${what}: theirs are as they were`,
      )
    },
  }
}

type Outside = ReturnType<typeof outsideOf>

const codeOf = (error: unknown): string => {
  if (error instanceof MountError) return error.code
  throw error
}

/** Mounts of this library: all that is new. */
const newMounts = (area: Scratch, before: ReadonlySet<number>) =>
  mounts().filter((mount) => isBelow(mount, area.dir) && !before.has(mount.id))

/**
 * Changes, moves and unmounts a mount of which `target` is the place, while names are exchanged. What it cannot unmount is
 * somewhere the handle's path does not lead to: then it says so, and the test takes it away by the place it has.
 */
const use = async (t: Test, mount: Mount, codes: Set<string>, isSync: boolean, to?: string) => {
  const tried = async (run: () => Promise<unknown>) => {
    try {
      await run()
      return true
    } catch (error) {
      codes.add(codeOf(error))
      return false
    }
  }
  await tried(async () =>
    isSync ? mount.setAttributesSync({ nosuid: true }) : mount.setAttributes({ nosuid: true }),
  )
  if (to !== undefined) await tried(async () => (isSync ? mount.moveToSync(to) : mount.moveTo(to)))
  await tried(async () => (isSync ? mount.setPropagationSync('private') : mount.setPropagation('private')))
  for (let tries = 0; tries < 50; tries++) {
    if (await tried(async () => (isSync ? mount.unmountSync() : mount.unmount()))) return true
  }
  t.ok(mount.path, 'the handle is what it was')
  return false
}

interface Case {
  readonly name: string
  /** names below the area that are exchanged, the first being the real one */
  readonly pair: readonly [string, string]
  /** where the link of the pair leads to, below `outside` */
  readonly to: string
  /** the target, given an fd of `above` */
  readonly target: (area: Scratch, above: number) => string
  /** a second place to move to */
  readonly second?: (area: Scratch, above: number) => string
  /** links above a target are followed, by the rule: it may go where they lead */
  readonly mayLead?: true
}

const cases: readonly Case[] = [
  {
    name: 'the last name of the target',
    pair: ['spot/above/target', 'spot/above/link'],
    to: 'target',
    target: (area) => area.path('spot/above/target'),
    second: (area) => area.path('spot/above/second'),
  },
  {
    name: 'the last name of the target, which it is moved to',
    pair: ['spot/above/target', 'spot/above/link'],
    to: 'target',
    target: (area) => area.path('spot/above/second'),
    second: (area) => area.path('spot/above/target'),
  },
  {
    name: 'a directory above a target that is given below an fd',
    pair: ['spot/above', 'spot/link'],
    to: '',
    target: (_, above) => `/proc/self/fd/${above}/target`,
    second: (_, above) => `/proc/self/fd/${above}/second`,
  },
  {
    name: 'a directory above a target that is given as a path',
    pair: ['spot/above', 'spot/link'],
    to: '',
    target: (area) => area.path('spot/above/target'),
    second: (area) => area.path('spot/above/second'),
    mayLead: true,
  },
]

const needed = all(privileged, programs('gcc'))

/** What one round makes. */
type Make = (target: string, round: number) => Promise<Mount>

const race = async (t: Test, area: Scratch, outside: Outside, make: Make, each: Case) => {
  area.mkdir('spot/above/target')
  area.mkdir('spot/above/second')
  symlinkSync(join(outside.dir, each.to), area.path(each.pair[1]))
  const above = openSync(area.path('spot/above'), 'r')
  const before = new Set(mounts().map(({ id }) => id))
  const program = buildSwapper(area.dir)
  const pair = [area.path(each.pair[0]), area.path(each.pair[1])] as const
  const start = () => startSwapper(t, program, [pair])
  let swapper = await start()
  let tried = 0
  const codes = new Set<string>()
  let made = 0
  let orphans = 0
  for (let round = 0; round < rounds; round++) {
    const what = `round ${round}`
    const check = each.mayLead ? outside.areTheirs : outside.isUntouched
    try {
      const mount = await make(each.target(area, above), round)
      made++
      check(`${what}, mounted`)
      await use(t, mount, codes, round % 2 === 1, each.second?.(area, above))
    } catch (error) {
      codes.add(codeOf(error))
    }
    check(`${what}, unmounted`)
    if (newMounts(area, before).length === 0) continue
    // what its handle could not find is where the exchange has left it: taken away when the names stand still
    tried += (await swapper.stop()).tried
    for (const { target, type } of newMounts(area, before).reverse()) {
      orphans++
      const isInside = target.toString().startsWith(`${area.path('spot')}/`)
      t.ok(each.mayLead || isInside, `${what}: ${type} at ${target}`)
      sh('umount', '-n', '-l', target.toString())
    }
    swapper = await start()
  }
  tried += (await swapper.stop()).tried
  t.ok(
    tried > rounds,
    `${tried} exchanges, ${made} of ${rounds} mounted, ${orphans} not found; ${[...codes]}`,
  )
  t.same(
    [...codes].filter((code) => !known.includes(code)),
    [],
  )
  closeSync(above)
}

for (const { rung, idmap } of ways) {
  for (const each of cases) {
    t.test(`${each.name}: ${rung}`, needed, async (t) => {
      const area = scratch(t)
      const lowerdir = area.layers(2)
      const at = area.container('c')
      const outside = outsideOf(t, area)
      const left = watch()
      const mounter = new Mounter({ rung })
      const stack = await LayerStack.open({ lowerdir, idmap }, { mounter })
      await race(
        t,
        area,
        outside,
        async (target, round) => {
          const isSync = round % 2 === 1
          const form = forms[isSync ? 1 : 0]!
          // in turn an overlay with an upper, one without, a clone, a bind and a tmpfs
          const source = lowerdir[0]!
          switch (round % 5) {
            case 0:
              return form.stackMount(stack, { upperdir: at.upperdir, workdir: at.workdir, target })
            case 1:
              return form.stackMount(stack, { target })
            case 2:
              return form.mount(mounter, { lowerdir: [source], idmap, target })
            case 3:
              return isSync
                ? mounter.mountBindSync({ source, target })
                : mounter.mountBind({ source, target })
            default:
              return isSync ? mounter.mountTmpfsSync({ target }) : mounter.mountTmpfs({ target })
          }
        },
        each,
      )
      await stack.close()
      await mounter.close()
      t.same(await left({ threads: true }), [], 'nothing is left')
    })
  }
}
