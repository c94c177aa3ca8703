/**
 * Upper, work directory, target, or the directory above them, that become a symbolic link or somebody else's directory while
 * they are made, opened and mounted: theirs gets no owner, mode, attribute or content of ours, and nothing of it goes.
 */
import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { type LayerStack, Mounter, type Rootfs } from '../../lib/index.js'
import { isBelow, mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { setXattrs, type Way, ways } from '../support/rungs.js'
import { type Scratch, scratch } from '../support/scratch.js'
import { type Swap, swapOf, sweepSwaps } from './held-swaps.js'

const names = ['upper', 'work', 'rootfs'] as const

/** Somebody else's directories, by the names that ours have. */
const theirs = (area: Scratch, name: string): string => {
  const dir = area.mkdir(name)
  for (const each of names) {
    mkdirSync(join(dir, each))
    chownSync(join(dir, each), 4711, 4711)
    chmodSync(join(dir, each), 0o700)
  }
  for (const each of ['upper/secret', 'work/secret', 'work/work/secret']) {
    mkdirSync(join(dir, each, '..'), { recursive: true })
    writeFileSync(join(dir, each), 'of the host')
  }
  return dir
}

/** What a path leads to is decided by its first look-up: the call that finds it there, or makes it. */
const decidedBy = (calls: readonly string[], which: number, isMade: boolean): number => {
  const call = isMade ? 'mkdirat' : 'openat'
  const at = calls.flatMap((each, i) => (each === call ? [i] : []))
  return at[Math.min(which, at.length - 1)] ?? -1
}

interface Exchange extends Swap {
  /** of `names`; all of them, if it is the directory above */
  readonly which: number
}

const exchanges = (area: Scratch, place: string): { swaps: Exchange[]; outside: string[] } => {
  const outside = theirs(area, 'outside')
  const swaps: Exchange[] = []
  for (const [which, name] of names.entries()) {
    symlinkSync(join(outside, name), area.path(`link-${name}`))
    swaps.push({ ...swapOf(`${name}, a link`, join(place, name), area.path(`link-${name}`)), which })
    swaps.push({ ...swapOf(`${name}, theirs`, join(place, name), join(outside, name)), which })
  }
  symlinkSync(outside, area.path('link'))
  swaps.push({ ...swapOf('above, a link', place, area.path('link')), which: 2 })
  swaps.push({ ...swapOf('above, theirs', place, outside), which: 2 })
  return { swaps, outside: [outside] }
}

/** Wherever they are: a target's path decides until the attach. */
const overlays = (area: Scratch) =>
  mounts().filter((mount) => isBelow(mount, area.dir) && mount.type === 'overlay')

const takeDown = (area: Scratch): void => {
  for (const { target } of overlays(area)) execFileSync('umount', ['-n', '-l', target.toString()])
}

const sweepUpper = (way: Way, isMade: boolean, upper: 'asis' | 'shifted' | 'idmapped'): void => {
  const name = `${way.rung}, ${upper}, ${isMade ? 'made' : 'there'}`
  t.test(name, privileged, async (t) => {
    const area = scratch(t)
    const lowerdir = area.layers(2)
    chownSync(lowerdir[0]!, 12, 34)
    setXattrs(lowerdir[0]!, { 'user.note': 'ours' })
    const place = area.mkdir('place')
    const at = { upperdir: join(place, 'upper'), workdir: join(place, 'work'), target: join(place, 'rootfs') }
    const { swaps, outside } = exchanges(area, place)
    const mounter = new Mounter({ rung: way.rung, threads: 1, reapers: 1 })
    let stack: LayerStack
    let made: Rootfs | undefined
    await sweepSwaps(t, {
      name,
      swaps,
      outside,
      decided: (calls, swap) => decidedBy(calls, (swap as Exchange).which, isMade),
      async before() {
        if (!isMade) for (const each of names) mkdirSync(join(place, each))
        stack = await mounter.open({ lowerdir, idmap: way.idmap })
        // closes in the background are no calls of the run
        await mounter.idle()
      },
      async run() {
        try {
          made = await stack.mount({ ...at, upper, create: isMade })
          const shown = overlays(area).map(({ target }) => readdirSync(target).join())
          // none, if it was taken down
          const isRight = shown.every((each) => each.includes('only-1') && !each.includes('secret'))
          if (!isRight) throw new Error(`it shows ${shown}`)
          await made.unmount()
          made = undefined
        } finally {
          await mounter.idle()
        }
      },
      takeDown: () => takeDown(area),
      async after() {
        // what its name did not lead to meanwhile
        await made?.unmount().catch(() => undefined)
        made = undefined
        const left = overlays(area)
        takeDown(area)
        await stack.close()
        await mounter.idle()
        for (const each of names) rmSync(join(place, each), { recursive: true, force: true })
        // elsewhere it is where the target's path led to
        return left.filter((mount) => isBelow(mount, place)).map(({ target }) => `left mounted at ${target}`)
      },
    })
    await mounter.close()
  })
}

/** Mounts of an open stack. */
export const sweepUppers = (): void => {
  for (const way of ways) {
    for (const upper of way.idmap ? (['shifted', 'idmapped'] as const) : (['asis'] as const)) {
      for (const isMade of [true, false]) sweepUpper(way, isMade, upper)
    }
  }
}
