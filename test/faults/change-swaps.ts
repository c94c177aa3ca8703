/**
 * A mount that is changed, moved and unmounted while the directory above it becomes a symbolic link, or somebody else's: theirs
 * has a mount on each of the names, which stays as it is. What the handle does not find it leaves, and finds again later.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { type LayerStack, Mounter, type Rootfs } from '../../lib/index.js'
import { isBelow, mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { type Way, ways } from '../support/rungs.js'
import { type Scratch, scratch } from '../support/scratch.js'
import { swapOf, sweepSwaps } from './held-swaps.js'

const names = ['target', 'second'] as const

/** Somebody else's mounts, by the names that ours have. */
const theirs = (t: { teardown(undo: () => void): void }, area: Scratch): string => {
  const dir = area.mkdir('outside')
  for (const name of names) {
    mkdirSync(join(dir, name))
    execFileSync('mount', ['-n', '-t', 'tmpfs', '-o', 'mode=755', 'theirs', join(dir, name)])
    writeFileSync(join(dir, name, 'theirs'), 'theirs')
    t.teardown(() => execFileSync('umount', ['-n', join(dir, name)]))
  }
  return dir
}

const tableOf = (dir: string): string[] =>
  mounts()
    .filter((mount) => isBelow(mount, dir))
    .map(({ id, type, target, attributes, propagation }) =>
      [id, type, target, attributes, propagation].join(' '),
    )

const sweepWay = (way: Way): void => {
  t.test(way.rung, privileged, async (t) => {
    const area = scratch(t)
    const lowerdir = area.layers(2)
    const outside = theirs(t, area)
    const place = area.mkdir('place')
    for (const name of names) mkdirSync(join(place, name))
    symlinkSync(outside, area.path('link'))
    const mounter = new Mounter({ rung: way.rung, threads: 1, reapers: 1 })
    const table = tableOf(outside)
    let stack: LayerStack
    let made: Rootfs
    await sweepSwaps(t, {
      name: `changes, ${way.rung}`,
      swaps: [swapOf('above, a link', place, area.path('link'))],
      outside: [outside],
      async before() {
        stack = await mounter.open({ lowerdir, idmap: way.idmap })
        made = await stack.mount({ target: join(place, 'target') })
        // closes in the background are no calls of the run
        await mounter.idle()
      },
      async run() {
        try {
          await made.setAttributes({ nosuid: true })
          await made.setPropagation('private')
          if (way.rung !== 'classic') await made.moveTo(join(place, 'second'))
          await made.unmount()
        } finally {
          await mounter.idle()
        }
      },
      async after() {
        // where it is moved to its path decides, as of a target
        const moved = mounts().filter((mount) => isBelow(mount, outside) && mount.type === 'overlay')
        for (const { target } of moved) execFileSync('umount', ['-n', '-l', target.toString()])
        const found: string[] = []
        if (moved.length === 0) await made.unmount().catch((error) => found.push(`${error}`))
        else await made.unmount().catch(() => undefined)
        const now = tableOf(outside)
        found.push(...now.filter((line) => !table.includes(line)).map((line) => `there is ${line}`))
        found.push(...table.filter((line) => !now.includes(line)).map((line) => `gone is ${line}`))
        const left = tableOf(place)
        await stack.close()
        await mounter.idle()
        return [...found, ...left.map((line) => `left is ${line}`)]
      },
    })
    await mounter.close()
  })
}

/** On every rung. */
export const sweepChanges = (): void => {
  for (const way of ways) sweepWay(way)
}
