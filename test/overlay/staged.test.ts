/**
 * The staging namespace: nothing of it is seen, nothing of the caller's is pinned by it, and what is carried into it is
 * what the caller sees, whatever was mounted since.
 */
import { deepStrictEqual as deepEqual } from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { Mounter } from '../../lib/index.js'
import { isStaged } from '../../lib/overlay/choose.js'
import { watch } from '../support/left.js'
import { isBelow, mounts } from '../support/mountinfo.js'
import { all, privileged, programs } from '../support/needs.js'
import { type Kind, type Peers, propagations, withPropagation } from '../support/peers.js'
import { ways } from '../support/rungs.js'
import { type Scratch, scratch } from '../support/scratch.js'
import { mapping } from '../support/userns.js'

const MOUNTS = 1000
const staged = ways.filter(({ rung }) => isStaged(rung))
const tmpfs = (dir: string) => execFileSync('mount', ['-n', '-t', 'tmpfs', 'overlayfd-test', dir])
const umount = (dir: string) => execFileSync('umount', ['-n', dir])

/**
 * Throws if anything but these mounts is to be seen below the scratch area, by this process or by others: whoever
 * waits for the teardown of an overlay that has come to another place too would wait for ever.
 */
const nothingBut = (area: Scratch, peers: Peers, isShared: boolean, ...targets: string[]): void => {
  const below = (kind: Kind | 'self'): string[] =>
    mounts(kind === 'self' ? 'self' : peers.pid(kind))
      .filter((mount) => isBelow(mount, area.dir))
      .map(({ target }) => String(target))
  const own = [area.dir, ...targets]
  const theirs = isShared ? own : [area.dir]
  deepEqual([below('self'), below('peer'), below('slave')], [own, theirs, theirs])
}

for (const { rung, idmap } of staged) {
  for (const propagation of propagations) {
    const title = `${rung}, / ${propagation}: a disk mounted over the upper's parent meanwhile`
    t.test(title, all(privileged, programs('mkfs.ext4', 'losetup')), async (t) => {
      const area = scratch(t)
      await withPropagation(t, propagation, async (peers) => {
        const mounter = new Mounter({ rung })
        t.teardown(() => mounter.close())
        const stack = await mounter.open({ lowerdir: area.layers(2), idmap })
        const disk = area.mkdir('disk')
        const at = {
          upperdir: join(disk, 'upper'),
          workdir: join(disk, 'work'),
          target: area.mkdir('rootfs'),
        }
        const options = { ...at, create: true, upper: 'shifted', options: { index: 'on' } } as const
        const isShared = propagation === 'shared'
        const hidden = await stack.mount(options)
        nothingBut(area, peers, isShared, at.target)
        await hidden.unmount({ wait: 'teardown' })
        area.ext4('disk')
        const device = statSync(disk).dev
        for (const name of ['first', 'again']) {
          const rootfs = await stack.mount(options)
          nothingBut(area, peers, isShared, disk, at.target)
          writeFileSync(join(at.target, name), name)
          t.equal(statSync(join(at.upperdir, name)).dev, device, 'on the disk')
          await rootfs.unmount({ wait: 'teardown' })
        }
        umount(disk)
        t.ok(await area.isFreed(disk), 'the device is free, with the stack still open')
        t.ok(existsSync(at.upperdir), 'what it hid is there again')
        t.notOk(existsSync(join(at.upperdir, 'first')), 'and has nothing of it')
        await stack.close()
      })
    })
  }

  t.test(`${rung}: the layers' device is free after close, and after trim`, privileged, async (t) => {
    const area = scratch(t)
    const disk = area.mkdir('layers')
    tmpfs(disk)
    const lowerdir = area.layers(2)
    const mounter = new Mounter({ rung })
    t.teardown(() => mounter.close())
    const left = watch()
    const target = area.mkdir('rootfs')
    const stack = await mounter.open({ lowerdir, idmap })
    const rootfs = await stack.mount({ target, idmap: mapping(300_000) })
    await rootfs.unmount({ wait: 'teardown' })
    t.throws(() => umount(disk), /busy/, 'the stack has its tree there')
    await stack.close()
    await mounter.idle()
    umount(disk)
    tmpfs(disk)
    const again = await mounter.mount({ lowerdir: area.layers(2), idmap, target })
    await again.unmount({ wait: 'teardown' })
    await mounter.trim()
    umount(disk)
    t.same(await left(), [])
  })

  t.test(`${rung}: ${MOUNTS} mounts, and nobody sees anything else`, privileged, async (t) => {
    const area = scratch(t)
    const lowerdir = area.layers(3)
    await withPropagation(t, 'shared', async () => {
      const script = `
        while ! read -t 0 line; do cut -d' ' -f5 /proc/$PPID/mountinfo; done | sort -u`
      const watcher = spawn('bash', ['-c', script], { stdio: ['pipe', 'pipe', 'inherit'] })
      let output = ''
      watcher.stdout.on('data', (data) => (output += data))
      // also where a mount fails: it would keep the test from ending
      t.teardown(() => watcher.kill('SIGKILL'))
      const mounter = new Mounter({ rung })
      const stack = await mounter.open({ lowerdir, idmap })
      const containers = Array.from({ length: 4 }, (_, i) => area.container(`c${i}`))
      for (let i = 0; i < MOUNTS; i += containers.length) {
        const made = await Promise.all(
          containers.map((at, n) =>
            stack.mount({ ...at, ...(n % 2 ? { idmap: mapping(65536 * (i + n + 4)) } : {}) }),
          ),
        )
        await Promise.all(made.map((rootfs) => rootfs.unmount()))
      }
      watcher.stdin.end('\n')
      await once(watcher, 'close')
      await stack.close()
      await mounter.close()
      const below = output.split('\n').filter((target) => target.startsWith(area.dir))
      const targets = new Set(containers.map(({ target }) => target))
      t.ok(below.length > 0, 'it has seen targets')
      t.same(
        below.filter((target) => !targets.has(target) && target !== area.dir),
        [],
      )
    })
  })
}
