/**
 * A stack's life: what it keeps, when it lets go, and what happens to mounts that are under way when it is
 * closed or their signal is aborted.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type LayerStack, Mounter, type Rootfs } from '../../lib/index.js'
import { dist, run } from '../support/child.js'
import { watch } from '../support/left.js'
import { isBelow, mounts } from '../support/mountinfo.js'
import { all, privileged, programs } from '../support/needs.js'
import { forms, ways } from '../support/rungs.js'
import { type Scratch, scratch } from '../support/scratch.js'
import { mapping } from '../support/userns.js'

const closed = { code: 'ERR_INVALID_STATE', message: /the stack is closed/ }
/** So many that closing overtakes them where it does not wait. */
const MANY = 64
const isMounted = (target: string) => mounts().some((mount) => isBelow(mount, target))

for (const { rung, idmap } of ways) {
  t.test(`close waits for mounts under way, and they outlive it: ${rung}`, privileged, async (t) => {
    const area = scratch(t)
    const mounter = new Mounter({ rung, threads: 1 })
    const left = watch()
    const stack = await mounter.open({ lowerdir: area.layers(3), idmap })
    const pending = Array.from({ length: MANY }, (_, i) => stack.mount(area.container(String(i))))
    t.throws(() => stack.closeSync(), {
      code: 'ERR_INVALID_STATE',
      message: /mounts of this stack are being made/,
    })
    t.throws(() => stack[Symbol.dispose](), { code: 'ERR_INVALID_STATE' })
    let made = 0
    for (const one of pending) one.then(() => made++)
    const closing = stack.close()
    t.equal(stack.close(), closing, 'a second close waits for the first')
    const { target } = area.container('late')
    await t.rejects(stack.mount({ target }), closed, 'nothing is mounted any more')
    await closing
    t.equal(made, MANY, 'they were all made before')
    for (const rootfs of await Promise.all(pending)) {
      t.equal(readFileSync(join(rootfs.path, 'only-2'), 'utf8'), 'layer 2')
      await rootfs.unmount()
    }
    t.notOk(isMounted(target))
    await mounter.close()
    t.same(await left({ threads: true }), [])
  })

  t.test(`after close: ${rung}`, privileged, async (t) => {
    const area = scratch(t)
    const mounter = new Mounter({ rung })
    const left = watch()
    const ends: [string, (stack: LayerStack) => unknown][] = [
      ['close', (stack) => stack.close()],
      ['closeSync', (stack) => stack.closeSync()],
      ['dispose', (stack) => stack[Symbol.dispose]()],
      ['asyncDispose', (stack) => stack[Symbol.asyncDispose]()],
    ]
    for (const [name, end] of ends) {
      const stack = mounter.openSync({ lowerdir: area.layers(2), idmap })
      await end(stack)
      await end(stack)
      for (const form of forms) await t.rejects(form.stackMount(stack, { target: area.dir }), closed, name)
      t.throws(() => stack.explain({ target: area.dir }), closed)
      t.equal(stack.layers, 2)
    }
    await mounter.close()
    t.same(await left({ threads: true }), [])
  })

  t.test(
    `the device below is free again: ${rung}`,
    all(privileged, programs('mkfs.ext4', 'losetup')),
    async (t) => {
      const area = scratch(t)
      const disk = area.ext4(`disk-${rung}`)
      const lowerdir = area.layers(3, { base: disk })
      const mounter = new Mounter({ rung })
      const free = () => execFileSync('umount', ['-n', disk], { stdio: 'pipe' })
      const stack = await mounter.open({ lowerdir, idmap })
      const own = idmap ? { idmap: mapping(500_000) } : {}
      const mounted = [
        await stack.mount(area.container('a')),
        await stack.mount({ ...area.container('b'), ...own }),
      ]
      for (const rootfs of mounted) await rootfs.unmount()
      t.throws(free, /busy/, 'a stack keeps it')
      await stack.close()
      await mounter.trim()
      free()
      t.notOk(isMounted(disk))
      execFileSync('mount', [
        '-n',
        '-o',
        'loop',
        area.path(`disk-${rung}-${area.dir.split('/').at(-1)}.img`),
        disk,
      ])
      const once = await mounter.mount({ lowerdir, ...area.container('c'), idmap })
      await once.unmount()
      await mounter.trim()
      free()
      t.notOk(isMounted(disk), 'nor does a one-shot call keep it after trim')
      await mounter.close()
    },
  )
}

