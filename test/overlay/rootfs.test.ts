/**
 * The handle: it unmounts its own mount and no other, wherever somebody has meanwhile put one; it pins nothing;
 * it can be let go of, disposed of, and dropped.
 */
import { execFileSync } from 'node:child_process'
import { closeSync, openSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type IdmapOption, Mounter, type Rootfs, type UnmountOptions } from '../../lib/index.js'
import { watch } from '../support/left.js'
import { isBelow, mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { forms, ways } from '../support/rungs.js'
import { type Container, type Scratch, scratch } from '../support/scratch.js'

const sh = (...args: string[]): void => {
  execFileSync(args[0] as string, args.slice(1), { stdio: ['ignore', 'ignore', 'pipe'] })
}
const typesAt = (dir: string): string[] =>
  mounts()
    .filter((mount) => isBelow(mount, dir))
    .map(({ type }) => type)
const tmpfsOn = (dir: string) => sh('mount', '-n', '-t', 'tmpfs', 'overlayfd-test', dir)

interface Given {
  readonly area: Scratch
  readonly at: Container
  readonly lowerdir: string[]
  readonly idmap: IdmapOption | undefined
  readonly mounter: Mounter
  mount(target?: string): Promise<Rootfs>
}

/** The same test on every rung, which must leave nothing; `only` leaves out rungs that cannot stay detached. */
const onEachRung = (name: string, body: (t: Test, given: Given) => Promise<void>, detached = false) => {
  for (const { rung, idmap } of ways.filter((way) => !detached || way.rung !== 'classic')) {
    t.test(`${name}: ${rung}`, privileged, async (t) => {
      const area = scratch(t)
      const lowerdir = area.layers(2)
      const at = area.container('c')
      const mounter = new Mounter({ rung })
      const left = watch()
      const mount = (target?: string) => {
        const options = { lowerdir, upperdir: at.upperdir, workdir: at.workdir, idmap }
        return mounter.mount({ ...options, target: detached ? target : (target ?? at.target) })
      }
      await body(t, { area, at, idmap, lowerdir, mounter, mount })
      await mounter.close()
      t.same(await left({ threads: true }), [])
    })
  }
}

onEachRung('another mount covers it', async (t, { at, mount }) => {
  for (const form of forms) {
    const rootfs = await mount()
    tmpfsOn(at.target)
    writeFileSync(join(at.target, 'theirs'), 'theirs')
    const refused = {
      code: 'EBUSY',
      syscall: 'statx',
      path: at.target,
      hint: /another mount .* covers this one/,
    }
    await t.rejects(form.unmount(rootfs), refused, form.name)
    t.same(typesAt(at.target), ['overlay', 'tmpfs'], 'both are there')
    t.equal(readFileSync(join(at.target, 'theirs'), 'utf8'), 'theirs')
    sh('umount', '-n', at.target)
    await form.unmount(rootfs)
    t.same(typesAt(at.target), [])
  }
})

onEachRung('it was unmounted by somebody else, plainly: nothing pins it', async (t, { at, mount }) => {
  for (const form of forms) {
    const rootfs = await mount()
    sh('umount', '-n', at.target)
    const gone = { code: 'EINVAL', syscall: 'statx', hint: /not mounted there any more/ }
    await t.rejects(form.unmount(rootfs), gone)
    tmpfsOn(at.target)
    await t.rejects(form.unmount(rootfs), { code: 'EBUSY' }, 'what is there now is left alone')
    t.same(typesAt(at.target), ['tmpfs'])
    sh('umount', '-n', at.target)
  }
})

onEachRung('it was moved elsewhere', async (t, { area, at, mount }) => {
  const rootfs = await mount()
  const elsewhere = area.mkdir('elsewhere')
  sh('mount', '-n', '--make-private', area.dir)
  sh('mount', '-n', '--move', at.target, elsewhere)
  await t.rejects(rootfs.unmount(), { code: 'EINVAL', hint: /unmounted or moved it/ })
  t.same(typesAt(elsewhere), ['overlay'], 'it is not looked for')
  sh('mount', '-n', '--move', elsewhere, at.target)
  await rootfs.unmount()
})

onEachRung('the directory above was renamed', async (t, { area, at, mount }) => {
  const rootfs = await mount()
  renameSync(area.path('containers'), area.path('renamed'))
  await t.rejects(rootfs.unmount(), { code: 'ENOENT', hint: /renamed/ })
  t.same(typesAt(area.path('renamed')), ['overlay'])
  renameSync(area.path('renamed'), area.path('containers'))
  await rootfs.unmount()
  t.same(typesAt(at.target), [])
})

onEachRung('the target is reached through a symbolic link', async (t, { area, at, mount }) => {
  symlinkSync('containers/c', area.path('link'))
  for (const form of forms) {
    const rootfs = await mount(area.path('link/rootfs'))
    t.equal(rootfs.path, area.path('link/rootfs'))
    t.same(typesAt(at.target), ['overlay'])
    await form.unmount(rootfs)
    t.same(typesAt(at.target), [])
  }
  const rootfs = await mount(area.path('link/rootfs'))
  sh('umount', '-n', at.target)
  tmpfsOn(at.target)
  await t.rejects(rootfs.unmount(), { code: 'EBUSY' }, 'following a link does not mean trusting it')
  t.same(typesAt(at.target), ['tmpfs'])
  sh('umount', '-n', at.target)
})

onEachRung('in use', async (t, { at, mount }) => {
  for (const form of forms) {
    const rootfs = await mount()
    const fd = openSync(join(at.target, 'each'), 'r')
    const busy = { code: 'EBUSY', syscall: 'umount2', hint: /something uses the mount .*lazy: true/ }
    await t.rejects(form.unmount(rootfs, { lazy: false }), busy)
    t.same(typesAt(at.target), ['overlay'])
    await form.unmount(rootfs)
    t.same(typesAt(at.target), [], 'lazily it goes at once')
    t.equal(readFileSync(fd, 'utf8'), 'layer 0', 'and the file stays open')
    closeSync(fd)
    const next = await mount()
    await form.unmount(next, { lazy: false })
    t.same(typesAt(at.target), [])
  }
})

onEachRung(
  'unmounted twice, and at the same time',
  async (t, { area, at, idmap, lowerdir, mount, mounter }) => {
    const rootfs = await mount()
    const both = [rootfs.unmount(), rootfs.unmount({ lazy: false })]
    t.throws(() => rootfs.unmountSync(), { code: 'ERR_INVALID_STATE' }, 'one operation at a time')
    t.throws(() => rootfs.release(), { code: 'ERR_INVALID_STATE' })
    t.same(await Promise.allSettled(both), Array(2).fill({ status: 'fulfilled', value: undefined }))
    await rootfs.unmount()
    rootfs.unmountSync()
    t.throws(() => rootfs.path, { code: 'ERR_INVALID_STATE', message: /unmounted/ })
    t.equal(rootfs.release(), undefined)
    const many = await Promise.all(
      Array.from({ length: 4 }, (_, i) =>
        mounter.mount({ lowerdir, idmap, target: area.mkdir(`many-${i}`) }),
      ),
    )
    const ended = many.flatMap((one) => [one.unmount(), one.unmount(), one[Symbol.asyncDispose]()])
    await Promise.all(ended)
    t.same(typesAt(at.target), [])
    t.same(typesAt(area.dir).slice(1), [])
  },
)

onEachRung('wrong options', async (t, { mount }) => {
  const rootfs = await mount()
  const bad: [object, { code: string; message: RegExp }][] = [
    [{ lazi: true }, { code: 'ERR_INVALID_ARG_VALUE', message: /options.lazi.*"lazy"/ }],
    [{ lazy: 1 }, { code: 'ERR_INVALID_ARG_TYPE', message: /options.lazy/ }],
  ]
  for (const form of forms)
    for (const [options, error] of bad)
      await t.rejects(form.unmount(rootfs, options as UnmountOptions), error)
  await rootfs.unmount()
})

onEachRung('released', async (t, { at, mount }) => {
  const rootfs = await mount()
  t.equal(rootfs.release(), undefined)
  t.equal(rootfs.path, at.target)
  await t.rejects(rootfs.unmount(), { code: 'ERR_INVALID_STATE', message: /released/ })
  await rootfs[Symbol.asyncDispose]()
  rootfs[Symbol.dispose]()
  t.same(typesAt(at.target), ['overlay'], 'it stays')
  sh('umount', '-n', at.target)
})

const released = async (t: Test, { mount, at, mounter }: Given) => {
  const rootfs = await mount()
  const fd = rootfs.release() as number
  t.type(fd, 'number')
  await t.rejects(rootfs.attach(at.target), { code: 'ERR_INVALID_STATE', message: /released/ })
  await mounter.trim()
  t.equal(readFileSync(`/proc/self/fd/${fd}/each`, 'utf8'), 'layer 0', 'the fd is the caller’s')
  closeSync(fd)
}
onEachRung('released while detached', released, true)

const wrongOptions = async (t: Test, { area, mount }: Given) => {
  const rootfs = await mount()
  const target = area.mkdir('elsewhere')
  const table: [unknown, string, string][] = [
    [null, 'ERR_INVALID_ARG_TYPE', 'The "options" argument must be an object. Received null'],
    ['slave', 'ERR_INVALID_ARG_TYPE', 'The "options" argument must be an object. Received type string'],
    [[], 'ERR_INVALID_ARG_TYPE', 'The "options" argument must be an object'],
    [{ propgation: 'slave' }, 'ERR_INVALID_ARG_VALUE', 'no option "options.propgation"'],
  ]
  for (const [options, code, message] of table) {
    for (const form of forms) {
      await t.rejects(form.attach(rootfs, target, options as object), { name: 'TypeError', code, message })
    }
  }
  t.ok(rootfs.detached)
  await rootfs.unmount()
}
onEachRung('wrong options of attach', wrongOptions, true)

onEachRung('disposed of', async (t, { at, mount }) => {
  const one = await mount()
  one[Symbol.dispose]()
  one[Symbol.dispose]()
  const two = await mount()
  await two[Symbol.asyncDispose]()
  await two[Symbol.asyncDispose]()
  t.same(typesAt(at.target), [])
})

t.test('a target that is an object with a path alone', privileged, async (t) => {
  const area = scratch(t)
  const mounter = new Mounter()
  const path = area.mkdir('target')
  const detached = async () => mounter.mount({ lowerdir: area.layers(2) })
  const ways: [string, () => Promise<Rootfs>][] = [
    ['mount', () => mounter.mount({ lowerdir: area.layers(2), target: { path } })],
    ['attach', async () => {
      const rootfs = await detached()
      t.equal(String(rootfs.explain('attach', { path })), String(rootfs.explain('attach', path)))
      await rootfs.attach({ path })
      return rootfs
    }],
    ['attachSync', async () => {
      const rootfs = await detached()
      rootfs.attachSync({ path })
      return rootfs
    }],
  ] // biome-ignore format: a table
  for (const [name, make] of ways) {
    const rootfs = await make()
    t.equal(rootfs.path, path, name)
    t.same(typesAt(path), ['overlay'])
    await rootfs.unmount()
  }
  const rootfs = await detached()
  await t.rejects(rootfs.attach({ path: '/' }), { code: 'ERR_INVALID_ARG_VALUE', message: '"target.path"' })
  // a place that has lost its mount, or its namespace, is no path of the caller's
  for (const lost of [
    { path, mount: undefined },
    { path, mountNamespace: undefined },
  ]) {
    await t.rejects(rootfs.attach(lost as unknown as string), { code: 'ERR_INVALID_ARG_TYPE' })
  }
  await rootfs.unmount()
  await mounter.close()
})
