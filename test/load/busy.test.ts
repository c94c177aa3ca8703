/**
 * An unmount of a rootfs that is in use: by whom, and in each mode. Synchronously it is EBUSY and changes nothing; lazily the
 * mount is gone at once and who uses it notices nothing; `wait: 'teardown'` resolves when the last user is gone.
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readdirSync } from 'node:fs'
import t from 'tap'
import * as f from '../../lib/flags.js'
import { Mounter } from '../../lib/index.js'
import { watch } from '../support/left.js'
import { isBelow, mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { forms, ways } from '../support/rungs.js'
import { scratch } from '../support/scratch.js'

/** Uses the rootfs until what it answers is called. */
type User = (target: string, elsewhere: string) => Promise<() => Promise<void> | void>

const child =
  (script: string, inside: string): User =>
  async (target) => {
    const started = spawn('sh', ['-ec', script], {
      cwd: `${target}/${inside}`,
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    await once(started.stdout, 'data')
    return async () => {
      started.stdin.end()
      await once(started, 'exit')
    }
  }

const fd =
  (name: string, flags: number): User =>
  async (target) => {
    const opened = openSync(`${target}/${name}`, flags)
    return () => closeSync(opened)
  }

const users: Readonly<Record<string, User>> = {
  'the working directory of a process': child('echo ready; cat', 'dir'),
  'a file that a process has open for writing': child('exec 3>> each; cd /; echo ready; cat', '.'),
  'an open file': fd('each', f.O_RDONLY),
  'an O_PATH fd of its root': fd('.', f.O_PATH),
}

const isMounted = (target: string) => mounts().some((mount) => isBelow(mount, target))

for (const { rung, idmap } of ways) {
  t.test(rung, privileged, async (t) => {
    const area = scratch(t)
    const left = watch()
    const mounter = new Mounter({ rung, threads: 1, reapers: 2 })
    const stack = await mounter.open({ lowerdir: area.layers(2), idmap })
    const at = area.container('c')
    const mount = () => stack.mount({ ...at, options: { index: 'on' } })
    for (const [name, use] of Object.entries(users)) {
      for (const form of forms) {
        const rootfs = await mount()
        const release = await use(at.target, area.mkdir('elsewhere'))
        for (const wait of ['namespace', 'teardown'] as const) {
          await t.rejects(
            form.unmount(rootfs, { lazy: false, wait }),
            { code: 'EBUSY', syscall: 'umount2', hint: /something uses the mount .*lazy: true/ },
            `${form.name}, ${name}: ${wait}`,
          )
        }
        t.ok(readdirSync(at.target).includes('each'), 'it is as it was')
        await form.unmount(rootfs)
        t.notOk(isMounted(at.target), 'lazily it is gone at once')
        await t.rejects(mount(), { code: 'EBUSY' }, 'its upper is not free yet')
        await release()
      }
      const rootfs = await mount()
      const release = await use(at.target, area.mkdir('elsewhere'))
      let isGone = false
      const gone = rootfs.unmount({ wait: 'teardown' }).then(() => {
        isGone = true
      })
      // long enough for an unmount that does not wait
      const other = await stack.mount({ target: area.mkdir('other') })
      await other.unmount({ wait: 'teardown' })
      t.notOk(isMounted(at.target))
      t.notOk(isGone, `${name}: a teardown waits for it`)
      await release()
      await gone
    }
    const below = await mount()
    execFileSync('mount', ['-n', '-t', 'tmpfs', 'below', `${at.target}/dir`])
    await t.rejects(below.unmount({ lazy: false }), { code: 'EBUSY' }, 'a mount below')
    await below.unmount({ wait: 'teardown' })
    t.notOk(isMounted(at.target), 'which goes with it')

    const bound = await mount()
    execFileSync('mount', ['-n', '--bind', at.target, area.path('elsewhere')])
    await bound.unmount({ lazy: false })
    await t.rejects(mount(), { code: 'EBUSY' }, 'a bind of it is no user of the mount, but of the superblock')
    execFileSync('umount', ['-n', area.path('elsewhere')])
    await (await mount()).unmount({ wait: 'teardown' })
    await stack.close()
    await mounter.close()
    t.same(await left({ threads: true }), [])
  })
}