t.test('a caller who has moved to another mount namespace', privileged, async (t) => {
  const area = scratch(t)
  const [here, sync, linked, kept, there] = ['here', 'sync', 'linked', 'kept', 'there'].map(
    (name) => area.container(name).target,
  ) as [string, string, string, string, string]
  symlinkSync('containers/linked', area.path('link'))
  const targets = [here, sync, area.path('link/rootfs'), kept]
  const script = `
    import { readFileSync } from 'node:fs'
    import { Mounter } from ${JSON.stringify(dist('index.js'))}
    import { mount, unshare } from ${JSON.stringify(dist('sys.js'))}
    const CLONE_NEWNS = 0x20000, MS_PRIVATE_REC = 0x44000
    const at = (path) => readFileSync('/proc/thread-self/mountinfo', 'utf8').includes(' ' + path + ' ')
    const lowerdir = ${JSON.stringify(area.layers(2))}
    const codeOf = async (run) => {
      try { await run(); return 'done' } catch ({ code, message }) { return code + ' ' + message }
    }
    const mounter = new Mounter()
    const stack = await mounter.open({ lowerdir })
    const there = ${JSON.stringify(there)}
    const rootfs = []
    for (const target of ${JSON.stringify(targets)}) rootfs.push(await stack.mount({ target }))
    const detached = await stack.mount({})
    unshare(CLONE_NEWNS)
    mount(null, '/', null, MS_PRIVATE_REC, null)
    const seen = [
      await codeOf(() => stack.mount({ target: there })),
      await codeOf(() => rootfs[0].unmount({ lazy: false })),
      await codeOf(() => rootfs[1].unmountSync()),
      await codeOf(() => rootfs[2].unmount()),
    ]
    const copies = ${JSON.stringify([here, sync])}.map(at)
    const fresh = await mounter.mount({ lowerdir, target: there })
    seen.push(at(fresh.path))
    await fresh.unmount()
    seen.push(at(there), copies)
    await mounter.trim()
    seen.push(await codeOf(() => rootfs[3].unmount()), await codeOf(() => detached.unmount()))
    await stack.close()
    await mounter.close()
    console.log(JSON.stringify(seen))`
  const { status, stdout, stderr } = await run(process.execPath, ['--input-type=module', '--eval', script])
  t.equal(status, 0, stderr)
  const [mount, unmount, unmountSync, viaLink, isFresh, isLeft, copies, trimmed, closed] = JSON.parse(stdout)
  t.match(mount, /^ERR_INVALID_STATE .*the stack was opened in another mount namespace/)
  t.same([unmount, unmountSync, closed], ['done', 'done', 'done'], 'by the threads that are still there')
  t.match(viaLink, /^ELOOP .*a symbolic link is on the way/, 'links cannot be followed from here')
  t.same([isFresh, isLeft], [true, false], 'what it mounts now is in the namespace where it is now')
  t.same(copies, [true, true], 'the copies in its own namespace are not touched')
  t.match(trimmed, /^ERR_INVALID_STATE .*the mount was attached in another mount namespace/)
  t.same([here, sync, there].map(isMounted), [false, false, false])
  t.same([linked, kept].map(isMounted), [true, true], 'these are where they were')
  execFileSync('umount', ['-n', linked, kept])
})

const reason = new Error('enough')

const aborts = async (t: Test, area: Scratch, stack: LayerStack, mounter: Mounter) => {
  const early = AbortSignal.abort(reason)
  const { upperdir, workdir, target } = area.container('early')
  await t.rejects(stack.mount({ target }, { signal: early }), reason)
  await t.rejects(mounter.mount({ lowerdir: area.layers(2), target }, { signal: early }), reason)
  await t.rejects(mounter.open({ lowerdir: area.layers(2) }, { signal: early }), reason)
  t.notOk(isMounted(target))

  // one thread: what is behind others is aborted in the queue
  const others = Array.from({ length: 20 }, (_, i) => stack.mount(area.container(`other-${i}`)))
  const controller = new AbortController()
  const created = {
    upperdir: area.path('new/upper'),
    workdir: area.path('new/work'),
    target: area.path('new/rootfs'),
  }
  const queued = stack.mount({ ...created, create: true }, { signal: controller.signal })
  controller.abort(reason)
  await t.rejects(queued, reason)
  t.notOk(existsSync(created.upperdir), 'nothing was made for it')
  for (const rootfs of await Promise.all(others)) await rootfs.unmount()
  const again = await stack.mount({ upperdir, workdir, target })
  await again.unmount()

  const late = new AbortController()
  const rootfs = await stack.mount({ upperdir, workdir, target }, { signal: late.signal })
  late.abort(reason)
  t.ok(isMounted(target), 'never after the attach')
  await rootfs.unmount()
}

for (const { rung, idmap } of ways) {
  t.test(`AbortSignal: ${rung}`, privileged, async (t) => {
    const area = scratch(t)
    const mounter = new Mounter({ rung, threads: 1 })
    const left = watch()
    const stack = await mounter.open({ lowerdir: area.layers(3), idmap })
    await aborts(t, area, stack, mounter).catch((error: unknown) => {
      if (rung !== 'detached-tree') throw error
      t.match(error, { code: 'ERR_OVERLAYFD_RUNG' })
    })
    await race(t, area, stack)
    await stack.close()
    await mounter.close()
    t.same(await left({ threads: true }), [])
  })
}

/** Aborted at any moment, it is mounted or it is not, and the promise says which. */
const race = async (t: Test, area: Scratch, stack: LayerStack) => {
  const outcomes = { mounted: 0, aborted: 0 }
  for (let i = 0; i < 100; i++) {
    const controller = new AbortController()
    const at = area.container('race')
    const mounting = stack.mount(at, { signal: controller.signal })
    const begin = performance.now()
    while (performance.now() - begin < (i % 20) * 0.02);
    controller.abort(reason)
    const rootfs = await mounting.then(
      (made): Rootfs | undefined => made,
      (error: unknown) => {
        if (error !== reason) throw error
        return undefined
      },
    )
    if (isMounted(at.target) !== (rootfs !== undefined)) t.fail('the promise says otherwise than mountinfo')
    outcomes[rootfs ? 'mounted' : 'aborted']++
    await rootfs?.unmount()
  }
  t.equal(outcomes.mounted + outcomes.aborted, 100)
  t.ok(outcomes.aborted > 0, JSON.stringify(outcomes))
}
