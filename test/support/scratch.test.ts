import { execFileSync } from 'node:child_process'
import { closeSync, existsSync, openSync, readdirSync, statfsSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import t from 'tap'
import { isBelow, mounts } from './mountinfo.js'
import { all, privileged, programs } from './needs.js'
import { read, type Scratch, scratch, type Teardown } from './scratch.js'

const EXT4_SUPER_MAGIC = 0xef53

/** A scratch area with its teardown in hand. */
const area = (): { area: Scratch; undo: () => Promise<void> } => {
  const undos: (() => void | Promise<void>)[] = []
  const t: Teardown = { teardown: (undo) => undos.push(undo) }
  return {
    area: scratch(t),
    undo: async () => {
      for (const undo of undos.reverse()) await undo()
    },
  }
}

t.test('layers are told apart, the topmost first', privileged, async (t) => {
  const { layers, path } = scratch(t)
  const paths = layers(3)
  t.same(paths, [path('layers', '0', 'fs'), path('layers', '1', 'fs'), path('layers', '2', 'fs')])
  t.same(read(paths[1] as string, 'only-1', 'each', 'dir/from-1', 'only-0'), [
    'layer 1',
    'layer 1',
    'layer 1',
    null,
  ])
  const target = scratch(t).dir
  execFileSync('mount', ['-n', '-t', 'overlay', '-o', `lowerdir=${paths.join(':')}`, 'test', target])
  t.same(read(target, 'each', 'only-2'), ['layer 0', 'layer 2'])
  t.same(readdirSync(`${target}/dir`).sort(), ['from-0', 'from-1', 'from-2'])
  execFileSync('umount', ['-n', target])
})

t.test('teardown leaves nothing', privileged, async (t) => {
  const { area: made, undo } = area()
  made.container('c')
  await undo()
  t.notOk(mounts().some((mount) => isBelow(mount, made.dir)))
  t.notOk(existsSync(made.dir))
})

t.test('teardown undoes a mount that was left, and says so', privileged, async (t) => {
  const { area: made, undo } = area()
  const { target } = made.container('c')
  execFileSync('mount', ['-n', '-t', 'tmpfs', 'test', target])
  await t.rejects(undo(), { message: `left mounted: ${target}` })
  t.notOk(mounts().some((mount) => isBelow(mount, made.dir)))
  t.notOk(existsSync(made.dir))
})

t.test('ext4 on a loop device', all(privileged, programs('mkfs.ext4', 'losetup')), async (t) => {
  const { area: made, undo } = area()
  const dir = made.ext4('disk')
  t.equal(statfsSync(dir).type, EXT4_SUPER_MAGIC)
  writeFileSync(`${dir}/file`, '')
  const device = mounts()
    .find(({ target }) => target.toString() === dir)
    ?.source.toString() as string
  t.match(device, /^\/dev\/loop\d+$/)
  await undo()
  // the number may be another test's by now: the name of the image tells
  t.notMatch(execFileSync('losetup', ['-O', 'BACK-FILE', '-a'], { encoding: 'utf8' }), basename(made.dir))
})

t.test('a device that is still held is said', all(privileged, programs('mkfs.ext4')), async (t) => {
  const { area: made, undo } = area()
  const dir = made.ext4('disk')
  writeFileSync(`${dir}/file`, '')
  const fd = openSync(`${dir}/file`, 'r')
  await t.rejects(undo(), { message: /^still held after the unmount: \/dev\/loop\d+$/ })
  closeSync(fd)
})
