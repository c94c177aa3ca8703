/**
 * What may join a tree (docs: one idmapped clone serves the layers below one directory of one mount). Names
 * alone would show the wrong directory without an error: what is under a mount point, what a symbolic link
 * leads to, what has taken a layer's name since. Each case asks for the right files with the right owners,
 * from mounts with the stack's mapping, with one of their own, without any, and from one-shot calls.
 */
import { execFileSync } from 'node:child_process'
import { closeSync, constants, mkdirSync, openSync, renameSync, rmSync, statSync, symlinkSync } from 'node:fs'
import t, { type Test } from 'tap'
import { LayerStack, Mounter } from '../../lib/index.js'
import { MounterHost } from '../../lib/mounter/host.js'
import { parseStack } from '../../lib/overlay/spec.js'
import { bind, cases, expected, layer, outOf, plain } from '../support/joins.js'
import { watch } from '../support/left.js'
import { mounts } from '../support/mountinfo.js'
import { all, privileged } from '../support/needs.js'
import { scratch } from '../support/scratch.js'
import { mapping } from '../support/userns.js'

const OWN = 300_000

for (const { name, make, after, needs = {} } of cases) {
  t.test(name, all(privileged, needs), async (t) => {
    const area = scratch(t)
    const { lowerdir, says } = make(area)
    const mounter = new Mounter()
    const over = mounts().length
    const left = watch()
    const stacks = [
      { stack: await mounter.open({ lowerdir, idmap: mapping() }), shift: 100_000 },
      { stack: mounter.openSync({ lowerdir }), shift: 0 },
    ]
    if (!after) {
      for (const [idmap, shift] of [
        [undefined, 0],
        [mapping(), 100_000],
      ] as const) {
        t.same(
          outOf(mounter.mountSync({ lowerdir, idmap }), says),
          expected(says, shift),
          `one-shot, ${shift}`,
        )
      }
    }
    after?.(area)
    for (const { stack, shift } of stacks) {
      for (let i = 0; i < 2; i++) {
        t.same(outOf(await stack.mount({}), says), expected(says, shift), `warm, ${shift}`)
        t.same(
          outOf(await stack.mount({ idmap: mapping(OWN + i) }), says),
          expected(says, OWN + i),
          `a mapping of its own, ${shift}`,
        )
      }
      await stack.close()
    }
    await mounter.close()
    t.equal(mounts().length, over + (after && /mounted over/.test(name) ? 1 : 0))
    t.same(
      (await left({ threads: true })).filter((one) => !one.includes('store')),
      [],
    )
    for (const dir of ['store/a', 'store/b']) umountAll(area.path(dir))
  })
}

/** What the cases have mounted over layers: scratch() wants everything below it gone. */
const umountAll = (dir: string): void => {
  for (const { target } of mounts()) {
    if (target.toString() === dir) execFileSync('umount', ['-n', '-l', dir])
  }
}

t.test('layers given as fds', privileged, async (t) => {
  const area = scratch(t)
  const paths = plain(area, 'a', 'b', 'c')
  const [a, b, c] = paths as [string, string, string]
  const left = watch()
  const fds = [openSync(b, constants.O_RDONLY | constants.O_DIRECTORY), openSync(c, 0x20_0000)]
  const mounter = new Mounter()
  const stack = await mounter.open({ lowerdir: [a, ...fds], idmap: mapping() })
  const bare = await mounter.open({ lowerdir: [...fds, a] })
  for (const fd of fds) t.ok(statSync(`/proc/self/fd/${fd}`).isDirectory(), 'they stay the caller’s')
  t.same(
    outOf(mounter.mountSync({ lowerdir: fds, idmap: mapping() }), ['b', 'c']),
    expected(['b', 'c'], 100_000),
  )
  fds.forEach(closeSync)
  rmSync(b, { recursive: true })
  mkdirSync(b)
  // what was deleted is empty, and no other directory is taken for it
  const gone = ['top a', 'a 100000:100000', 'b missing', 'c 100000:100000']
  t.same(outOf(await stack.mount({}), ['a', 'b', 'c']), gone)
  layer(b, 'b')
  t.same(outOf(await stack.mount({}), ['a', 'b', 'c']), gone)
  t.same(outOf(await bare.mount({}), ['c', 'a']), ['top c', 'c 0:0', 'a 0:0'])
  await stack.close()
  await bare.close()
  await mounter.close()
  t.same(await left({ threads: true }), [])
})

