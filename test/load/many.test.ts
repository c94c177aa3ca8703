/**
 * 5,000 mounts at once through one Mounter, and all unmounted at once: from one `LayerStack`, whose layers are open; and
 * 500 that open their layers themselves, with fewer fds than they have layers.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, statSync } from 'node:fs'
import t from 'tap'
import { binding } from '../../lib/binding.js'
import { Mounter, type Rootfs, type StackMountOptions } from '../../lib/index.js'
import { startContainer } from '../support/container.js'
import { mountCount, settled } from '../support/counts.js'
import { watch } from '../support/left.js'
import { all, privileged, programs } from '../support/needs.js'
import { ways } from '../support/rungs.js'
import { type Scratch, scratch } from '../support/scratch.js'
import { mapping } from '../support/userns.js'

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

t.test('each by itself, with few fds', all(privileged, programs('prlimit')), async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(2)
  const at = containers(area, 500)
  const container = await startContainer(t, { script: 'for i in $(seq 0 99); do mkdir /tmp/$i; done' })
  const whole = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1] as string
  for (const { rung, idmap } of ways) {
    const left = watch()
    const before = mountCount()
    const mounter = new Mounter({ rung })
    const mount = (each: StackMountOptions) => mounter.mount({ lowerdir, idmap, ...each })
    softLimit('400')
    const made = await Promise.all(at.map(mount))
    t.equal(mountCount() - before, at.length, rung)
    await unmountAll(made)

    // one that is refused, in whatever way, is in nobody's way
    const wrong = [
      { lowerdir: [lowerdir[0], area.path('none')] },
      { target: area.path('none') },
      { lowerdir: [] },
    ]
    const mixed = at.slice(0, 200).map((each, i) => mount({ ...each, ...(i % 4 < 3 ? wrong[i % 4] : {}) }))
    const results = await Promise.allSettled(mixed)
    const codes = results.map((result) => (result.status === 'rejected' ? result.reason.code : 'made'))
    t.same(
      codes,
      results.map((_, i) => ['ENOENT', 'ENOENT', 'ERR_INVALID_ARG_VALUE', 'made'][i % 4]),
    )
    t.equal(mountCount() - before, 50)
    await unmountAll(results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : [])))

    if (idmap) {
      const own = at.map((each, i) => mount({ ...each, idmap: mapping(100_000 + i * 65_536) }))
      await unmountAll(await Promise.all(own))
    }
    if (rung !== 'classic') {
      // each keeps an fd of the namespace
      const there = at.slice(0, 100).map(({ upperdir, workdir }, i) => {
        const target = { path: `/tmp/${i}`, mountNamespace: container.namespace }
        return mount({ upperdir, workdir, target })
      })
      await unmountAll(await Promise.all(there))
    }
    t.equal(mountCount(), before, 'all are unmounted')
    softLimit(whole)
    await mounter.close()
    t.same(await left({ threads: true }), [])
    t.equal(await noClaims(), 0, 'no upper is claimed')
  }
})
