import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import t from 'tap'
import { mounts } from './mountinfo.js'
import { privileged } from './needs.js'
import { type Kind, propagations, startPeers, withPropagation } from './peers.js'
import { scratch } from './scratch.js'

const mount = (dir: string) => execFileSync('mount', ['-n', '-t', 'tmpfs', 'test', dir])
const umount = (dir: string) => execFileSync('umount', ['-n', dir])
const kinds: Kind[] = ['peer', 'slave']

t.test('what others see of a mount below', privileged, async (t) => {
  for (const propagation of propagations) {
    await t.test(propagation, async (t) => {
      const dir = scratch(t).mkdir('target')
      await withPropagation(t, propagation, (peers) => {
        mount(dir)
        const seen = kinds.map((kind) => peers.mounts(kind, dir).length)
        t.same(seen, propagation === 'shared' ? [1, 1] : [0, 0])
        umount(dir)
        t.same(
          kinds.map((kind) => peers.mounts(kind, dir).length),
          [0, 0],
        )
      })
      t.same(
        mounts().flatMap((each) => each.propagation),
        [],
        'private again',
      )
    })
  }
})

t.test('a peer’s own mounts come here, a slave’s do not', privileged, async (t) => {
  const dir = scratch(t).mkdir('target')
  const peers = await startPeers('shared')
  t.teardown(() => peers.stop())
  const here = () => mounts().filter(({ target }) => target.toString() === dir).length
  const inside = (kind: Kind, ...command: string[]) =>
    execFileSync('nsenter', [`--mount=/proc/${peers.pid(kind)}/ns/mnt`, ...command])
  inside('slave', 'mount', '-n', '-t', 'tmpfs', 'test', dir)
  t.equal(here(), 0)
  inside('peer', 'mount', '-n', '-t', 'tmpfs', 'test', dir)
  t.equal(here(), 1)
  umount(dir)
})

t.test('what is left with the others fails', privileged, async (t) => {
  const dir = scratch(t).mkdir('target')
  const left = withPropagation(t, 'shared', (peers) => {
    execFileSync('nsenter', [
      `--mount=/proc/${peers.pid('slave')}/ns/mnt`,
      'mount',
      '-n',
      '-t',
      'tmpfs',
      'test',
      dir,
    ])
  })
  await t.rejects(left, { message: `left mounted: tmpfs at ${dir} in the slave namespace` })
})

t.test('stop ends the children', privileged, async (t) => {
  const peers = await startPeers('shared')
  const pids = kinds.map((kind) => peers.pid(kind))
  await peers.stop()
  await peers.stop()
  t.same(
    pids.map((pid) => existsSync(`/proc/${pid}`)),
    [false, false],
  )
  t.same(
    mounts().flatMap(({ propagation }) => propagation),
    [],
  )
})
