/**
 * Paths of all kinds of bytes, as layers, upper, work directory and target, on every rung: each mount shows what the
 * same mount shows that is made by hand, with mount(2) or the calls by fd of overlayfd/sys, and is where it was asked for.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import fc from 'fast-check'
import t from 'tap'
import { LayerStack, Mounter } from '../../lib/index.js'
import * as sys from '../../lib/sys.js'
import { watch } from '../support/left.js'
import { mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { ways } from '../support/rungs.js'
import { scratch } from '../support/scratch.js'
import { NAME_MAX, name, place } from './names.js'
import { settings } from './settings.js'

const slash = Buffer.from('/')
const join = (...parts: readonly (Buffer | string)[]): Buffer =>
  Buffer.concat(parts.flatMap((part, i) => (i === 0 ? [Buffer.from(part)] : [slash, Buffer.from(part)])))

/** Every name below, with what is in it. */
const shown = (dir: Buffer): Record<string, string> =>
  Object.fromEntries(
    readdirSync(dir, { encoding: 'buffer', withFileTypes: true }).flatMap((entry): [string, string][] => {
      const at = join(dir, entry.name)
      if (!entry.isDirectory()) return [[entry.name.toString('latin1'), readFileSync(at, 'utf8')]]
      return [
        [entry.name.toString('latin1'), 'a directory'],
        ...Object.entries(shown(at)).map(([inner, text]): [string, string] => [
          `${entry.name.toString('latin1')}/${inner}`,
          text,
        ]),
      ]
    }),
  )

/** By hand, and detached: every directory by fd, so that no byte of a path means anything. */
const byHand = (lowerdir: readonly Buffer[], upperdir: Buffer, workdir: Buffer): number => {
  const fs = sys.fsopen('overlay')
  const fds: number[] = []
  const set = (key: string, dir: Buffer) => {
    const fd = sys.openat2(sys.AT_FDCWD, dir, { flags: [sys.O_PATH, sys.O_DIRECTORY] })
    fds.push(fd)
    sys.fsconfigSetFd(fs, key, fd)
  }
  try {
    for (const dir of lowerdir) set('lowerdir+', dir)
    set('upperdir', upperdir)
    set('workdir', workdir)
    sys.fsconfigCreate(fs)
    return sys.fsmount(fs)
  } finally {
    for (const fd of [fs, ...fds]) sys.close(fd)
  }
}

interface Names {
  readonly layers: readonly (readonly Buffer[])[]
  readonly upper: readonly Buffer[]
  readonly work: readonly Buffer[]
  readonly target: readonly Buffer[]
  readonly file: Buffer
}

const names: fc.Arbitrary<Names> = fc.record({
  layers: fc.array(place, { minLength: 1, maxLength: 3 }),
  upper: place,
  work: place,
  target: place,
  file: name,
})

for (const { rung, idmap } of ways) {
  t.test(`bytes of every kind: ${rung}`, privileged, async (t) => {
    const area = scratch(t)
    const mounter = new Mounter({ rung })
    const left = watch()
    let round = 0
    await fc.assert(
      fc.asyncProperty(names, fc.boolean(), fc.boolean(), async (of, isStack, isCreated) => {
        const base = Buffer.from(area.mkdir(`round-${round++}`))
        const lowerdir = of.layers.map((parts, i) => join(base, `l${i}`, ...parts))
        const [upperdir, workdir, target] = [
          join(base, 'u', ...of.upper),
          join(base, 'w', ...of.work),
          join(base, 't', ...of.target),
        ]
        for (const [i, dir] of lowerdir.entries()) {
          mkdirSync(dir, { recursive: true })
          writeFileSync(join(dir, `only-${i}`), `layer ${i}`)
          writeFileSync(join(dir, of.file), `layer ${i}`)
        }
        if (!isCreated) for (const dir of [upperdir, workdir, target]) mkdirSync(dir, { recursive: true })
        const mount = { upperdir, workdir, target, create: isCreated }
        const stack = isStack ? await LayerStack.open({ lowerdir, idmap }, { mounter }) : undefined
        const rootfs = stack ? await stack.mount(mount) : await mounter.mount({ lowerdir, idmap, ...mount })
        try {
          const at = mounts().find((each) => each.target.equals(target))
          t.equal(at?.type, 'overlay')
          t.ok(rootfs.pathBytes.equals(target))
          writeFileSync(join(target, 'written'), 'above')
          const seen = shown(target)
          await rootfs.unmount({ wait: 'teardown' })
          t.same(readdirSync(upperdir), ['written'], 'what is written is in this upper')
          const hand = byHand(lowerdir, upperdir, workdir)
          try {
            t.same(seen, shown(Buffer.from(`/proc/self/fd/${hand}`)))
          } finally {
            sys.close(hand)
          }
          t.same(readdirSync(target), [], 'and nothing in the directory below the mount')
        } finally {
          await rootfs.unmount({ wait: 'teardown' })
          await stack?.close()
        }
        rmSync(base, { recursive: true })
      }),
      settings(12),
    )
    await mounter.close()
    t.same(await left({ threads: true }), [], 'nothing is left')
  })
}

t.test('a name of 256 bytes, and a path of 4096', privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(2)
  const spots = {
    'a name': join(area.dir, Buffer.alloc(NAME_MAX + 1, 0x61)),
    'a path': join(area.dir, ...Array(17).fill(Buffer.alloc(NAME_MAX, 0xff))),
  }
  const left = watch()
  for (const { rung, idmap } of ways) {
    const mounter = new Mounter({ rung })
    const good = area.container(rung)
    for (const [what, path] of Object.entries(spots)) {
      const refused = { code: 'ENAMETOOLONG' }
      await t.rejects(
        mounter.mount({ lowerdir: [...lowerdir, path], idmap, ...good }),
        refused,
        `${rung}: ${what} as a layer`,
      )
      for (const key of ['upperdir', 'workdir', 'target']) {
        await t.rejects(
          mounter.mount({ lowerdir, idmap, ...good, [key]: path }),
          refused,
          `${rung}: ${what} as ${key}`,
        )
      }
    }
    await mounter.close()
  }
  t.same(await left({ threads: true }), [], 'nothing is left')
})
