/**
 * A group's stage: the calls that make it and what takes them back, what an unmount of many costs, and what other
 * mount namespaces see of it and keep.
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import t from 'tap'
import { type Cost, LayerStack, Mounter, MountGroup } from '../../lib/index.js'
import { planStage } from '../../lib/overlay/group-stage.js'
import { dist } from '../support/child.js'
import { lockWrites } from '../support/lock-writes.js'
import { isBelow, mounts } from '../support/mountinfo.js'
import { all, privileged, programs } from '../support/needs.js'
import { propagations, withPropagation } from '../support/peers.js'
import { ways } from '../support/rungs.js'
import { scratch } from '../support/scratch.js'
import { between, ofThread, straceModule, tally } from '../support/strace.js'

const seen = (pid: number | 'self', dir: string): string[] =>
  mounts(pid)
    .filter((mount) => isBelow(mount, dir))
    .map(({ type }) => type)

t.test('plans', async (t) => {
  const path = Buffer.from('/run/job')
  const { plan: byFd } = planStage(path, true, { uniqueMountId: true, mountSetattr: true })
  t.match(
    String(byFd),
    /fsopen\("tmpfs"[\s\S]*"mode", "0711"[\s\S]*move_mount\([\s\S]*mount\(NULL, [\s\S]*MS_PRIVATE/,
  )
  t.match(byFd.cost, { namespaceSemWrites: 2, gracePeriods: 0, temporaryMounts: 0 })
  const { plan: byMount } = planStage(path, false, { uniqueMountId: false, mountSetattr: false })
  t.match(
    String(byMount),
    /mount\("overlayfd-group", [\s\S]*"tmpfs", MS_NOSUID\|MS_NODEV\|MS_NOEXEC, "mode=0711"/,
  )
  t.notMatch(String(byMount), /fsopen|move_mount/)
  t.match(byMount.cost, { namespaceSemWrites: 2, gracePeriods: 0, temporaryMounts: 0 })
  // what was mounted by name proves that it is a mount wherever statx says so, which is before there are unique ids
  const checks = [
    [false, false],
    [false, true],
    [true, false],
  ].map(([uniqueMountId = false, mountSetattr = false]) => {
    const { identity } = planStage(path, false, { uniqueMountId, mountSetattr })
    return identity.expect?.length
  })
  t.same(checks, [0, 1, 1])
})

/** Opens a group, mounts `count` stacks in it, unmounts it, each between marks; explained costs go to stdout. */
const script = (dir: string, lowerdir: readonly string[], rung: string, idmap: unknown, count: number) => `
import { features, LayerStack, Mounter, MountGroup } from ${JSON.stringify(dist('index.js'))}
import { planStage } from ${JSON.stringify(dist('overlay/group-stage.js'))}
import { planUnmount } from ${JSON.stringify(dist('overlay/reap.js'))}
const dir = ${JSON.stringify(dir)}
const mounter = new Mounter({ rung: '${rung}', threads: 1, reapers: 1 })
const stack = await LayerStack.open(${JSON.stringify({ lowerdir, idmap })}, { mounter })
const first = await MountGroup.open(dir, { mounter })
await first.unmount()
const { plan: opened } = planStage(Buffer.from(dir), '${rung}' !== 'classic', features())
const stage = { target: Buffer.from(dir), mountId: 1n, dev: 0n, kind: 'clone', claim: 0 }
const { plan: unmounted } = planUnmount(stage, { lazy: true, early: false }, features())
console.log(JSON.stringify([opened.cost, unmounted.cost]))
mark('open')
const group = await MountGroup.open(dir, { mounter })
mark('opened')
const made = []
for (let i = 0; i < ${count}; i++) made.push(await stack.mount({ target: group.target('c' + i) }))
mark('unmount')
await group.unmount()
for (const rootfs of made) await rootfs.unmount()
mark('unmounted')
await stack.close()
await mounter.close()
`

for (const { rung, idmap } of ways) {
  t.test(`50 rootfs, one umount2: ${rung}`, all(privileged, programs('strace')), async (t) => {
    const area = scratch(t)
    const text = script(area.mkdir('group'), area.layers(2), rung, idmap, 50)
    const { status, stdout, stderr, calls } = await straceModule(text)
    t.equal(status, 0, stderr)
    const [open, unmount] = JSON.parse(stdout) as [Cost, Cost]
    const count = (begin: string, end: string, thread: string) => {
      const made = ofThread(between(calls, begin, end), thread).filter(
        ({ name }) => name in open.calls || name in unmount.calls,
      )
      return { made, tally: tally(made), ...lockWrites(made, [], false) }
    }
    const opened = count('open', 'opened', 'ofd-compose')
    t.same(opened.tally, open.calls)
    t.equal(opened.writes, 2, 'the attach, and private')
    const taken = count('unmount', 'unmounted', 'ofd-reap')
    t.same(taken.tally, unmount.calls, 'nothing for any of the rootfs')
    t.equal(taken.tally['umount2'], 1)
    t.match(taken.made.find(({ name }) => name === 'umount2')?.args, /"group", MNT_DETACH\|UMOUNT_NOFOLLOW/)
    t.equal(taken.writes, 1)
    t.equal(taken.grace, 1, 'besides one of each overlay’s superblock')
    t.same(count('unmount', 'unmounted', 'ofd-compose').made, [])
    t.same(seen('self', area.path('group')), [])
  })
}

