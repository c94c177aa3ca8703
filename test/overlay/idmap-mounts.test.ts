/**
 * Idmapped mounts from both sides: whose a file is inside the user namespace, and on disk. The stack's mapping,
 * one of each mount's own, user namespaces by path and by fd; and what `upper` and `create` make of the writable
 * half.
 */
import { chownSync, closeSync, mkdirSync, openSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type IdExtent, type IdmapOption, Mounter, type StackMountOptions } from '../../lib/index.js'
import { watch } from '../support/left.js'
import { isBelow, mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { withPropagation } from '../support/peers.js'
import { type Form, forms, owner, tree } from '../support/rungs.js'
import { type Scratch, scratch } from '../support/scratch.js'
import { mapping, type UserNamespace, userNamespace } from '../support/userns.js'

const HUNDRED = 100

for (const form of forms) {
  t.test(`a hundred mappings at once, ${form.name}`, privileged, async (t) => {
    const area = scratch(t)
    const mounter = new Mounter()
    const left = watch()
    const stack = await form.open(mounter, { lowerdir: area.layers(3) })
    const mounted = await Promise.all(
      Array.from({ length: HUNDRED }, async (_, i) => {
        const { target } = area.container(String(i))
        const rootfs = await form.stackMount(stack, { target, idmap: mapping(100_000 * (i + 1)) })
        return { rootfs, target, id: 100_000 * (i + 1) }
      }),
    )
    const bad = mounted.filter(({ target, id }) => owner(join(target, 'each')) !== `${id}:${id}`)
    t.same(bad, [], 'each with its own owners')
    t.equal(new Set(mounted.map(({ rootfs }) => rootfs.mountId)).size, HUNDRED)
    await form.close(stack)
    t.equal(owner(join(mounted[7]?.target ?? '', 'only-2')), '800000:800000', 'they do not need the stack')
    for (const { rootfs } of mounted) await form.unmount(rootfs)
    await mounter.close()
    t.same(await left({ threads: true }), [])
  })
}

for (const upper of ['asis', 'idmapped'] as const) {
  t.test(`used trees leave no copies below a shared mount, upper: '${upper}'`, privileged, async (t) => {
    const area = scratch(t)
    const lowerdir = area.layers(3)
    await withPropagation(t, 'shared', async () => {
      const before = mounts().length
      const mounter = new Mounter()
      const stack = await mounter.open({ lowerdir })
      // each would have doubled them
      for (let i = 1; i <= 8; i++) {
        const rootfs = await stack.mount({ ...area.container(String(i)), idmap: mapping(65536 * i), upper })
        await rootfs.unmount()
      }
      await mounter.idle()
      t.equal(mounts().length, before)
      await stack.close()
      await mounter.close()
    })
  })
}

t.test('several extents, and groups mapped otherwise than users', privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(2)
  const uid: IdExtent[] = [
    { inside: 0, outside: 100_000, length: 10 },
    { inside: 10, outside: 500_000, length: 10 },
  ]
  const gid: IdExtent[] = [{ inside: 0, outside: 700_000, length: 100 }]
  const owners: [string, number, number, string][] = [
    ['a', 9, 99, '100009:700099'],
    ['b', 10, 1, '500000:700001'],
    ['c', 20, 100, '65534:65534'],
  ]
  for (const [name, u, g] of owners) {
    writeFileSync(join(lowerdir[0] as string, name), '')
    chownSync(join(lowerdir[0] as string, name), u, g)
  }
  const mounter = new Mounter()
  t.teardown(() => mounter.close())
  const inside = await userNamespace(t, { uid, gid })
  const oci = uid.map(({ inside, outside, length }) => ({
    containerID: inside,
    hostID: outside,
    size: length,
  }))
  for (const idmap of [
    { uid, gid },
    { uid: oci, gid },
  ]) {
    const { target } = area.container('extents')
    const rootfs = await mounter.mount({ lowerdir, target, idmap })
    for (const [name, , , seen] of owners) t.equal(owner(join(target, name)), seen, `${name}, outside`)
    const find = inside.owners(target)
    t.ok(
      find.includes('a f 644 9:99') && find.includes('b f 644 10:1') && find.includes('c f 644 65534:65534'),
    )
    await rootfs.unmount()
  }
})

/** The ways to name one and the same mapping. */
const named = (inside: UserNamespace): { name: string; idmap: IdmapOption; knowsIds: boolean }[] => [
  { name: 'extents', idmap: mapping(), knowsIds: true },
  { name: 'userns by path', idmap: { userns: inside.path }, knowsIds: true },
  { name: 'userns by fd', idmap: { userns: openSync(inside.path, 'r') }, knowsIds: false },
]

/** What root does inside, and what is on disk then. */
const useAsRoot = (
  t: Test,
  inside: UserNamespace,
  at: { target: string; upperdir: string },
  base: number,
) => {
  inside.sh(`cd '${at.target}'
    echo new > made; mkdir dir/made; chown 3:4 dir/made; echo more >> each; rm only-0; rm -r opaque; mkdir opaque`)
  const seen = inside.owners(at.target)
  t.ok(
    seen.includes('made f 644 0:0') && seen.includes('dir/made d 755 3:4') && seen.includes('each f 644 0:0'),
  )
  t.notOk(seen.some((line) => line.startsWith('only-0')))
  const disk = (...ids: number[]) => ids.map((id) => id + base).join(':')
  t.equal(owner(join(at.upperdir, 'made')), disk(0, 0))
  t.equal(owner(join(at.upperdir, 'dir/made')), disk(3, 4))
  t.equal(owner(join(at.upperdir, 'each')), disk(0, 0), 'copied up')
  t.equal(owner(join(at.upperdir, 'opaque')), disk(0, 0))
  t.match(tree(at.upperdir)['only-0'], /^device 0 /, 'a whiteout')
}

