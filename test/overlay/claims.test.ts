/**
 * Claims under real mounts: who has an upper and a work directory, for how long, and who waits for whom. An unmount
 * answers before the superblock is gone; whoever mounts the same upper next waits for that, on no thread.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import t, { type Test } from 'tap'
import { binding } from '../../lib/binding.js'
import * as f from '../../lib/flags.js'
import {
  type MountError,
  Mounter,
  type MounterOptions,
  MountGroup,
  type Rootfs,
  type StackMountOptions,
} from '../../lib/index.js'
import * as c from '../../lib/program/calls.js'
import { cwd } from '../../lib/program/plan.js'
import { Pool } from '../../lib/program/pool.js'
import { gate } from '../program/gate.js'
import { planOf } from '../program/programs.js'
import { dist } from '../support/child.js'
import { settled } from '../support/counts.js'
import { isBelow, mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { ways } from '../support/rungs.js'
import { scratch } from '../support/scratch.js'

/** Tests after which nothing is claimed. */
const test = (name: string, body: (t: Test) => Promise<void>) =>
  t.test(name, privileged, async (t) => {
    await body(t)
    t.equal(
      await settled(
        () => binding.claims(),
        (count) => count === 0,
      ),
      0,
      'nothing is claimed at the end',
    )
  })
