/**
 * From one layer to five hundred, with names of every kind and paths nearly as long as a path can be: on each
 * rung the same. What bites otherwise: 255 bytes of an fsconfig string, one page of mount(2) data that is cut
 * without an error, and every byte that overlay's own option strings give a meaning to.
 */
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { type IdmapOption, Mounter, type Rootfs, type StackMountOptions } from '../../lib/index.js'
import { watch } from '../support/left.js'
import { isBelow, mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { forms, owner, ways } from '../support/rungs.js'
import { type Scratch, scratch } from '../support/scratch.js'
import { mapping } from '../support/userns.js'

const PATH_MAX = 4096
const bytes = (...parts: (string | Uint8Array)[]): Buffer =>
  Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : part)))

/** Bytes that mean something somewhere: to overlay, to mount(2), to mountinfo, to a shell, to UTF-8. */
const oddities = [
  'col:on',
  'com,ma',
  'back\\slash',
  'new\nline',
  ' spaces ',
  '\\:\\,',
  'a::b',
  'x=y,index=on',
  'tail\\',
  '"quo\'te"',
  '#hash',
  '...',
  'ünï',
  Buffer.of(0xff, 0xfe, 0x80, 0xc3),
  Buffer.of(0x01, 0x7f, 0x09, 0x1b),
]

type Place = (area: Scratch, name: string) => Buffer
const places: Readonly<Record<string, Place>> = {
  'odd names': (area, name) => bytes(area.path('odd'), '/', name, oddities[hash(name)] as string, '/fs'),
  'long paths, each with a parent of its own': (area, name) => long(bytes(area.path(name)), bytes('/fs')),
  'a long common parent': (area, name) => long(bytes(area.path('long')), bytes('/', name)),
}
const hash = (name: string): number =>
  [...Buffer.from(name)].reduce((sum, byte) => sum + byte, 0) % oddities.length

/** Fills a path up with directories until it is nearly PATH_MAX bytes; the target's own name still fits. */
const long = (base: Buffer, end: Buffer): Buffer => {
  let path = base
  while (path.length + end.length < PATH_MAX - 40) {
    const room = Math.min(200, PATH_MAX - 40 - path.length - end.length)
    path = bytes(path, '/', 'd'.repeat(Math.max(1, room)))
  }
  return bytes(path, end)
}

const made = (path: Buffer): Buffer => {
  mkdirSync(path, { recursive: true })
  return path
}
const layersAt = (area: Scratch, place: Place, count: number): Buffer[] =>
  Array.from({ length: count }, (_, i) => {
    const path = made(place(area, `layer-${i}`))
    for (const file of [`only-${i}`, 'each']) writeFileSync(bytes(path, '/', file), `layer ${i}`)
    return path
  })

/** Every layer is there, the first on top. */
const check = (t: Test, rootfs: Rootfs, count: number, shift: number, name: string) => {
  const at = rootfs.pathBytes
  const seen = new Set(readdirSync(at))
  const missing = Array.from({ length: count }, (_, i) => `only-${i}`).filter((file) => !seen.has(file))
  t.same(missing, [], `${name}: ${count} layers`)
  t.equal(readFileSync(bytes(at, '/each'), 'utf8'), 'layer 0')
  t.equal(readFileSync(bytes(at, `/only-${count - 1}`), 'utf8'), `layer ${count - 1}`)
  t.equal(statSync(bytes(at, `/only-${count - 1}`)).uid, shift)
}

