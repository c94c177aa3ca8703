/**
 * An upper or a work directory that this process has in use is refused, however it is called and whichever
 * mounter has it, because the kernel would only write a line to its log. It is free again once the mount
 * is gone, whoever took it away.
 */
import { execFileSync } from 'node:child_process'
import { closeSync, existsSync, renameSync, symlinkSync } from 'node:fs'
import t, { type Test } from 'tap'
import { Mounter, type Rootfs } from '../../lib/index.js'
import { dist, run } from '../support/child.js'
import { isBelow, mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { forms, ways } from '../support/rungs.js'
import { type Container, type Scratch, scratch } from '../support/scratch.js'

const usedBy = (option: string, ...by: string[]) => ({
  name: 'MountError',
  code: 'EBUSY',
  hint: new RegExp(`^this ${option} is in use by (${by.join('|')}): `),
})
const overlayAt = (where: string) => `the overlay at ${where}`
const UNSETTLED = 'a detached mount, or one that is being made'
const busy = (option: string, where: string) => usedBy(option, overlayAt(where))
/** Beside a mount with `create`: it is still being made, or has just been attached. */
const created = (option: string, where: string) =>
  usedBy(option, overlayAt(where), 'another mount that is being made')
const umount = (dir: string) => execFileSync('umount', ['-n', dir])

/** One of the rivals has it, any of them, and the others were told of it: before it was attached (`early`), or after. */
const oneOf = async (
  t: Test,
  rivals: PromiseSettledResult<Rootfs>[],
  targets: string[],
  early: string[],
  message: string,
) => {
  const winner = rivals.findIndex(({ status }) => status === 'fulfilled')
  const refused = usedBy('upperdir', overlayAt(targets[winner] ?? 'no target'), ...early)
  for (const [i, rival] of rivals.entries())
    if (i !== winner) t.match(rival, { status: 'rejected', reason: refused }, message)
  t.not(winner, -1, message)
  for (const rival of rivals) if (rival.status === 'fulfilled') await rival.value.unmount()
}

for (const { rung, idmap } of ways) {
  t.test(`in use: ${rung}`, privileged, async (t) => {
    const area = scratch(t)
    const mounters = [new Mounter({ rung }), new Mounter({ rung })] as const
    t.teardown(() => Promise.all(mounters.map((mounter) => mounter.close())))
    const lowerdir = area.layers(2)
    const at = area.container('c')
    const other = area.container('other')
    symlinkSync('containers/c', area.path('link'))
    const bound = area.mkdir('bound')
    execFileSync('mount', ['-n', '--bind', area.path('containers/c'), bound])
    const aliases = [at.upperdir, area.path('link/upper'), `${bound}/upper`, `${at.upperdir}/../../c/upper`]
    const mount = (options: object, mounter: Mounter = mounters[0]) =>
      mounter.mount({ lowerdir, ...other, idmap, ...options })
    const free = async (message: string) => {
      const rootfs = await mount(at)
      await rootfs.unmount()
      t.pass(`free again: ${message}`)
    }

    for (const form of forms) {
      const rootfs = await form.mount(mounters[0], { lowerdir, ...at, idmap })
      for (const upperdir of aliases)
        await t.rejects(mount({ upperdir }), busy('upperdir', at.target), upperdir)
      await t.rejects(mount({ workdir: at.workdir }), busy('workdir', at.target))
      await t.rejects(
        mount({ upperdir: at.upperdir }, mounters[1]),
        busy('upperdir', at.target),
        'another mounter',
      )
      t.notOk(mounts().some((one) => isBelow(one, other.target)))
      await form.unmount(rootfs)
      await free('unmounted by us')
    }

    await mount(at)
    umount(at.target)
    await free('unmounted by somebody else')

    const kept = await mount(at)
    kept.release()
    await t.rejects(
      mount({ upperdir: at.upperdir }),
      busy('upperdir', at.target),
      'released, and still mounted',
    )
    umount(at.target)
    await free('unmounted after it was released')

    await mount(at)
    execFileSync('mount', ['-n', '-t', 'tmpfs', 'cover', at.target])
    await t.rejects(mount({ upperdir: at.upperdir }), busy('upperdir', at.target), 'covered by another mount')
    umount(at.target)
    const elsewhere = area.mkdir('elsewhere')
    execFileSync('mount', ['-n', '--move', at.target, elsewhere])
    await t.rejects(mount({ upperdir: at.upperdir }), busy('upperdir', elsewhere), 'moved')
    umount(elsewhere)
    await free('moved and unmounted')

    await t.rejects(mount({ ...at, lowerdir: [lowerdir[0], lowerdir[0]] }), { code: 'ELOOP' })
    await free('after a failure')

    const targets = [at.target, other.target, area.mkdir('third')]
    const rivals = await Promise.allSettled(targets.map((target) => mount({ ...at, target })))
    await oneOf(t, rivals, targets, [UNSETTLED], 'at the same time')
    umount(bound)
  })

  t.test(`in use while it is being made: ${rung}`, privileged, async (t) => {
    const area = scratch(t)
    const mounter = new Mounter({ rung })
    t.teardown(() => mounter.close())
    const lowerdir = area.layers(2)
    area.mkdir('c')
    const dirs = (c: string, target: string) => ({
      upperdir: area.path(c, 'upper'),
      workdir: area.path(c, 'work'),
      target: area.mkdir(target),
    })
    const mount = (options: object) =>
      mounter.mount({ lowerdir, idmap, create: true, ...dirs('c', 'one'), ...options })
    const targets = [area.path('one'), area.mkdir('two')]
    const both = await Promise.allSettled(targets.map((target) => mount({ target })))
    await oneOf(t, both, targets, ['another mount that is being made'], 'both would have made it')

    area.mkdir('real')
    symlinkSync('real', area.path('spelt'))
    const spellings = await Promise.allSettled([
      mount(dirs('real', 'one')),
      mount({ ...dirs('spelt', 'two'), workdir: area.path('spelt/other') }),
    ])
    await oneOf(t, spellings, targets, [UNSETTLED], 'by two names')

    const next = dirs('d', 'three')
    area.mkdir('d')
    const stack = await mounter.open({ lowerdir, idmap })
    const first = stack.mount({ ...next, create: true })
    // the event loop stands still: the first one has made its upper, and nobody here knows of it yet. Whether it is
    // known once the next one has opened its layers is a race, and either is right.
    for (const end = performance.now() + 5000; !existsSync(next.workdir) && performance.now() < end; );
    await t.rejects(mount({ ...next, target: area.mkdir('four') }), created('upperdir', next.target))
    await t.rejects(
      mount({ workdir: next.workdir, upperdir: area.mkdir('u') }),
      created('workdir', next.target),
    )
    const rootfs = await first
    await t.rejects(mount({ workdir: next.workdir, upperdir: area.mkdir('u') }), busy('workdir', next.target))
    await rootfs.unmount()
    const again = await mount({ ...next, target: area.mkdir('four') })
    await again.unmount()
    await stack.close()
  })
}

/** Other directories that came to the paths of those in use are not in use. */
const moved = async (area: Scratch, mount: (at: object) => Promise<Rootfs>, at: Container) => {
  await mount(at)
  renameSync(area.path('containers'), area.path('moved'))
  const next = await mount(area.container('c'))
  await next.unmount()
  umount(area.path('moved/c/rootfs'))
}

for (const { rung, idmap } of ways.filter((way) => way.rung !== 'classic')) {
  t.test(`in use by a detached one: ${rung}`, privileged, async (t) => {
    const area = scratch(t)
    const mounter = new Mounter({ rung })
    t.teardown(() => mounter.close())
    const lowerdir = area.layers(2)
    const { upperdir, workdir, target } = area.container('c')
    const mount = (options: object = {}) => mounter.mount({ lowerdir, idmap, upperdir, workdir, ...options })
    const detached = await mount()
    await t.rejects(mount({ target }), usedBy('upperdir', UNSETTLED))
    await detached.attach(target)
    await t.rejects(mount(), busy('upperdir', target), 'attached later')
    umount(target)
    const fd = (await mount()).release()
    if (fd !== undefined) closeSync(fd)
    const last = await mount({ target })
    await last.unmount()
    await moved(area, mount, { upperdir, workdir, target })
    t.notOk(mounts().some((one) => isBelow(one, area.path('moved'))))
  })
}

/** A child that tries the same upper from elsewhere; what it prints is what it was told. */
const child = async (t: Test, area: Scratch, body: string) => {
  const script = `
    import { Worker } from 'node:worker_threads'
    import { once } from 'node:events'
    import { Mounter } from ${JSON.stringify(dist('index.js'))}
    import { unshare } from ${JSON.stringify(dist('sys.js'))}
    const lowerdir = ${JSON.stringify(area.layers(2))}
    const [at, other] = ${JSON.stringify([area.container('c'), area.container('other')])}
    const outcome = (run) => run().then(() => 'done', ({ code, hint }) => code + ' ' + hint)
    const mounter = new Mounter({ rung: 'direct' })
    const seen = []
    ${body}
    await mounter.close()
    console.log(JSON.stringify(seen))`
  const { status, stdout, stderr } = await run(process.execPath, ['--input-type=module', '--eval', script])
  t.equal(status, 0, stderr)
  return { seen: JSON.parse(stdout || '[]'), target: area.path('containers/c/rootfs') }
}

t.test('in use in the mount namespace that the caller has left', privileged, async (t) => {
  const area = scratch(t)
  const { seen, target } = await child(
    t,
    area,
    `await mounter.mount({ lowerdir, ...at })
    unshare(0x20000)
    seen.push(await outcome(() => mounter.mount({ lowerdir, ...other, upperdir: at.upperdir })))`,
  )
  t.match(seen, [/^EBUSY this upperdir is in use by the overlay at a place in another mount namespace: /])
  umount(target)
})

t.test('in use by another thread', privileged, async (t) => {
  const area = scratch(t)
  const { seen, target } = await child(
    t,
    area,
    `const work = (target) => new Worker(\`
      const { parentPort, workerData } = require('node:worker_threads')
      import(workerData.index).then(async ({ Mounter }) => {
        const mounter = new Mounter({ rung: 'direct' })
        const rootfs = await mounter.mount(workerData.options)
        globalThis.kept = rootfs
        parentPort.postMessage('mounted')
        parentPort.once('message', async () => {
          await rootfs.unmount()
          parentPort.postMessage('unmounted')
        })
      })
    \`, { eval: true, execArgv: [], workerData: { index: ${JSON.stringify(dist('index.js'))}, options: { lowerdir, ...at, target } } })
    const next = () => outcome(async () => {
      const rootfs = await mounter.mount({ lowerdir, ...other, upperdir: at.upperdir })
      await rootfs.unmount()
    })
    for (const target of [at.target, undefined]) {
      const first = work(target)
      await once(first, 'message')
      seen.push(await next())
      first.postMessage('')
      await once(first, 'message')
      seen.push(await next())
      await first.terminate()
      const second = work(target)
      await once(second, 'message')
      await second.terminate()
      seen.push(await next())
      if (target) (await import('node:child_process')).execFileSync('umount', ['-n', target])
      if (target) seen.push(await next())
    }`,
  )
  const refused = new RegExp(`^EBUSY this upperdir is in use by the overlay at ${target}`)
  t.match(seen.slice(0, 4), [refused, 'done', refused, 'done'], 'attached: it outlives its thread')
  t.match(seen.slice(4), [/^EBUSY .* a detached mount/, 'done', 'done'], 'detached: it ends with its thread')
})
