/**
 * Pools come and go while work is under way: close() ends what was there and nothing that came since, trim()
 * lets go of namespaces that the caller has left, and a /proc that lies changes nothing.
 */
import t from 'tap'
import { Mounter } from '../../lib/index.js'
import { dist, runModule } from '../support/child.js'
import { settled, threads } from '../support/counts.js'
import { privileged } from '../support/needs.js'
import { scratch } from '../support/scratch.js'

const owned = () => [...threads().values()].filter((name) => name.startsWith('ofd-')).length

t.test('close() while mounts are being started', privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(2)
  const mounter = new Mounter()
  for (let round = 0; round < 10; round++) {
    const started: Promise<void>[] = []
    const start = () => started.push(mounter.mount({ lowerdir }).then((rootfs) => rootfs.unmount()))
    start()
    const closing = mounter.close()
    for (let turn = 0; turn < 5; turn++) {
      await new Promise((resolve) => setImmediate(resolve))
      start()
    }
    await closing
    const ended = await Promise.allSettled(started)
    t.same(
      ended.filter(({ status }) => status === 'rejected'),
      [],
      `round ${round}`,
    )
  }
  await mounter.close()
  t.equal(await settled(owned, (count) => count === 0), 0, 'no thread is left')
})

t.test('setns(2) and chdir are the caller’s own as soon as the pools are there', privileged, async (t) => {
  const { stdout, stderr } = await runModule(`
    import { openSync } from 'node:fs'
    import { Mounter } from '${dist('index.js')}'
    import { setns, unshare, CLONE_FS, CLONE_NEWNS } from '${dist('sys.js')}'
    unshare(CLONE_FS)
    const here = openSync('/proc/thread-self/ns/mnt')
    for (let i = 0; i < 20; i++) {
      const mounter = new Mounter({ threads: 4, reapers: 4 })
      await mounter.openSync({ lowerdir: ['/'] }).close()
      setns(here, CLONE_NEWNS)
      await mounter.close()
    }
    console.log('done')
  `)
  t.same({ stdout, stderr }, { stdout: 'done\n', stderr: '' })
})

t.test('trim() lets go of namespaces that the caller has left', privileged, async (t) => {
  const { stdout, stderr } = await runModule(`
    import { readdirSync, readFileSync } from 'node:fs'
    import { Mounter } from '${dist('index.js')}'
    import { unshare, CLONE_NEWNS } from '${dist('sys.js')}'
    const mounter = new Mounter({ threads: 1, reapers: 1 })
    // one may end between the listing and the look
    const name = (tid) => { try { return readFileSync('/proc/self/task/' + tid + '/comm', 'utf8') } catch { return '' } }
    const ofd = () => readdirSync('/proc/self/task').filter((tid) => name(tid).startsWith('ofd-')).length
    const open = () => mounter.openSync({ lowerdir: ['/'] }).close()
    await open()
    const before = ofd()
    for (let i = 0; i < 10; i++) {
      unshare(CLONE_NEWNS)
      await open()
    }
    await mounter.trim()
    // a thread that was joined is in /proc a moment longer
    for (let i = 0; i < 200 && ofd() > before; i++) await new Promise((resolve) => setTimeout(resolve, 10))
    console.log(ofd() - before)
  `)
  t.same({ stdout, stderr }, { stdout: '0\n', stderr: '' })
})

t.test('staging namespaces are forgotten with what was in them', privileged, async (t) => {
  const area = scratch(t)
  const { stdout, stderr } = await runModule(`
    import { queryObjects } from 'node:v8'
    import { Mounter } from '${dist('index.js')}'
    import { Stage } from '${dist('mounter/stage.js')}'
    import { unshare, CLONE_NEWNS } from '${dist('sys.js')}'
    const mounter = new Mounter({ rung: 'staged', threads: 1, reapers: 1 })
    for (let i = 0; i < 5; i++) {
      unshare(CLONE_NEWNS)
      const stack = await mounter.open({ lowerdir: ${JSON.stringify(area.layers(2))} })
      await (await stack.mount({})).unmount()
      await stack.close()
      await mounter.trim()
    }
    console.log(queryObjects(Stage))
    await mounter.close()
  `)
  // something of the last one may be on the stack still
  t.match(stdout, /^[01]\n$/, stderr)
})

t.test('a /proc that names another namespace is not believed', privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(2)
  const target = area.mkdir('target')
  const { stdout, stderr } = await runModule(`
    import { mkdirSync, readdirSync, readlinkSync, symlinkSync } from 'node:fs'
    import { Mounter } from '${dist('index.js')}'
    import { mount, unshare, CLONE_NEWNS, MS_PRIVATE, MS_REC } from '${dist('sys.js')}'
    const mounter = new Mounter({ rung: 'direct' })
    const options = { lowerdir: ${JSON.stringify(lowerdir)}, target: ${JSON.stringify(target)} }
    const first = mounter.mountSync(options)
    const lie = readlinkSync('/proc/thread-self/ns/mnt')
    first.unmountSync()
    unshare(CLONE_NEWNS)
    mount('none', '/', null, [MS_REC, MS_PRIVATE], null)
    mount('fake', '/proc', 'tmpfs')
    mkdirSync('/proc/thread-self/ns', { recursive: true })
    symlinkSync(lie, '/proc/thread-self/ns/mnt')
    mounter.mountSync(options).release()
    console.log(JSON.stringify(readdirSync(options.target).includes('only-0')))
  `)
  t.same({ stdout, stderr }, { stdout: 'true\n', stderr: '' })
})

t.test('a worker that is terminated before its first result', privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(2)
  const { stdout, stderr } = await runModule(`
    import { Worker } from 'node:worker_threads'
    const code = \`
      import { parentPort } from 'node:worker_threads'
      import { Mounter } from '${dist('index.js')}'
      new Mounter({ threads: 1 }).open({ lowerdir: ${JSON.stringify(lowerdir)} })
      parentPort.postMessage('started')
      const end = Date.now() + 200
      while (Date.now() < end) {}
    \`
    for (let i = 0; i < 5; i++) {
      const worker = new Worker(code, { eval: true })
      await new Promise((resolve) => worker.once('message', resolve))
      await new Promise((resolve) => setTimeout(resolve, 30))
      await worker.terminate()
    }
    console.log('done')
  `)
  t.same({ stdout, stderr }, { stdout: 'done\n', stderr: '' })
})

t.test(
  'a mounter that is collected while an unmount that has answered is still at work',
  privileged,
  async (t) => {
    const area = scratch(t)
    const lowerdir = area.layers(2)
    const containers = Array.from({ length: 8 }, (_, i) => area.container(String(i)))
    const { stdout, stderr } = await runModule(
      `
    import { Mounter } from '${dist('index.js')}'
    const once = async (container) => {
      const rootfs = await new Mounter().mount({ lowerdir: ${JSON.stringify(lowerdir)}, ...container })
      await new Promise((resolve) => setTimeout(resolve, 60))
      await rootfs.unmount()
    }
    for (const container of ${JSON.stringify(containers)}) {
      await once(container)
      for (let i = 0; i < 4; i++) {
        gc()
        await new Promise((resolve) => setImmediate(resolve))
      }
    }
    console.log('done')
  `,
      ['--expose-gc'],
    )
    t.same({ stdout, stderr }, { stdout: 'done\n', stderr: '' })
  },
)