for (const { rung, idmap, shift } of ways) {
  for (const [kind, place] of Object.entries(places)) {
    t.test(`${rung}: ${kind}`, privileged, async (t) => {
      const area = scratch(t)
      const mounter = new Mounter({ rung })
      const left = watch()
      for (const count of [1, 2, 50, 500]) {
        const sub = { ...area, path: (...names: string[]) => area.path(`n${count}`, ...names) }
        const lowerdir = layersAt(sub, place, count)
        const at = (n: string) => ({
          upperdir: made(place(sub, `upper-${n}`)),
          workdir: made(place(sub, `work-${n}`)),
          target: made(place(sub, `target-${n}`)),
        })
        const use = async (name: string, mount: () => Promise<Rootfs>, ids: number) => {
          const rootfs = await mount()
          check(t, rootfs, count, ids, name)
          writeFileSync(bytes(rootfs.pathBytes, '/written'), name)
          await rootfs.unmount()
        }
        await use('one-shot', () => mounter.mount({ lowerdir, ...at('once'), idmap }), shift)
        const stack = await mounter.open({ lowerdir, idmap })
        t.equal(stack.layers, count)
        const warm: [string, StackMountOptions, number][] = [['warm', at('warm'), shift]]
        if (idmap) warm.push(['own', { ...at('own'), idmap: mapping(300_000) }, 300_000])
        for (const [name, options, ids] of warm) await use(name, () => stack.mount(options), ids)
        if (count > 1) {
          const readOnly = stack.mountSync({ target: made(place(sub, 'read-only')) })
          check(t, readOnly, count, shift, 'without an upper')
          readOnly.unmountSync()
        }
        await stack.close()
      }
      await mounter.close()
      t.same(await left({ threads: true }), [])
    })
  }
}

for (const way of ways) {
  for (const form of forms) {
    t.test(
      `${way.rung}: one layer without an upper is a read-only clone, ${form.name}`,
      privileged,
      async (t) => {
        const area = scratch(t)
        const [layer] = area.layers(1) as [string]
        const mounter = new Mounter({ rung: way.rung })
        const left = watch()
        const stack = await form.open(mounter, { lowerdir: [layer], idmap: way.idmap })
        const { target } = area.container('clone')
        const own: [IdmapOption | undefined, number][] = [[undefined, way.shift]]
        if (way.idmap) own.push([mapping(400_000), 400_000])
        for (const [idmap, shift] of own) {
          const rootfs = await form.stackMount(stack, {
            target,
            idmap,
            attributes: { nosuid: true, atime: 'noatime' },
          })
          t.match(
            rootfs.notes.join(),
            /one layer and no upperdir: the mount is a read-only clone .* no overlay/,
          )
          t.match(JSON.parse(JSON.stringify(rootfs)), { kind: 'clone' })
          const [mount, ...others] = mounts().filter((one) => isBelow(one, target))
          t.same(others, [])
          t.equal(mount?.type, 'tmpfs')
          t.match(mount?.attributes.join(), /^ro,nosuid,noatime(,idmapped)?$/)
          t.equal(owner(`${target}/each`), `${shift}:${shift}`)
          t.throws(() => writeFileSync(`${target}/new`, ''), { code: 'EROFS' })
          await form.unmount(rootfs)
          writeFileSync(`${layer}/still`, 'writable', { flag: 'w' })
        }
        const once = await form.mount(mounter, { lowerdir: [layer], target, idmap: way.idmap })
        t.same(readdirSync(target), readdirSync(layer))
        t.throws(() => writeFileSync(`${target}/new`, ''), { code: 'EROFS' })
        await form.unmount(once)
        await form.close(stack)
        await mounter.close()
        t.same(await left({ threads: true }), [])
      },
    )
  }
}

t.test('501 layers are a RangeError before anything is opened', async (t) => {
  const mounter = new Mounter()
  t.teardown(() => mounter.close())
  const lowerdir = Array.from({ length: 501 }, (_, i) => `/nowhere/${i}`)
  const refused = {
    name: 'RangeError',
    code: 'ERR_OUT_OF_RANGE',
    message: /lowerdir.*at most 500 layers.* 501$/,
  }
  for (const form of forms) {
    await t.rejects(form.mount(mounter, { lowerdir }), refused)
    await t.rejects(form.open(mounter, { lowerdir }), refused)
    const data = { lowerdir: lowerdir.slice(0, 1), datadir: lowerdir.slice(1) }
    await t.rejects(form.mount(mounter, data), refused, 'data-only layers count')
  }
})