t.test('a layer deleted after the stack opened', privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = plain(area, 'a', 'b', 'c')
  const mounter = new Mounter()
  t.teardown(() => mounter.close())
  const stack = await mounter.open({ lowerdir, idmap: mapping() })
  rmSync(lowerdir[1] as string, { recursive: true })
  const warm = ['top a', 'a 100000:100000', 'b missing', 'c 100000:100000']
  t.same(outOf(await stack.mount({}), ['a', 'b', 'c']), warm, 'by its fd it is there, and empty')
  const result = await stack.mount({ idmap: mapping(OWN) }).then(
    (rootfs) => outOf(rootfs, ['a', 'b', 'c']),
    (error: unknown) => String(error),
  )
  t.same(
    result,
    ['top a', `a ${OWN}:${OWN}`, 'b missing', `c ${OWN}:${OWN}`],
    'with a mapping of its own too',
  )
  await stack.close()
})

/** One-shot calls keep the parent's tree for a second, by its path: it must not serve what has taken that path. */
t.test('a parent replaced while its tree is kept', privileged, async (t) => {
  const area = scratch(t)
  const mounter = new Mounter()
  t.teardown(() => mounter.close())
  const mount = async (t: Test, says: readonly string[], message: string) => {
    const lowerdir = [area.path('store', 'a'), area.path('store', 'b')]
    const rootfs = await mounter.mount({ lowerdir, idmap: mapping() })
    t.same(outOf(rootfs, says), expected(says, 100_000), message)
  }
  const begin = performance.now()
  plain(area, 'a', 'b')
  await mount(t, ['a', 'b'], 'first')
  renameSync(area.path('store'), area.path('moved'))
  layer(area.path('store', 'a'), 'second')
  layer(area.path('store', 'b'), 'below')
  await mount(t, ['second', 'below'], 'another directory of that name')
  layer(area.path('third', 'a'), 'third')
  layer(area.path('third', 'b'), 'bottom')
  bind(area.path('third'), area.path('store'))
  await mount(t, ['third', 'bottom'], 'a mount over it')
  execFileSync('umount', ['-n', '-l', area.path('store')])
  await mount(t, ['second', 'below'], 'the mount gone again')
  rmSync(area.path('store'), { recursive: true })
  symlinkSync('moved', area.path('store'))
  await mount(t, ['a', 'b'], 'a symbolic link in its place')
  t.ok(performance.now() - begin < 1000, 'all while a tree is kept')
})

t.test('a layer that was deleted', privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = plain(area, 'a', 'b', 'c')
  const mounter = new Mounter()
  const gone = openSync(area.mkdir('gone'), constants.O_RDONLY | constants.O_DIRECTORY)
  rmSync(area.path('gone'), { recursive: true })
  const left = watch()
  const failure = { name: 'MountError', code: 'ENOENT', syscall: 'statx' }
  for (const idmap of [undefined, mapping()]) {
    for (const [options, hint] of [
      [{ lowerdir: [lowerdir[0]!, gone, lowerdir[2]!] }, 'lowerdir[1] was deleted'],
      [{ lowerdir: [gone] }, 'lowerdir[0] was deleted'],
      [{ lowerdir, datadir: [gone] }, 'datadir[0] was deleted'],
    ] as const) {
      await t.rejects(mounter.open({ ...options, idmap }), { ...failure, hint })
      t.throws(() => mounter.mountSync({ ...options, idmap }), { ...failure, hint })
    }
  }
  await mounter.close()
  t.same(await left({ threads: true }), [])
  closeSync(gone)
})

/** Between the first look at the layers and their tree: the one moment in which a name alone decides. */
t.test('a layer replaced while the stack is being opened', privileged, async (t) => {
  for (const idmap of [mapping(), undefined]) {
    const area = scratch(t)
    const lowerdir = plain(area, 'a', 'b', 'c')
    const host = new MounterHost({})
    const opening = LayerStack.openFlow(host, parseStack({ lowerdir, idmap }))
    let step = opening.next()
    for (let programs = 0; !step.done; programs++) {
      const { plan, pool } = step.value
      const outcome = pool.runSync(plan)
      if (programs === 0) {
        renameSync(area.path('store', 'b'), area.path('store', 'moved'))
        layer(area.path('store', 'b'), 'replaced')
      }
      step = opening.next(outcome)
    }
    const stack = step.value
    const says = ['a', 'b', 'c']
    const shift = idmap ? 100_000 : 0
    t.same(outOf(stack.mountSync({}), says), expected(says, shift), `warm, ${shift}`)
    t.same(outOf(stack.mountSync({ idmap: mapping(OWN) }), says), expected(says, OWN), 'a mapping of its own')
    await stack.close()
    await host.close()
  }
})