const mounterOf = (t: Test, options: MounterOptions = {}): Mounter => {
  const mounter = new Mounter(options)
  t.teardown(() => mounter.close())
  return mounter
}
const isMounted = (dir: string) => mounts().some((mount) => isBelow(mount, dir))
const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` }
const sh = (program: string, ...args: string[]) => execFileSync(program, args, { env, stdio: 'ignore' })
const umount = (dir: string) => sh('umount', '-n', dir)

for (const { rung, idmap } of ways) {
  test(`each directory is one mount’s, as upper or as work: ${rung}`, async (t) => {
    const area = scratch(t)
    const mounter = mounterOf(t, { rung })
    const stack = await mounter.open({ lowerdir: area.layers(2), idmap })
    const [one, two] = [area.container('one'), area.container('two')]
    const first = await stack.mount(one)
    t.equal(binding.claims(), 1)
    const refused = { code: 'EBUSY', hint: new RegExp(`in use by the overlay at ${one.target}`) }
    for (const spec of [
      { ...two, upperdir: one.workdir },
      { ...two, workdir: one.upperdir },
      { ...two, upperdir: one.workdir, workdir: one.upperdir },
      { ...one, target: two.target },
    ]) {
      await t.rejects(stack.mount(spec), refused)
      t.throws(() => stack.mountSync(spec), { code: 'EBUSY' })
    }
    t.notOk(isMounted(two.target))
    t.equal(binding.claims(), 1, 'who is refused keeps nothing')
    const lower = await stack.mount({ target: area.mkdir('read-only') })
    t.equal(binding.claims(), 1, 'without an upper nothing is claimed')
    const second = await stack.mount(two)
    t.equal(binding.claims(), 2)
    for (const rootfs of [first, second, lower]) await rootfs.unmount({ wait: 'teardown' })
    t.equal(binding.claims(), 0, 'gone with the superblock')

    await stack.mount(one)
    umount(one.target)
    t.equal(binding.claims(), 1, 'nobody has told')
    const again = await stack.mount(one)
    t.equal(binding.claims(), 1, 'a claim whose mount is gone is dropped by who meets it')
    again.unmountSync({ wait: 'teardown' })
    await stack.close()
  })

  test(`the same upper again, at once: ${rung}`, async (t) => {
    const area = scratch(t)
    const mounter = mounterOf(t, { rung })
    const stack = await mounter.open({ lowerdir: area.layers(2), idmap })
    // the kernel refuses an upper whose last overlay is not gone yet
    const options = { index: 'on' } as const
    const alone = area.container('alone')
    for (let i = 0; i < 200; i++) {
      const rootfs = await stack.mount({ ...alone, options })
      await rootfs.unmount()
    }
    t.pass('200 times')
    for (let i = 0; i < 50; i++) stack.mountSync({ ...alone, options }).unmountSync()
    t.pass('50 times, blocking')
    const many = Array.from({ length: 20 }, (_, i) => area.container(`c${i}`))
    const round = async (at: (typeof many)[number]) => {
      for (let i = 0; i < 10; i++) {
        const rootfs = await stack.mount({ ...at, options })
        await rootfs.unmount()
      }
    }
    await Promise.all(many.map(round))
    t.pass('20 at a time')
    await mounter.idle()
    t.equal(binding.claims(), 0, 'idle waits for the end of all claims')
    await stack.close()
  })
}

test('a detached mount has its upper until it is closed', async (t) => {
  const area = scratch(t)
  const mounter = mounterOf(t)
  const stack = await mounter.open({ lowerdir: area.layers(2) })
  const { upperdir, workdir, target } = area.container('c')
  const options = { index: 'on' } as const
  for (let i = 0; i < 50; i++) {
    const detached = await stack.mount({ upperdir, workdir, options })
    if (i === 0)
      await t.rejects(stack.mount({ upperdir, workdir, target }), { code: 'EBUSY', hint: /detached/ })
    await detached.unmount()
  }
  const attached = await stack.mount({ upperdir, workdir, options })
  await attached.attach(target)
  await t.rejects(stack.mount({ upperdir, workdir }), { code: 'EBUSY', hint: new RegExp(target) })
  await attached.unmount()
  const last = await stack.mount({ upperdir, workdir, options })
  await last.unmount({ wait: 'teardown' })
  await stack.close()
})

/** A directory whose claim is ending, and will not have ended before `end`. */
const ending = async (t: Test, dir: string, upperdir: string) => {
  const pool = new Pool({ name: 'ending', threads: 1, cpus: [] })
  const { path, release } = gate(dir)
  const claiming = planOf((b) => {
    const slot = b.slot('upper')
    b.add(c.openat(slot, cwd, upperdir, f.O_PATH | f.O_DIRECTORY), c.claim(slot)).always(c.close(slot))
  })
  const { claim } = await pool.run(claiming)
  const waiting = planOf((b) => {
    b.add(c.retireClaim(claim, { answers: true }), c.openat(b.slot('gate'), cwd, path, f.O_RDONLY))
    b.always(c.dropClaim(claim))
  })
  await pool.run(waiting)
  const end = async () => {
    await release()
    await pool.settle()
  }
  t.teardown(() => pool.close())
  return end
}
/** Until a mount waits for a directory: by then it has undone what it had made. */
const parked = (mounter: Mounter) =>
  settled(
    () => mounter.stats.composing.parked,
    (count) => count === 1,
    30_000,
  )
/** Time for what must not happen. */
const soon = () => new Promise((resolve) => setTimeout(resolve, 50))

for (const { rung, idmap } of ways) {
  test(`a mount that waits for its upper can be aborted: ${rung}`, async (t) => {
    const area = scratch(t)
    const mounter = mounterOf(t, { rung, threads: 1 })
    const stack = await mounter.open({ lowerdir: area.layers(2), idmap })
    const at = area.container('c')
    const end = await ending(t, area.mkdir('gate'), at.upperdir)
    const made = { ...at, workdir: area.path('made'), create: true }
    const abort = new AbortController()
    const waiting = stack.mount(made, { signal: abort.signal })
    waiting.catch(() => {})
    t.equal(await parked(mounter), 1)
    t.notOk(existsSync(made.workdir), 'while it waits, what it had made is gone again')
    const other = await stack.mount(area.container('other'))
    t.pass('it takes no thread: another one is served meanwhile')
    abort.abort(new Error('stopped'))
    await t.rejects(waiting, { message: 'stopped' }, 'at once')
    t.notOk(isMounted(at.target))
    await end()
    const rootfs = await stack.mount(made)
    t.ok(isMounted(at.target), 'and the next one gets it')
    await rootfs.unmount()
    await other.unmount()
    await stack.close()
    await mounter.idle()
  })
}

test('a mounter with a mount that waits closes when that is done', async (t) => {
  const area = scratch(t)
  const at = area.container('c')
  const mounter = new Mounter()
  const stack = await mounter.open({ lowerdir: area.layers(2) })
  const end = await ending(t, area.mkdir('gate'), at.upperdir)
  const order: string[] = []
  const mounting = stack.mount(at).finally(() => order.push('mounted'))
  const closing = mounter.close().finally(() => order.push('closed'))
  const closingStack = stack.close().finally(() => order.push('stack closed'))
  t.equal(await parked(mounter), 1)
  await soon()
  t.same(order, [], 'nothing before the directory is free')
  await end()
  const rootfs = await mounting
  t.ok(isMounted(at.target))
  await Promise.all([closing, closingStack])
  t.equal(order[0], 'mounted')
  await rootfs.unmount({ wait: 'teardown' })
  await mounter.close()
})

/**
 * A worker with a mounter, which mounts what it is told to: it answers when the mount waits, or, `busy`, at once, and
 * then its event loop does not hear of it.
 */
const workerWith = async (options: object, busy: boolean): Promise<Worker> => {
  const worker = new Worker(
    `const { parentPort, workerData } = require('node:worker_threads')
    import(workerData.index).then(async ({ Mounter }) => {
      const mounter = new Mounter()
      const stack = await mounter.open({ lowerdir: workerData.options.lowerdir })
      const { lowerdir, ...at } = workerData.options
      globalThis.mounting = stack.mount(at)
      while (!workerData.busy && mounter.stats.composing.parked === 0) await new Promise(setImmediate)
      parentPort.postMessage('started')
      if (workerData.busy) for (;;);
    })`,
    { eval: true, execArgv: [], workerData: { index: dist('index.js'), options, busy } },
  )
  await new Promise((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
  })
  return worker
}

test('a worker that ends while its mount waits', async (t) => {
  const area = scratch(t)
  const at = area.container('c')
  const lowerdir = area.layers(2)
  const end = await ending(t, area.mkdir('gate'), at.upperdir)
  const worker = await workerWith({ lowerdir, ...at }, false)
  await worker.terminate()
  t.equal(binding.claims(), 1, 'only the one that is waited for')
  await end()
  await soon()
  t.notOk(isMounted(at.target), 'what nobody waits for any more is not made')
})

test('a worker that ends before it hears of its mount', async (t) => {
  const area = scratch(t)
  const mounter = mounterOf(t)
  const lowerdir = area.layers(2)
  const [at, other] = [area.container('c'), area.container('other')]
  const worker = await workerWith({ lowerdir, ...at }, true)
  t.ok(await settled(() => isMounted(at.target), Boolean, 30_000), 'attached, whoever knows')
  await worker.terminate()
  t.ok(isMounted(at.target), 'and it stays')
  await t.rejects(
    mounter.mount({ lowerdir, ...other, upperdir: at.upperdir }),
    { code: 'EBUSY', hint: new RegExp(`in use by the overlay at ${at.target}`) },
    'so its upper is still in use',
  )
  umount(at.target)
  for (const mount of mounts().filter((one) => isBelow(one, other.target))) umount(String(mount.target))
  const rootfs = await mounter.mount({ lowerdir, ...at })
  await rootfs.unmount()
  await mounter.idle()
})

test('a worker that ends while it takes a group down', async (t) => {
  const area = scratch(t)
  const mounter = mounterOf(t)
  const lowerdir = area.layers(2)
  const [at, other] = [area.container('c'), area.container('other')]
  const worker = new Worker(
    `const { parentPort, workerData } = require('node:worker_threads')
    Promise.all([import(workerData.index), import(workerData.binding)]).then(async ([{ Mounter }, { binding }]) => {
      globalThis.rootfs = await new Mounter().mount(workerData.options)
      // as a group does of its members, before it is unmounted
      binding.retireClaim(rootfs.standing.claim)
      parentPort.on('message', () => {})
      parentPort.postMessage('retired')
    })`,
    {
      eval: true,
      execArgv: [],
      workerData: { index: dist('index.js'), binding: dist('binding.js'), options: { lowerdir, ...at } },
    },
  )
  await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
  const wanted = { lowerdir, ...other, upperdir: at.upperdir }
  const waiting = mounter.mount(wanted)
  waiting.catch(() => {})
  t.equal(await parked(mounter), 1, 'until then it is waited for')
  await worker.terminate()
  await t.rejects(waiting, { code: 'EBUSY' }, 'it has not been taken down, and nobody will')
  await t.rejects(mounter.mount(wanted), { code: 'EBUSY' }, 'who comes later does not wait either')
  umount(at.target)
  const rootfs = await mounter.mount(wanted)
  await rootfs.unmount()
  await mounter.idle()
})

/** So much that syncing it takes longer than any answer. */
const dirt = Buffer.alloc(48 << 20, 'x')

test('an unmount does not wait for the sync of the upper’s file system', async (t) => {
  const area = scratch(t)
  const mounter = mounterOf(t)
  const stack = await mounter.open({ lowerdir: area.layers(2) })
  const options = { index: 'on' } as const
  const at = area.container('c', area.ext4('disk', 256))
  const { upperdir, workdir } = at
  /** Claims that are there when a dirty mount has been unmounted: one while it is being taken down. */
  const after = async (mount: StackMountOptions, unmount: (rootfs: Rootfs) => unknown) => {
    await mounter.idle()
    const rootfs = await stack.mount(mount)
    writeFileSync(join(rootfs.path, 'dirt'), dirt)
    await unmount(rootfs)
    return binding.claims()
  }
  /** The same, of several: this thread may lose its CPU until the disk is done. */
  const mostAfter = async (mount: StackMountOptions, unmount: (rootfs: Rootfs) => unknown) => {
    let most = 0
    for (let i = 0; i < 5 && most === 0; i++) most = await after(mount, unmount)
    return most
  }

  t.equal(
    await mostAfter({ ...at, options }, (rootfs) => rootfs.unmount()),
    1,
    'it is still being taken down',
  )
  t.notOk(isMounted(at.target), 'but has left the namespace')
  // index=on: the kernel would refuse it while the superblock is there
  const next = await stack.mount({ ...at, options })
  await next.unmount()
  const teardown = (rootfs: Rootfs) => rootfs.unmount({ wait: 'teardown' })
  t.equal(await after({ ...at, options }, teardown), 0, 'who asks for the teardown waits for it')
  t.equal(await mostAfter({ ...at, options }, (rootfs) => rootfs.unmountSync()), 1, 'the blocking form')
  const detached = { upperdir, workdir, options }
  t.equal(await mostAfter(detached, (rootfs) => rootfs.unmount()), 1, 'a detached one')
  t.equal(await mostAfter(detached, (rootfs) => rootfs.unmountSync()), 1, 'the same, blocking')
  await mounter.idle()
  await stack.close()
})

test('an upper that is asked for while its mount is being taken down', async (t) => {
  const area = scratch(t)
  const mounter = mounterOf(t)
  const stack = await mounter.open({ lowerdir: area.layers(2) })
  const at = { ...area.container('c'), options: { index: 'on' } } as const
  for (const wait of ['namespace', 'teardown'] as const) {
    const refused: unknown[] = []
    for (let i = 0; i < 150; i++) {
      const rootfs = await stack.mount(at)
      const unmounted = rootfs.unmount({ wait })
      // while umount2 runs, at another moment each time
      for (let turns = i % 5; turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve))
      const next = await stack.mount(at).catch((error) => error)
      await unmounted
      if (next instanceof Error) refused.push(next)
      else await next.unmount()
    }
    // while it is still attached the library says no; the kernel is never asked for what is in use
    t.same(
      refused
        .map((error) => (error as MountError).hint)
        .filter((hint) => !hint?.startsWith('this upperdir is in use by ')),
      [],
      wait,
    )
  }
  await mounter.idle()
  await stack.close()
})

test('members of a group are in use until the group is gone', async (t) => {
  const area = scratch(t)
  const mounter = mounterOf(t)
  const stack = await mounter.open({ lowerdir: area.layers(2) })
  const options = { index: 'on' } as const
  for (let i = 0; i < 20; i++) {
    const group = await MountGroup.open(area.mkdir(`group${i}`), { mounter })
    const { upperdir, workdir } = area.container(`member${i}`)
    await stack.mount({ upperdir, workdir, target: group.target('a'), options })
    const gone = group.unmount()
    for (let turns = i % 4; turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve))
    const next = await stack.mount({ upperdir, workdir, options }).catch((error) => error)
    await gone
    if (next instanceof Error) t.match((next as MountError).hint, /in use by the overlay at/)
    else await next.unmount()
  }
  await mounter.idle()
  await stack.close()
})
