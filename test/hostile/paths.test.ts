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
import { settings } from './settings.js'

const NAME_MAX = 255

/** What means something to mount(2), to fsconfig(2), to a shell, to a terminal, or to mountinfo. */
const telling = [
  ...[' ', '\n', '\t', '\r', ',', ':', '\\', '"', "'", '=', '+', '-', '--', '..x', '...', '\\:', '\\,', ',,'],
  ...[
    '::',
    '\\\\',
    ':\\',
    '$(x)',
    '*',
    '?',
    '#',
    '~',
    '%s',
    '\x1b[2J',
    '\x7f',
    ' (deleted)',
    '//deleted',
    '\\040',
  ],
  ...['lowerdir=', 'upperdir=/', ',ro', 'é', '\u202e', '💥', '0', '123', 'self', 'fd'],
].map((text) => Buffer.from(text))

const ofBytes = fc
  .uint8Array({ minLength: 1, maxLength: 12 })
  .map((bytes) => Buffer.from(bytes.map((byte) => (byte === 0 || byte === 0x2f ? 0xff : byte))))
const ofWords = fc
  .array(fc.constantFrom(...telling), { minLength: 1, maxLength: 6 })
  .map((words) => Buffer.concat(words))
const long = fc
  .integer({ min: 1, max: NAME_MAX })
  .chain((byte) =>
    fc
      .integer({ min: NAME_MAX - 2, max: NAME_MAX })
      .map((length) => Buffer.alloc(length, byte === 0x2f ? 0xe9 : byte)),
  )

const slash = Buffer.from('/')
const isName = (name: Buffer) =>
  !name.includes(0x2f) && !['.', '..'].includes(name.toString('latin1')) && name.length <= NAME_MAX
const name = fc
  .oneof({ weight: 3, arbitrary: ofBytes }, { weight: 4, arbitrary: ofWords }, { weight: 1, arbitrary: long })
  .map((bytes) => Buffer.from(bytes.toString('latin1').replaceAll('/', '|'), 'latin1').subarray(0, NAME_MAX))
  .filter(isName)
/** mostly short, sometimes as deep as PATH_MAX lets it be with a scratch directory above and a name below */
const place = fc.oneof(
  { weight: 6, arbitrary: fc.array(name, { minLength: 1, maxLength: 3 }) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(name, fc.constant(Buffer.alloc(NAME_MAX, 0x61)))
      .map(([first, deep]) => [first, ...Array(13).fill(deep)]),
  },
)

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