const kinds = ['asis', 'shifted', 'idmapped'] as const

const prepare = (area: Scratch, upper: (typeof kinds)[number], create: boolean, name: string) => {
  const base = area.path('c', name)
  const at = { upperdir: join(base, 'upper'), workdir: join(base, 'work'), target: join(base, 'rootfs') }
  if (create) return at
  for (const dir of Object.values(at)) mkdirSync(dir, { recursive: true })
  // asis: the caller has prepared it for the mapping
  if (upper === 'asis') chownSync(at.upperdir, 100_000, 100_000)
  return at
}

const writable = async (
  t: Test,
  area: Scratch,
  inside: UserNamespace,
  form: Form,
  upper: (typeof kinds)[number],
  create: boolean,
) => {
  const lowerdir = area.layers(2)
  mkdirSync(join(lowerdir[1] as string, 'opaque'), { recursive: true })
  const mounter = new Mounter()
  const left = watch()
  const stack = await mounter.open({ lowerdir })
  for (const { name, idmap, knowsIds } of named(inside)) {
    const warm = await mounter.open({ lowerdir, idmap })
    const needsIds = upper !== 'asis' || create
    const ways = [
      (options: StackMountOptions) => form.stackMount(warm, options),
      (options: StackMountOptions) => form.stackMount(stack, { ...options, idmap }),
      (options: StackMountOptions) => form.mount(mounter, { ...options, lowerdir, idmap }),
    ]
    for (const [i, mount] of ways.entries()) {
      const at = prepare(area, upper, create, `${name.replaceAll(' ', '-')}-${i}`)
      if (needsIds && !knowsIds) {
        const refused = { code: 'ERR_INVALID_ARG_VALUE', message: /which ids are mapped/ }
        await t.rejects(mount({ ...at, upper, create }), refused, 'a bare fd does not tell its ids')
        continue
      }
      const rootfs = await mount({ ...at, upper, create })
      t.equal(rootfs.rung, 'detached-tree')
      const shift = upper === 'idmapped' ? 0 : 100_000
      t.equal(owner(at.upperdir), `${shift}:${shift}`, `${name} ${i}: the upper’s top`)
      useAsRoot(t, inside, at, shift)
      t.notOk(mounts().some((mount) => isBelow(mount, at.target) && mount.options.includes('ro')))
      await form.unmount(rootfs)
    }
    await warm.close()
    if ('userns' in idmap && typeof idmap.userns === 'number') closeSync(idmap.userns)
  }
  await stack.close()
  await mounter.close()
  t.same(await left({ threads: true }), [])
}

for (const upper of kinds) {
  for (const create of [false, true]) {
    const form = forms[create ? 1 : 0] as Form
    t.test(`upper: '${upper}', create: ${create}, ${form.name}`, privileged, async (t) => {
      const area = scratch(t)
      await writable(t, area, await userNamespace(t, mapping()), form, upper, create)
    })
  }
}

t.test(
  "upper: 'asis' changes no owner, so that root inside may not write where it owns nothing",
  privileged,
  async (t) => {
    const area = scratch(t)
    const lowerdir = area.layers(2)
    const at = area.container('asis')
    const mounter = new Mounter()
    t.teardown(() => mounter.close())
    const rootfs = await mounter.mount({ lowerdir, ...at, idmap: mapping(), upper: 'asis' })
    const inside = await userNamespace(t, mapping())
    t.throws(() => inside.sh(`echo x > '${at.target}/made'`), /Permission denied/)
    t.equal(owner(at.upperdir), '0:0')
    await rootfs.unmount()
  },
)

t.test("upper: 'idmapped' keeps its word wherever upper and work lie", privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(2)
  const inside = await userNamespace(t, { uid: mapping(4711).uid, gid: mapping(900_000).gid })
  const idmap = { uid: mapping(4711).uid, gid: mapping(900_000).gid }
  const mounter = new Mounter()
  t.teardown(() => mounter.close())
  const stack = await mounter.open({ lowerdir, idmap })
  const places = [
    ['side by side', 'one/upper', 'one/work'],
    ['far apart', 'two/a/b/upper', 'two/c/work'],
    ['in the root of the mount', 'upper', 'work'],
  ] as const
  for (const [name, upper, work] of places) {
    const at = { upperdir: area.mkdir(upper), workdir: area.mkdir(work), target: area.mkdir('rootfs') }
    const rootfs = await stack.mount({ ...at, upper: 'idmapped' })
    inside.sh(`echo x > '${at.target}/made'`)
    t.equal(owner(join(at.upperdir, 'made')), '0:0', name)
    t.equal(owner(join(at.target, 'made')), '4711:900000')
    await rootfs.unmount()
    t.ok(statSync(join(at.workdir, 'work')).isDirectory())
  }
  t.same(
    readdirSync('/proc/self/task')
      .map((tid) => statSync(`/proc/self/task/${tid}`).uid)
      .filter(Boolean),
    [],
  )
  const plain = area.container('after')
  const after = mounter.mountSync({ lowerdir, ...plain })
  writeFileSync(join(plain.target, 'made'), '')
  t.equal(owner(join(plain.upperdir, 'made')), '0:0', 'the threads are who they were')
  after.unmountSync()
  await stack.close()
})
