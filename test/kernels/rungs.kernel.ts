/**
 * On a real kernel: what probing finds, which rung `auto` takes, the same root filesystem from every rung that should
 * work, with `/` private and shared, and from each other one a sentence that names what is missing.
 */
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { selinuxOptions } from '../../lib/host/overlay-options.js'
import { explain, features, LayerStack, Mounter, type RungError } from '../../lib/index.js'
import { statfs } from '../../lib/sys.js'
import { kernels } from '../overlay/kernels.js'
import { watch } from '../support/left.js'
import { isBelow, type Mount, mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { type Peers, propagations, withPropagation } from '../support/peers.js'
import { forms, image, merged, owner, tree, type Way, ways } from '../support/rungs.js'
import type { Container } from '../support/scratch.js'
import { mapping, type UserNamespace, userNamespace } from '../support/userns.js'
import { area } from './area.js'
import { isSince, missingFor, serving, since } from './expected.js'
import { facts, lineOf, printFacts } from './facts.js'

const isSelinux = (option: string) => selinuxOptions.some((name) => name === option)
const mountsAt = (dir: string): Mount[] => mounts().filter((mount) => isBelow(mount, dir))

t.test('features, by the release that brought them', async (t) => {
  for (const [name, version] of Object.entries(since)) {
    const found = facts.features[name as keyof typeof since]
    t.equal(found !== false, isSince(version), `${name}: ${found}, ${features().reasons[name] ?? 'there'}`)
    // what is missing has a reason
    if (found === false) t.ok(features().reasons[name], `${name} has a reason`)
  }
})

// the running kernel may be one that no plan is made for
const fixture = kernels[lineOf(facts.release) as keyof typeof kernels]
if (fixture) {
  t.test('features are those that plans without a kernel believe in', async (t) => {
    const [found, wanted] = [{ ...features() }, fixture].map(({ overlayOptions, ...rest }) => ({
      ...rest,
      overlayOptions: overlayOptions ? overlayOptions.filter((option) => !isSelinux(option)) : false,
    }))
    t.same(found, wanted)
  })
}

/** What there is of a mount besides its layers, which rungs name differently. */
const shown = ({ target }: Container) =>
  mountsAt(target).map(({ type, attributes, options }) => ({
    type,
    attributes: attributes.join(),
    options: options.filter((option) => !/^(lowerdir|datadir|upperdir|workdir)\b/.test(option)).join(),
  }))

const attributes = { nosuid: true, nodev: true } as const

type Image = { readonly lowerdir: string[]; readonly peers: Peers; readonly inside?: UserNamespace }

const compose = async (t: Test, way: Way, name: string, { lowerdir, peers, inside }: Image) => {
  const mounter = new Mounter({ rung: way.rung })
  const left = watch()
  const seen = []
  for (const form of forms) {
    const at = area.container(`${name}-${form.name}`)
    const upper = way.idmap ? 'shifted' : 'asis'
    const rootfs = await form.mount(mounter, { lowerdir, ...at, idmap: way.idmap, upper, attributes })
    t.equal(rootfs.rung, way.rung)
    t.same(tree(at.target), merged(way.shift), `${form.name}: contents and owners`)
    seen.push({ shown: shown(at), flags: statfs(at.target).flags })
    for (const kind of ['peer', 'slave'] as const) {
      const copies = mountsAt(at.target)[0]?.propagation.length ? 1 : 0
      t.equal(peers.mounts(kind, at.target).length, copies, `one mount in the ${kind}, if it is shared`)
    }
    if (inside && form.name === 'promise') changeFrom(t, inside, way, at)
    await form.unmount(rootfs)
    t.same(mountsAt(at.target), [])
  }
  await mounter.close()
  t.same(await left({ threads: true }), [], 'nothing is left')
  t.same(seen[1], seen[0], 'options, attributes and f_flags of both forms')
  return seen[0]
}

/** As the container's root. */
const changeFrom = (t: Test, inside: UserNamespace, { shift }: Way, { target, upperdir }: Container) => {
  inside.sh(
    `cd '${target}'; echo more >>owned; mkdir made; echo new >made/file; chown 3:4 made/file; rm only-3`,
  )
  t.equal(owner(join(upperdir, 'owned')), `${1000 + shift}:${1001 + shift}`, 'copied up with its owner')
  t.equal(owner(join(upperdir, 'made/file')), `${3 + shift}:${4 + shift}`)
  t.match(tree(upperdir)['only-3'], /^device 0 0 0:0$/, 'a whiteout')
}

const passed = new Map<string, number>()
const made: { image?: string[] } = {}
for (const propagation of propagations) {
  t.test(`the same rootfs from every rung, / ${propagation}`, privileged, async (t) => {
    made.image ??= image(area)
    const lowerdir = made.image
    // what a container does below its / does not hang on who sees the mount: once is enough, for a child is slow
    const insides = new Map<number, UserNamespace>()
    if (propagation === 'private') {
      insides.set(100_000, await userNamespace(t, mapping()))
      insides.set(0, await userNamespace(t, mapping(0, 100_000)))
    }
    await withPropagation(t, propagation, async (peers) => {
      const seen = new Map<string, unknown>()
      for (const way of ways.filter(({ rung }) => serving.includes(rung))) {
        await t.test(way.rung, async (t) => {
          const at = { lowerdir, peers, inside: insides.get(way.shift) }
          seen.set(way.rung, await compose(t, way, `${propagation}-${way.rung}`, at))
          if (t.passing()) passed.set(way.rung, (passed.get(way.rung) ?? 0) + 1)
        })
      }
      // redirect_dir and the like are shown where they differ from the module's default: the same for all
      const [first] = seen.values()
      for (const [rung, each] of seen)
        t.same(each, first, `${rung}: options, attributes and f_flags as the first’s`)
    })
  })
}

t.test('a rung that cannot work says which feature is missing', privileged, async (t) => {
  const lowerdir = area.layers(2, { below: 'two' })
  for (const { rung, idmap } of ways) {
    const names = missingFor(rung)
    if (names.length === 0) {
      if (passed.get(rung) === propagations.length) facts.rungs[rung] = 'serves'
      continue
    }
    const at = area.container(`missing-${rung}`)
    const mounter = new Mounter({ rung })
    for (const form of forms) {
      const error = (await form
        .mount(mounter, { lowerdir, ...at, idmap })
        .catch((thrown) => thrown)) as RungError
      t.match(error, { name: 'RungError', code: 'ERR_OVERLAYFD_RUNG' }, `${rung}, ${form.name}`)
      for (const name of names) t.match(error.message, `${name} is missing (`, `${rung}, ${form.name}`)
    }
    await mounter.close()
    t.same(mountsAt(at.target), [])
    facts.rungs[rung] = names
  }
})

t.test('what auto takes: attached, detached, from a stack, and as planned', privileged, async (t) => {
  const lowerdir = area.layers(3, { below: 'three' })
  const mounter = new Mounter()
  const left = watch()
  const idmap = mapping()
  const best = (...names: string[]) => names.find((name) => serving.some((rung) => rung === name))
  const wanted = {
    'with an idmap': best('detached-tree', 'staged', 'staged-classic'),
    'without one': best('direct', 'classic'),
    'detached, without one': best('direct', 'staged-classic'),
  }
  for (const [name, rung] of Object.entries(wanted)) {
    const { target, ...upper } = area.container(name.replaceAll(' ', '-'))
    const isDetached = name.startsWith('detached')
    const options = { lowerdir, ...upper, idmap: name === 'with an idmap' ? idmap : undefined }
    const rootfs = await mounter.mount(isDetached ? options : { ...options, target })
    t.equal(rootfs.rung, rung, name)
    if (rootfs.rung) facts.auto[name] = rootfs.rung
    t.match(
      String(explain(isDetached ? options : { ...options, target })),
      rung as string,
      'explain says the same',
    )
    t.equal(rootfs.detached, isDetached)
    t.same(Object.keys(tree(rootfs.path)).sort(), [
      'dir',
      'dir/from-0',
      'dir/from-1',
      'dir/from-2',
      'each',
      'only-0',
      'only-1',
      'only-2',
    ])
    writeFileSync(join(rootfs.path, 'written'), '')
    t.ok(existsSync(join(upper.upperdir, 'written')))
    if (isDetached) {
      await rootfs.attach(target)
      t.ok(existsSync(join(target, 'written')))
    }
    await rootfs.unmount()
  }
  const stack = await LayerStack.open({ lowerdir, idmap }, { mounter })
  const another = mapping(300_000)
  for (const [map, shift] of [
    [idmap, 100_000],
    [another, 300_000],
    [another, 300_000],
  ] as const) {
    const at = area.container(`stack-${shift}`)
    const rootfs = await stack.mount({ ...at, idmap: map, upper: 'shifted' })
    t.equal(owner(join(at.target, 'each')), `${shift}:${shift}`)
    await rootfs.unmount({ wait: 'teardown' })
  }
  await stack.close()
  await mounter.close()
  t.same(await left({ threads: true }), [])
})

t.test('one layer and no upper: a clone', privileged, async (t) => {
  const lowerdir = area.layers(1, { below: 'one' })
  const { target } = area.container('clone')
  for (const { rung, idmap, shift } of ways.filter(({ rung }) => serving.includes(rung))) {
    const mounter = new Mounter({ rung })
    const rootfs = await mounter.mount({ lowerdir, target, idmap })
    t.equal(owner(join(target, 'each')), `${shift}:${shift}`, rung)
    t.throws(() => writeFileSync(join(target, 'each'), ''), { code: 'EROFS' })
    await rootfs.unmount()
    await mounter.close()
  }
  t.same(mountsAt(target), [])
})

t.teardown(printFacts)
