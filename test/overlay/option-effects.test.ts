/**
 * Every option of overlay, really mounted on every rung, and what it does: not only that it is accepted. Then
 * data-only layers, attributes that are escaped for an overlay above, and the mark of a volatile mount.
 */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Mounter } from '../../lib/index.js'
import { type OptionName, optionTable } from '../../lib/overlay/option-table.js'
import * as c from '../../lib/program/calls.js'
import { PlanBuilder } from '../../lib/program/plan.js'
import { Pool } from '../../lib/program/pool.js'
import { xattrsOf } from '../support/files.js'
import { all, privileged, programs } from '../support/needs.js'
import { effects, type Given, type Shown } from '../support/option-effects.js'
import { setXattrs, type Way, ways } from '../support/rungs.js'
import { scratch } from '../support/scratch.js'

const given = (t: Test, way: Way): Given => {
  const area = scratch(t)
  const mounter = new Mounter({ rung: way.rung, threads: 1 })
  t.teardown(() => mounter.close())
  const [lowerdir, at] = [area.layers(2), area.container('c')]
  return {
    ...{ t, area, way, mounter, lowerdir, at },
    async with(options, look, over) {
      const where = { ...at, ...over }
      const rootfs = await mounter.mount({ lowerdir, idmap: way.idmap, ...where, options })
      try {
        return await look(rootfs, where)
      } finally {
        await rootfs.unmount({ wait: 'teardown' })
      }
    },
  }
}

const shown = new Set<string>()

for (const [name, effect] of Object.entries(effects)) {
  for (const way of ways) {
    t.test(`${name}: ${way.rung}`, all(privileged, programs('filefrag')), async (t) => {
      await effect(given(t, way))
      shown.add(name)
    })
  }
}

t.test('all of them', privileged, async (t) => {
  const selinux = (Object.keys(optionTable) as OptionName[]).filter(
    (name) => optionTable[name].kind === 'text',
  )
  const wanted = Object.keys(optionTable).filter((name) => !selinux.some((each) => each === name))
  t.same([...shown].sort(), wanted.sort() satisfies string[] as Shown[])
  t.comment(
    `options mounted / documented: ${shown.size} / ${wanted.length}, and ${selinux.length} of SELinux as data`,
  )
})

t.test('override_creds: whose credentials are kept', privileged, async (t) => {
  const area = scratch(t)
  const [lowerdir] = area.layers(1)
  const pool = new Pool({ name: 'creds', threads: 1, cpus: [] })
  for (const key of ['override_creds', 'nooverride_creds']) {
    const { upperdir, workdir } = area.container(key)
    const b = new PlanBuilder(key)
    const fs = b.slot('fs')
    b.add(c.fsopen(fs, 'overlay')).always(c.close(fs))
    for (const [name, path] of Object.entries({ lowerdir, upperdir, workdir })) {
      b.add(c.setString(fs, name, path!))
    }
    const assumed = c.assumeFsids(1234, 1234)
    b.add(c.setFlag(fs, key), assumed, c.create(fs)).always(c.restoreFsids(0, 0, { ifDone: assumed }))
    await pool.run(b.build())
    const { uid } = statSync(join(workdir, 'work'))
    t.equal(uid, key === 'override_creds' ? 0 : 1234, `${key}: the owner of what the overlay makes`)
  }
  pool.close()
})

for (const way of ways) {
  t.test(`datadir: ${way.rung}`, privileged, async (t) => {
    const { area, lowerdir, with: mounted } = given(t, way)
    const datadir = [area.mkdir('data', '0'), area.mkdir('data', '1')]
    mkdirSync(join(datadir[1]!, 'deep'))
    writeFileSync(join(datadir[1]!, 'deep/blob'), 'from the data layer')
    const top = join(lowerdir[0]!, 'composed')
    writeFileSync(top, '')
    truncateSync(top, 'from the data layer'.length)
    setXattrs(top, { 'trusted.overlay.metacopy': '', 'trusted.overlay.redirect': '/deep/blob' })
    await mounted(
      { metacopy: 'on' },
      ({ path }) => {
        t.equal(readFileSync(join(path, 'composed'), 'utf8'), 'from the data layer')
        t.notOk(existsSync(join(path, 'deep')), 'its names are not seen')
      },
      { datadir },
    )
  })

  t.test(`attributes escaped for an overlay above: ${way.rung}`, privileged, async (t) => {
    const { lowerdir, with: mounted } = given(t, way)
    setXattrs(join(lowerdir[0]!, 'dir'), { 'trusted.overlay.overlay.opaque': 'y' })
    await mounted({}, ({ path }) => {
      t.same(xattrsOf(join(path, 'dir')), { 'trusted.overlay.opaque': 'y' }, 'one prefix less')
      t.same(readdirSync(join(path, 'dir')).sort(), ['from-0', 'from-1'], 'and nothing to this one')
    })
  })

  t.test(`a volatile mark: ${way.rung}`, privileged, async (t) => {
    const { area, at, lowerdir, mounter, with: mounted } = given(t, way)
    const mark = join(at.workdir, 'work/incompat/volatile')
    await mounted({ volatile: true }, () => {})
    t.ok(existsSync(mark), 'the kernel leaves it after a clean unmount')
    for (const options of [{ volatile: true }, {}, { fsync: 'volatile' as const }]) {
      const target = area.path('new')
      const call = mounter.mount({ lowerdir, ...at, target, create: true, idmap: way.idmap, options })
      await t.rejects(call, { code: 'EINVAL', hint: /volatile: 'reset'/ }, JSON.stringify(options))
      t.notOk(existsSync(target), 'nothing was made')
    }
    for (const options of [{ volatile: 'reset' as const }, { volatile: 'reset' as const }]) {
      await mounted(options, ({ path }) => writeFileSync(join(path, 'written'), ''))
      t.ok(existsSync(mark), 'and again')
    }
    t.ok(existsSync(join(at.upperdir, 'written')), 'the upper is as it was')
  })
}
