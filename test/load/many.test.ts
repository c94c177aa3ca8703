/**
 * 5,000 mounts at once through one Mounter, and all unmounted at once: from one `LayerStack`, whose layers are open. What
 * opens its layers itself has them open while it waits for a thread: with too few fds most of them are EMFILE, perhaps
 * all, and who awaits `ready()` before each needs a few.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, statSync } from 'node:fs'
import t from 'tap'
import { binding } from '../../lib/binding.js'
import { type MountError, Mounter, type Rootfs } from '../../lib/index.js'
import { mountCount, settled } from '../support/counts.js'
import { watch } from '../support/left.js'
import { all, privileged, programs } from '../support/needs.js'
import { ways } from '../support/rungs.js'
import { type Scratch, scratch } from '../support/scratch.js'

const containers = (area: Scratch, count: number) =>
  Array.from({ length: count }, (_, i) => {
    const dir = `${area.dir}/c/${i}`
    for (const part of ['upper', 'work', 'rootfs']) mkdirSync(`${dir}/${part}`, { recursive: true })
    return { upperdir: `${dir}/upper`, workdir: `${dir}/work`, target: `${dir}/rootfs` }
  })

const unmountAll = (made: readonly Rootfs[]) => Promise.all(made.map((rootfs) => rootfs.unmount()))
const noClaims = () =>
  settled(
    () => binding.claims(),
    (count) => count === 0,
  )

t.test('from one stack', privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(2)
  const many = 5000
  const at = containers(area, many)
  for (const { rung, idmap, shift } of ways) {
    const left = watch()
    const before = mountCount()
    const mounter = new Mounter({ rung })
    const stack = await mounter.open({ lowerdir, idmap })
    const made = await Promise.all(at.map((each) => stack.mount(each)))
    t.equal(mountCount() - before, many, rung)
    t.equal(new Set(made.map(({ mountId }) => mountId)).size, many, 'each is a mount of its own')
    for (const { target } of at.filter((_, i) => i % 499 === 0)) {
      t.equal(readFileSync(`${target}/each`, 'utf8'), 'layer 0')
      t.equal(statSync(`${target}/each`).uid, shift)
    }
    await unmountAll(made)
    t.equal(mountCount(), before, 'all are unmounted')
    await stack.close()
    await mounter.close()
    t.same(await left({ threads: true }), [])
    t.equal(await noClaims(), 0, 'no upper is claimed')
  }
})

const softLimit = (value: string) =>
  execFileSync('prlimit', ['--pid', String(process.pid), `--nofile=${value}:`])

t.test('each by itself, with too few fds', all(privileged, programs('prlimit')), async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(2)
  const at = containers(area, 500)
  const whole = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1] as string
  for (const { rung, idmap } of ways) {
    const left = watch()
    const before = mountCount()
    const mounter = new Mounter({ rung })
    const mount = (each: (typeof at)[number]) => mounter.mount({ lowerdir, idmap, ...each })
    softLimit('400')
    const results = await Promise.allSettled(at.map(mount))
    const made = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
    const failed = results.flatMap((result) =>
      result.status === 'rejected' ? [result.reason as MountError] : [],
    )
    t.ok(failed.length > 0, `${rung}: ${failed.length} of ${at.length} had none`)
    const strange = failed.filter(({ code, hint }) => code !== 'EMFILE' || !hint?.startsWith('too many open'))
    t.same(strange.map(String), [], 'which is what they say')
    t.equal(mountCount() - before, made.length, 'what did not fail is made')
    await unmountAll(made)

    const next: Promise<Rootfs>[] = []
    for (const each of at) {
      await mounter.ready()
      next.push(mount(each))
    }
    const ready = await Promise.all(next)
    t.equal(mountCount() - before, at.length, 'who awaits ready() has them all')
    await unmountAll(ready)
    softLimit(whole)
    await mounter.close()
    t.same(await left({ threads: true }), [])
    t.equal(await noClaims(), 0, 'no upper is claimed')
  }
})
