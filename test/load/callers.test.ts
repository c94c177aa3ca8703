/**
 * Many callers of the same layers at once: 64 of one `LayerStack`; worker threads, each with a stack of its own, because
 * a stack is an object of one thread; and two processes. On one upper only one of them gets it, within a process; of
 * another process's mount the kernel tells only with `index: 'on'`, or `checkUpper` asks.
 */
import { execFileSync } from 'node:child_process'
import { readdirSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { Mounter } from '../../lib/index.js'
import { dist, type Ended, runModule } from '../support/child.js'
import { watch } from '../support/left.js'
import { isBelow, mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { ways } from '../support/rungs.js'
import { read, scratch } from '../support/scratch.js'

for (const { rung, idmap } of ways) {
  t.test(`64 callers of one stack: ${rung}`, privileged, async (t) => {
    const area = scratch(t)
    const left = watch()
    const mounter = new Mounter({ rung })
    const stack = await mounter.open({ lowerdir: area.layers(3), idmap })
    const call = async (i: number): Promise<number> => {
      const at = area.container(String(i))
      let right = 0
      for (let turn = 0; turn < 5; turn++) {
        const rootfs = await stack.mount(at)
        if (read(at.target, 'each', 'only-2').join() === 'layer 0,layer 2') right++
        // the upper is this caller's, and he gets it back each time
        if (!idmap) writeFileSync(`${at.target}/turn-${turn}`, '')
        await rootfs.unmount()
        if (!idmap && readdirSync(at.upperdir).length !== turn + 1) right--
      }
      return right
    }
    t.same(await Promise.all(Array.from({ length: 64 }, (_, i) => call(i))), Array(64).fill(5))
    await stack.close()
    await mounter.close()
    t.same(await left({ threads: true }), [])
  })
}

/** Mounts in turns at a container of its own and tells what came of it; `upper`: at one that others want too. */
const caller = (layers: object, rung: string, dir: string, upper?: string) => `
  const { Mounter } = await import(${JSON.stringify(dist('index.js'))})
  const { readFileSync } = await import('node:fs')
  const mounter = new Mounter({ rung: '${rung}', threads: 2, reapers: 2 })
  const stack = await mounter.open(${JSON.stringify(layers)})
  const seen = {}
  for (let turn = 0; turn < 20; turn++) {
    const at = { upperdir: '${upper ?? `${dir}/upper`}', workdir: '${upper ? `${upper}/../work` : `${dir}/work`}', target: '${dir}/rootfs' }
    const what = await stack.mount({ ...at, options: { index: 'on' } }).then(async (rootfs) => {
      const found = readFileSync(at.target + '/each', 'utf8')
      await rootfs.unmount({ wait: 'teardown' })
      return found
    }, (error) => error.code + ' ' + error.hint)
    seen[what] = (seen[what] ?? 0) + 1
  }
  await stack.close()
  await mounter.close()
`

const told = ({ status, stdout, stderr }: Ended): Record<string, number>[] => {
  if (status !== 0) throw new Error(stderr)
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
}

const busy = /^EBUSY .* (is in use by|in use by another overlay|an overlay of another process)/

for (const { rung, idmap } of ways) {
  t.test(`threads and processes: ${rung}`, privileged, async (t) => {
    const area = scratch(t)
    const layers = { lowerdir: area.layers(3), idmap }
    const dirs = Array.from({ length: 4 }, (_, i) => {
      area.container(String(i))
      return area.path('containers', String(i))
    })
    const code = (i: number, upper?: string) => caller(layers, rung, dirs[i] as string, upper)
    const threads = `
      import { Worker } from 'node:worker_threads'
      import { once } from 'node:events'
      const codes = ${JSON.stringify(dirs.map((_, i) => `(async () => {${code(i)} require('node:worker_threads').parentPort.postMessage(seen)})()`))}
      const workers = codes.map((code) => new Worker(code, { eval: true, execArgv: [] }))
      for (const [seen] of await Promise.all(workers.map((worker) => once(worker, 'message')))) console.log(JSON.stringify(seen))
    `
    const each = { 'layer 0': 20 }
    t.same(told(await runModule(threads)), [each, each, each, each], 'four threads')
    const process = (i: number, upper?: string) =>
      runModule(`${code(i, upper)} console.log(JSON.stringify(seen))`)
    const apart = await Promise.all([process(0), process(1)])
    t.same(apart.flatMap(told), [each, each], 'two processes on the same layers')

    // together they are refused sometimes, and never mounted both
    const shared = `${dirs[2]}/upper`
    const fighting = (await Promise.all([process(2, shared), process(3, shared)])).flatMap(told)
    for (const seen of fighting) {
      for (const what of Object.keys(seen)) if (what !== 'layer 0') t.match(what, busy)
      t.equal(
        Object.values(seen).reduce((sum, count) => sum + count),
        20,
        JSON.stringify(seen),
      )
    }
    t.notOk(
      mounts().some((mount) => isBelow(mount, area.path('containers'))),
      'nothing is left mounted',
    )

    // one has it all the time
    const mounter = new Mounter({ rung })
    const stack = await mounter.open(layers)
    const other = area.container('other')
    const at = { upperdir: shared, workdir: `${dirs[2]}/work`, target: other.target }
    const foreign = [`lowerdir=${layers.lowerdir.join(':')}`, `upperdir=${shared}`, `workdir=${dirs[2]}/work`]
    const their = `${dirs[2]}/rootfs`
    execFileSync('mount', ['-n', '-t', 'overlay', 'theirs', their, '-o', [...foreign, 'index=on'].join()])
    await t.rejects(stack.mount({ ...at, options: { index: 'on' } }), { code: 'EBUSY' }, 'index finds it')
    await t.rejects(stack.mount({ ...at, checkUpper: true }), { code: 'EBUSY' }, 'and so does checkUpper')
    execFileSync('umount', ['-n', their])
    await (await stack.mount({ ...at, options: { index: 'on' } })).unmount()
    await stack.close()
    await mounter.close()
  })
}
