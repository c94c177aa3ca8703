/**
 * Calls that are made before the one before has ended: each handle does one thing after the other, each stack
 * serves all, and nothing is kept when trim() has resolved.
 */
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  renameSync,
  statSync,
} from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { LayerStack, Mounter, type Rootfs } from '../../lib/index.js'
import { isBelow, mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { scratch } from '../support/scratch.js'
import { mapping } from '../support/userns.js'

const count = (dir: string) => mounts().filter((mount) => isBelow(mount, dir)).length

t.test('two operations on one detached rootfs at once', privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(2)
  const mounter = new Mounter()
  const one = area.mkdir('one')
  const two = area.mkdir('two')
  type Act = (rootfs: Rootfs) => Promise<unknown>
  const acts: Record<string, Act> = {
    one: (rootfs) => rootfs.attach(one),
    two: (rootfs) => rootfs.attach(two),
    unmount: (rootfs) => rootfs.unmount(),
    dispose: (rootfs) => rootfs[Symbol.asyncDispose](),
    release: async (rootfs) => {
      const fd = rootfs.release()
      if (fd !== undefined) closeSync(fd)
    },
  }
  const invalid = 'ERR_INVALID_STATE'
  const table: [first: string, second: string, codes: (string | undefined)[], mounted: boolean][] = [
    ['one', 'two', [undefined, invalid], true],
    ['one', 'unmount', [undefined, undefined], false],
    ['unmount', 'one', [undefined, invalid], false],
    ['dispose', 'two', [undefined, invalid], false],
    ['one', 'release', [undefined, invalid], true],
    ['release', 'one', [undefined, invalid], false],
    ['unmount', 'unmount', [undefined, undefined], false],
  ]
  // fd 0 on a mount of its own: a hole in a plan would move that one
  const foreign = area.ext4('foreign')
  const stdin = openSync(foreign, 'r')
  t.teardown(() => closeSync(stdin))
  for (const [first, second, codes, mounted] of table) {
    const rootfs = await mounter.mount({ lowerdir })
    const results = await Promise.allSettled([acts[first]!(rootfs), acts[second]!(rootfs)])
    const got = results.map((result) => (result.status === 'rejected' ? result.reason.code : undefined))
    t.same(got, codes, `${first}, ${second}`)
    t.equal(count(one) + count(two), mounted ? 1 : 0, 'mounted as the handle says')
    if (mounted) await rootfs.unmount()
    t.equal(count(one) + count(two), 0)
  }
  t.equal(count(foreign), 1, 'the other mount is where it was')
  await mounter.close()
})

t.test('mappings of their own at once, after a layer was renamed', privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(4)
  const stack = await LayerStack.open({ lowerdir })
  renameSync(join(lowerdir[1]!, '..'), area.path('moved'))
  const all = Array.from({ length: 6 }, (_, i) => stack.mount({ idmap: mapping(100_000 * (i + 1)) }))
  for (const rootfs of await Promise.all(all)) {
    const names = readdirSync(rootfs.path).filter((name) => name.startsWith('only-'))
    t.same(names.sort(), ['only-0', 'only-1', 'only-2', 'only-3'])
    await rootfs.unmount()
  }
  await stack.close()
})

t.test('trim() and close() while a one-shot call is under way', privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(3)
  const held = () =>
    readdirSync('/proc/self/fd').filter((fd) => {
      try {
        return /^user:/.test(readlinkSync(`/proc/self/fd/${fd}`))
      } catch {
        return false
      }
    })
  for (const end of ['trim', 'close'] as const) {
    const mounter = new Mounter()
    const mounting = mounter.mount({ lowerdir, idmap: mapping() })
    await mounter[end]()
    const rootfs = await mounting
    await mounter.idle()
    t.same(held(), [], end)
    await rootfs.unmount()
    await mounter.close()
  }
})

t.test('the stack’s own mapping, asked for again, needs no tree', privileged, async (t) => {
  const area = scratch(t)
  mkdirSync(area.path('c'))
  const stack = await LayerStack.open({ lowerdir: area.layers(3), idmap: mapping() })
  const warm = stack.explain({})
  t.same(stack.explain({ idmap: mapping() }).cost, warm.cost)
  t.equal(stack.explain({ idmap: mapping(200_000) }).cost.calls['open_tree_attr'], 1)
  await stack.close()
})

t.test('every layer was renamed, and the mount has a mapping of its own', privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(2)
  const mounter = new Mounter()
  const stack = await mounter.open({ lowerdir, idmap: mapping(100_000) })
  for (const dir of lowerdir) renameSync(dir, `${dir}.old`)
  for (const outside of [200_000, 300_000]) {
    const rootfs = await stack.mount({ idmap: mapping(outside) })
    t.equal(statSync(join(rootfs.path, 'only-0')).uid, outside)
    t.ok(existsSync(join(rootfs.path, 'only-1')))
    await rootfs.unmount()
  }
  await stack.close()
  await mounter.close()
})
