/**
 * Stacks that keep no fd of their layers, because the mounter's budget is spent: mounted by name, they show
 * the same, and a name that leads elsewhere is refused.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { LayerStack, type MountError, Mounter } from '../../lib/index.js'
import { FdBudget } from '../../lib/overlay/fd-budget.js'
import { privileged } from '../support/needs.js'
import { scratch } from '../support/scratch.js'
import { mapping } from '../support/userns.js'

t.test('a budget is taken and given back', async (t) => {
  const budget = new FdBudget(10)
  t.ok(budget.take(10))
  t.notOk(budget.take(1))
  budget.giveBack(4)
  t.notOk(budget.take(5))
  t.ok(budget.take(4))
})

const openFds = () => readdirSync('/proc/self/fd').length

for (const idmap of [undefined, mapping()]) {
  const how = idmap ? 'idmapped' : 'plain'
  t.test(`${how}: mounted by name`, privileged, async (t) => {
    const area = scratch(t)
    const lowerdir = area.layers(60)
    const mounter = new Mounter({ maxLayerFds: 59 })
    const before = openFds()
    const stack = await LayerStack.open({ lowerdir, idmap }, { mounter })
    await mounter.idle()
    t.ok(openFds() - before < 5, 'no fd a layer')
    const at = area.container('c')
    const calls = stack.explain(at).cost.calls
    t.equal(calls['statx'], 60 + 2 + 1, 'each name is looked at, upper and work, and the mount')
    const rootfs = await stack.mount(at)
    t.equal(readFileSync(join(rootfs.path, 'each'), 'utf8').trim(), 'layer 0')
    t.equal(readdirSync(rootfs.path).filter((name) => name.startsWith('only-')).length, 60)
    await rootfs.unmount()

    const own = await stack.mount({ ...at, idmap: mapping(300_000) })
    t.equal(own.rung, 'detached-tree', 'a mapping of its own is by name anyway')
    await own.unmount()
    await stack.close()
    await mounter.close()
    t.equal(openFds(), before)
  })

  t.test(`${how}: a name that shows something else`, privileged, async (t) => {
    const area = scratch(t)
    const lowerdir = area.layers(3)
    const mounter = new Mounter({ maxLayerFds: 0 })
    const stack = await LayerStack.open({ lowerdir, idmap }, { mounter })
    const at = area.container('c')
    const moved = area.path('elsewhere')
    const parent = join(lowerdir[1]!, '..')
    renameSync(parent, moved)
    await t.rejects(stack.mount(at), { code: 'ENOENT', path: lowerdir[1]! })
    mkdirSync(lowerdir[1]!, { recursive: true })
    writeFileSync(join(lowerdir[1]!, 'wrong'), '')
    const replaced = (await stack.mount(at).catch((error) => error)) as MountError
    t.match(replaced, { code: 'ESTALE', hint: /lowerdir\[1\].*replaced/ })
    renameSync(parent, area.path('wrong'))
    symlinkSync(moved, parent)
    t.same(readdirSync(at.target), [], 'nothing was mounted')
    const linked = { code: 'ELOOP', hint: /a symbolic link is in lowerdir\[1\]/ }
    await t.rejects(stack.mount(at), linked, 'the same directory, but by a link')
    await stack.close()
    await mounter.close()
  })
}

t.test('without a mapping to be expected, classic keeps its fds', privileged, async (t) => {
  const area = scratch(t)
  const mounter = new Mounter({ maxLayerFds: 0, rung: 'classic' })
  const stack = await LayerStack.open({ lowerdir: area.layers(3) }, { mounter })
  const rootfs = await stack.mount(area.container('c'))
  t.equal(rootfs.rung, 'classic')
  await rootfs.unmount()
  await stack.close()
  await mounter.close()
})