/** What `open` says and leaves when a call fails: the second one of a thread, the first one probes, or works. */
const faults: [name: string, inject: string, said: RegExp, calls: RegExp][] = [
  [
    'the stage cannot be made private',
    'mount:error=EPERM:when=2',
    /^EPERM mount$/,
    /move_mount .*mount umount2 /,
  ],
  [
    'it cannot be attached',
    'move_mount:error=EPERM:when=2',
    /^EPERM move_mount$/,
    /^(?!.*umount2).*move_mount /,
  ],
  [
    'a call is missing: mount(2) does it',
    'fsmount:error=ENOSYS:when=2',
    /^made$/,
    /fsmount .*mount mount .*umount2 /,
  ],
]

for (const [name, inject, said, wanted] of faults) {
  t.test(name, all(privileged, programs('strace')), async (t) => {
    const area = scratch(t)
    const text = `
      import { Mounter, MountGroup } from ${JSON.stringify(dist('index.js'))}
      const mounter = new Mounter({ rung: 'auto', threads: 1 })
      await (await MountGroup.open(${JSON.stringify(area.mkdir('group'))}, { mounter })).unmount()
      mark('begin')
      const group = await MountGroup.open(${JSON.stringify(area.path('group'))}, { mounter }).catch((error) => error)
      console.log(group instanceof Error ? group.code + ' ' + group.syscall : 'made')
      if (group instanceof MountGroup) await group.unmount()
      mark('end')
      await mounter.close()`
    const { status, stdout, stderr, calls } = await straceModule(text, { strace: [`--inject=${inject}`] })
    t.equal(status, 0, stderr)
    t.match(stdout.trim(), said)
    const names = between(calls, 'begin', 'end').map((call) => call.name)
    t.match(`${names.filter((call) => /mount/.test(call)).join(' ')} `, wanted)
    t.same(seen('self', area.path('group')), [])
  })
}

for (const propagation of propagations) {
  t.test(`other namespaces, with / ${propagation}`, privileged, async (t) => {
    const area = scratch(t)
    const lowerdir = area.layers(2)
    await withPropagation(t, propagation, async (peers) => {
      const dir = area.mkdir('group')
      const mounter = new Mounter()
      const stack = await LayerStack.open({ lowerdir }, { mounter })
      const group = await MountGroup.open(dir, { mounter })
      const [stage] = mounts().filter((mount) => isBelow(mount, dir))
      t.same(stage?.propagation, [], 'private all the same')
      const copy = propagation === 'shared' ? ['tmpfs'] : []
      for (const name of ['a', 'b']) await stack.mount({ target: group.target(name) })
      t.same(seen('self', dir), ['tmpfs', 'overlay', 'overlay'])
      for (const kind of ['peer', 'slave'] as const) {
        t.same(seen(peers.pid(kind), dir), copy, `${kind}: the empty stage at most`)
        const names = propagation === 'shared' ? ['a', 'b'] : []
        t.same(readdirSync(`/proc/${peers.pid(kind)}/root${dir}`), names, `${kind}: names in it`)
      }
      const later = spawn('unshare', [
        '-m',
        '--propagation',
        'slave',
        'sh',
        '-c',
        'echo ready; exec sleep 60',
      ])
      const ended = once(later, 'exit')
      t.teardown(async () => {
        later.kill('SIGKILL')
        await ended
      })
      await once(later.stdout, 'data')
      await group.unmount()
      t.same(seen('self', dir), [])
      for (const kind of ['peer', 'slave'] as const) {
        t.same(seen(peers.pid(kind), dir), [], `${kind}: its copy is gone too`)
      }
      t.same(
        seen(later.pid as number, dir),
        ['tmpfs', 'overlay', 'overlay'],
        'a namespace that was made meanwhile keeps what it copied',
      )
      await stack.close()
      await mounter.close()
    })
    t.same(execFileSync('findmnt', ['-n', '-o', 'PROPAGATION', '/']).toString().trim(), 'private')
  })
}
