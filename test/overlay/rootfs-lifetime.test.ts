/**
 * How long a mount lives beside its handle: what a handle says of itself as JSON, what becomes of a mount whose
 * handle is dropped, and of handles in a process that has moved to another mount namespace.
 */
import { execFileSync } from 'node:child_process'
import t from 'tap'
import { Mounter } from '../../lib/index.js'
import { dist, run } from '../support/child.js'
import { isBelow, mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { forms, ways } from '../support/rungs.js'
import { scratch } from '../support/scratch.js'

for (const { rung, idmap } of ways) {
  t.test(`toJSON, and what a handle tells: ${rung}`, privileged, async (t) => {
    const area = scratch(t)
    const lowerdir = area.layers(2)
    const mounter = new Mounter({ rung })
    t.teardown(() => mounter.close())
    for (const form of forms) {
      const at = area.container(form.name)
      const rootfs = await form.mount(mounter, { lowerdir, ...at, idmap })
      const json = JSON.parse(JSON.stringify(rootfs))
      const { mountId } = rootfs
      t.type(mountId, 'bigint')
      t.match(json, { version: 1, rung, kind: 'overlay', phase: 'attached', target: at.target })
      t.equal(json.mountId, String(mountId))
      const [mount] = mounts().filter((one) => isBelow(one, at.target))
      const [major, minor] = (mount?.device ?? '').split(':').map(Number) as [number, number]
      t.equal(BigInt(json.dev), BigInt(major) | (BigInt(minor) << 32n), 'stx_dev, as the kernel writes it')
      await form.unmount(rootfs)
      t.match(JSON.parse(JSON.stringify(rootfs)), { phase: 'gone', mountId: String(mountId) })
      const again = await form.mount(mounter, { lowerdir, ...at, idmap })
      t.not(again.mountId, mountId, 'an id is never used again')
      again.release()
      t.match(JSON.parse(JSON.stringify(again)), { phase: 'released', target: at.target })
      execFileSync('umount', ['-n', at.target])
    }
  })
}

/** A child that has two collections to itself; what it prints is what was seen. */
const child = (lowerdir: readonly string[], target: string, body: string) =>
  run(process.execPath, [
    '--expose-gc',
    '--input-type=module',
    '--eval',
    `import { execFileSync } from 'node:child_process'
    import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
    import { setTimeout as sleep } from 'node:timers/promises'
    import { LayerStack, Mounter } from ${JSON.stringify(dist('index.js'))}
    const lowerdir = ${JSON.stringify(lowerdir)}
    const target = ${JSON.stringify(target)}
    const range = [{ inside: 0, outside: 100000, length: 65536 }]
    const idmap = { uid: range, gid: range }
    const warnings = []
    process.on('warning', ({ code }) => warnings.push(code))
    const links = () => readdirSync('/proc/self/fd').flatMap((fd) => {
      try { return [readlinkSync('/proc/self/fd/' + fd)] } catch { return [] }
    }).filter((link) => link.startsWith('/') && !/^\\/(dev|proc|work|usr)/.test(link))
    const mounted = () => readFileSync('/proc/self/mountinfo', 'utf8').split('\\n').filter((line) => line.split(' ')[4] === target).length
    const collect = async (isDone, times = 300) => {
      for (let i = 0; i < times && !isDone(); i++) {
        globalThis.gc()
        await sleep(10)
      }
    }
    const mounter = new Mounter()
    await (await mounter.mount({ lowerdir, idmap })).unmount()
    await mounter.trim()
    const before = links().length
    ${body}
    await mounter.trim()
    console.log(JSON.stringify({ warnings, fds: links().length - before, mounted: mounted() }))`,
  ])

const drops: [name: string, body: string, seen: object][] = [
  [
    'a detached rootfs is taken down, with a warning',
    `await mounter.mount({ lowerdir, idmap }).then(({ rung }) => rung)
    await collect(() => warnings.length > 0)`,
    { warnings: ['OVERLAYFD_ROOTFS_DROPPED'], fds: 0, mounted: 0 },
  ],
  [
    'an attached one stays, without a word',
    `await mounter.mount({ lowerdir, idmap, target }).then(({ rung }) => rung)
    await collect(() => false, 30)`,
    { warnings: [], fds: 0, mounted: 1 },
  ],
  [
    'one that was attached later stays too',
    `await mounter.mount({ lowerdir, idmap }).then((rootfs) => rootfs.attach(target))
    await collect(() => false, 30)`,
    { warnings: [], fds: 0, mounted: 1 },
  ],
  [
    'a stack is closed, with a warning',
    `await mounter.open({ lowerdir, idmap }).then(({ layers }) => layers)
    await collect(() => warnings.length > 0)
    await mounter.trim()`,
    { warnings: ['OVERLAYFD_STACK_DROPPED'], fds: 0, mounted: 0 },
  ],
  [
    'a stack whose mount is under way is not closed under it',
    `const pending = mounter.open({ lowerdir, idmap }).then((stack) => stack.mount({ target }))
    await collect(() => warnings.length > 0)
    await pending
    await mounter.trim()`,
    { warnings: ['OVERLAYFD_STACK_DROPPED'], fds: 0, mounted: 1 },
  ],
  [
    'a mounter ends its threads',
    `const threads = () => readdirSync('/proc/self/task').map((tid) => readFileSync('/proc/self/task/' + tid + '/comm', 'utf8')).filter((name) => name.startsWith('ofd-')).length
    const own = threads()
    await new Mounter().mount({ lowerdir, idmap, target })
    if (threads() <= own) throw new Error('no threads of its own')
    await collect(() => threads() === own)
    if (threads() !== own) throw new Error(threads() + ' threads')`,
    { warnings: [], fds: 0, mounted: 1 },
  ],
]

for (const [name, body, seen] of drops) {
  t.test(`dropped: ${name}`, privileged, async (t) => {
    const area = scratch(t)
    const { target } = area.container('dropped')
    const { status, stdout, stderr } = await child(area.layers(2), target, body)
    t.equal(status, 0, stderr)
    t.same(JSON.parse(stdout), seen)
    for (const mount of mounts().filter((one) => isBelow(one, target))) {
      execFileSync('umount', ['-n', mount.target.toString()])
    }
  })
}
