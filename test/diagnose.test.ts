/**
 * Why a mount failed, cause by rung: the kernel says EINVAL for nearly everything, the error has to say which
 * layer, which two directories, which option. Afterwards nothing is left, not even what `create` made, and the
 * next mount succeeds. Causes that take other rights or limits are in diagnose-limits.test.ts.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { MountError, Mounter } from '../lib/index.js'
import { layerRows } from './support/causes/layers.js'
import { names, sh } from './support/causes/row.js'
import { upperRows } from './support/causes/uppers.js'
import { watch } from './support/left.js'
import { privileged } from './support/needs.js'
import { forms, ways } from './support/rungs.js'
import { scratch } from './support/scratch.js'

for (const { cause, make, code, call, hint, rungs } of [...layerRows, ...upperRows]) {
  for (const { rung, idmap } of ways.filter((way) => !rungs || rungs.includes(way.rung))) {
    t.test(`${cause}: ${rung}`, privileged, async (t) => {
      const area = scratch(t)
      const lowerdir = area.layers(3)
      const at = area.container('c')
      const bad = { lowerdir, ...at, idmap, ...make({ area, lowerdir, at }) }
      const syscall = typeof call === 'string' ? call : call[rung]
      const mounter = new Mounter({ rung })
      const left = watch()
      const before = names(area)
      for (const form of forms) {
        const error = await form.mount(mounter, bad).then(
          () => t.fail('it was mounted'),
          (thrown: unknown) => thrown,
        )
        t.ok(error instanceof MountError)
        t.match(error, { code, syscall, rung, hint })
        t.match((error as MountError).message, (error as MountError).call, 'the message prints the call')
        t.match((error as MountError).message, (error as MountError).hint)
      }
      t.same(names(area), before, 'nothing was made')
      const good = area.container('good')
      const rootfs = await mounter.mount({ lowerdir: area.layers(3, { below: 'good' }), ...good, idmap })
      t.ok(existsSync(join(good.target, 'only-2')), 'the next one succeeds')
      await rootfs.unmount()
      await mounter.close()
      t.same(await left({ threads: true }), [])
      sh('umount', '-n', '-l', '-R', area.dir)
      sh('mount', '-n', '-t', 'tmpfs', 'overlayfd-test', area.dir)
    })
  }
}

t.test("'reset' removes the mark of a volatile mount", privileged, async (t) => {
  for (const { rung, idmap } of ways) {
    const area = scratch(t)
    const at = area.container('c')
    const mounter = new Mounter({ rung })
    const options = { lowerdir: area.layers(2), ...at, idmap }
    for (const volatile of [true, 'reset', 'reset'] as const) {
      const rootfs = await mounter.mount({ ...options, options: { volatile } })
      t.ok(existsSync(join(at.workdir, 'work/incompat/volatile')), 'the kernel leaves it')
      await rootfs.unmount()
    }
    await mounter.close()
  }
})
