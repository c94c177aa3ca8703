/**
 * What is done to mounts that are there: a tmpfs and its superblock, attributes while the mount is used, propagation,
 * moves, and a mount that is replaced from beneath while it is read.
 */
import { closeSync, openSync, readFileSync, statfsSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import t, { type Test } from 'tap'
import { Mounter, type RungChoice } from '../../lib/index.js'
import { watch } from '../support/left.js'
import { mountForms, optionsAt, propagationAt, umount, volume } from '../support/mount-forms.js'
import { mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { type Peers, propagations, withPropagation } from '../support/peers.js'
import { type Scratch, scratch } from '../support/scratch.js'

interface Given {
  readonly area: Scratch
  readonly mounter: Mounter
  readonly target: string
  readonly peers: Peers
  readonly propagation: 'private' | 'shared'
}

const rungs: readonly RungChoice[] = ['auto', 'classic']

const onEach = (name: string, of: readonly RungChoice[], body: (t: Test, given: Given) => Promise<void>) => {
  for (const rung of of) {
    for (const propagation of propagations) {
      t.test(`${name}: ${rung}, / ${propagation}`, privileged, async (t) => {
        const area = scratch(t)
        const target = area.mkdir('target')
        await withPropagation(t, propagation, async (peers) => {
          const mounter = new Mounter({ rung })
          const left = watch()
          await body(t, { area, mounter, target, peers, propagation })
          await mounter.close()
          t.same(await left({ threads: true }), [])
        })
      })
    }
  }
}

const superblockOf = (path: string) =>
  mounts()
    .filter(({ target }) => target.toString() === path)
    .at(-1)
    ?.options.join(',')

onEach('a tmpfs, and what of it can be changed', rungs, async (t, { mounter, target, peers }) => {
  for (const form of mountForms) {
    const options = {
      size: '64k',
      nr_inodes: 50,
      mode: 0o750,
      uid: 7,
      gid: 8,
      huge: 'never',
      inode64: true,
    } as const
    const attributes = { nosuid: true, nodev: true, noexec: true, atime: 'noatime' } as const
    const tmpfs = await form.tmpfs(mounter, { target, options, attributes })
    const { mode, uid, gid } = statSync(target)
    t.same([mode & 0o7777, uid, gid], [0o750, 7, 8])
    t.equal(statfsSync(target).blocks, 16)
    t.equal(statfsSync(target).files, 50)
    t.same(optionsAt(target), { '': 'rw,nosuid,nodev,noexec,noatime' })
    t.throws(() => writeFileSync(join(target, 'big'), Buffer.alloc(100_000)), { code: 'ENOSPC' })
    await form.reconfigure(tmpfs, { size: 1024 * 1024, nr_inodes: '1k' })
    writeFileSync(join(target, 'big'), Buffer.alloc(100_000))
    t.equal(statfsSync(target).files, 1024)
    t.same(optionsAt(target), { '': 'rw,nosuid,nodev,noexec,noatime' }, 'the attributes stay')
    await t.rejects(form.reconfigure(tmpfs, { size: 4096 }), { code: 'EINVAL' })
    t.match(superblockOf(target), /^rw,size=1024k,nr_inodes=1024,/)
    await form.reconfigure(tmpfs, Object.create({ readonly: true, size: 2 * 1024 * 1024 }))
    t.match(superblockOf(target), /^ro,size=2048k,/, 'what is inherited counts')
    t.throws(() => writeFileSync(join(target, 'file'), ''), { code: 'EROFS' })
    await form.reconfigure(tmpfs, { readonly: false })
    writeFileSync(join(target, 'file'), '')
    await form.unmount(tmpfs, { wait: 'teardown' })
    t.same(peers.mounts('slave', target), [])
    await t.rejects(form.reconfigure(tmpfs, { size: 1 }), { code: 'ERR_INVALID_STATE' })
  }
})

onEach('attributes of a mount that is used', rungs, async (t, { mounter, target }) => {
  for (const form of mountForms) {
    const tmpfs = await form.tmpfs(mounter, { target, attributes: { nosuid: true } })
    const fd = openSync(join(target, 'log'), 'w')
    await t.rejects(form.setAttributes(tmpfs, { readonly: true }), { code: 'EBUSY' }, 'open for writing')
    await form.setAttributes(tmpfs, { noexec: true, atime: 'strictatime' })
    t.match(optionsAt(target)[''], /^rw,nosuid,noexec(,strictatime)?$/)
    closeSync(fd)
    const reader = openSync(join(target, 'log'), 'r')
    await form.setAttributes(tmpfs, { readonly: true, nosuid: false, atime: 'relatime' })
    t.same(optionsAt(target), { '': 'ro,noexec,relatime' })
    closeSync(reader)
    await form.setAttributes(tmpfs, { readonly: false, noexec: false })
    t.same(optionsAt(target), { '': 'rw,relatime' })
    await form.unmount(tmpfs)
    for (const change of [
      form.setAttributes(tmpfs, { readonly: true }),
      form.setPropagation(tmpfs, 'slave'),
    ]) {
      await t.rejects(change, { code: 'ERR_INVALID_STATE' })
    }
  }
})

onEach('propagation, and of the mounts below', rungs, async (t, { mounter, target }) => {
  for (const form of mountForms) {
    const tmpfs = await form.tmpfs(mounter, { target, propagation: 'private' })
    t.same(propagationAt(target), [])
    const below = await form.tmpfs(mounter, { target: join(target, 'below'), create: true })
    await form.setPropagation(tmpfs, 'unbindable')
    t.same(propagationAt(target), ['unbindable'])
    t.same(propagationAt(below.path), [])
    await form.setPropagation(tmpfs, 'shared', { recursive: true })
    t.same(propagationAt(target), ['shared'])
    t.same(propagationAt(below.path), ['shared'])
    await form.setPropagation(tmpfs, 'private', { recursive: true })
    t.same([propagationAt(target), propagationAt(below.path)], [[], []])
    await form.unmount(below)
    await form.unmount(tmpfs)
  }
})

onEach('recursively, on a tree', ['auto'], async (t, { area, mounter, target }) => {
  const source = volume(area)
  for (const form of mountForms) {
    const bind = await form.bind(mounter, { source, recursive: true })
    await form.setAttributes(bind, { readonly: true }, { recursive: true })
    t.throws(() => writeFileSync(join(bind.path, 'sub/new'), ''), { code: 'EROFS' }, 'while it is detached')
    await form.attach(bind, target)
    await form.setAttributes(bind, { readonly: false, nodev: true }, { recursive: true })
    t.same(optionsAt(target), { '': 'rw,nodev,relatime', '/sub': 'rw,nodev,relatime' })
    await t.rejects(form.reconfigure(bind, { readonly: true }), { code: 'ERR_INVALID_STATE' })
    await form.unmount(bind)
    const overlay = await mounter.mount({ lowerdir: area.layers(2), ...area.container('o'), target })
    await form.reconfigure(overlay, { readonly: true })
    t.match(superblockOf(target), /^ro,/)
    await t.rejects(form.reconfigure(overlay, { size: 1 }), { code: 'ERR_INVALID_ARG_VALUE' })
    await form.unmount(overlay)
  }
  umount(join(source, 'sub'))
})

onEach('moves', ['auto'], async (t, { area, mounter, target, propagation }) => {
  const elsewhere = area.mkdir('elsewhere')
  for (const form of mountForms) {
    const tmpfs = await form.tmpfs(mounter, { target })
    writeFileSync(join(target, 'file'), 'moved')
    const open = openSync(join(target, 'file'), 'r')
    if (propagation === 'shared') {
      await t.rejects(form.moveTo(tmpfs, elsewhere), { code: 'EINVAL', hint: /shared parent/ })
      t.equal(tmpfs.path, target)
    } else {
      await form.moveTo(tmpfs, elsewhere)
      t.equal(tmpfs.path, elsewhere)
      t.equal(readFileSync(join(elsewhere, 'file'), 'utf8'), 'moved')
      t.same(optionsAt(target), {})
      await t.rejects(form.moveTo(tmpfs, area.path('none')), { code: 'ENOENT' })
      await form.setAttributes(tmpfs, { readonly: true })
      t.same(optionsAt(elsewhere), { '': 'ro,relatime' }, 'found where it is now')
    }
    closeSync(open)
    await form.unmount(tmpfs)
    const detached = await form.tmpfs(mounter)
    await t.rejects(form.moveTo(detached, elsewhere), { code: 'ERR_INVALID_STATE', message: /attach/ })
    await form.unmount(detached)
  }
})

/** Reads a file over and over; answers how often it was there, and what was in it, and how often it was not. */
const reader = (path: string) => {
  const text = `
    const { parentPort, workerData } = require('node:worker_threads')
    const { readFileSync } = require('node:fs')
    let isEnding = false
    const seen = {}
    parentPort.on('message', () => { isEnding = true })
    const some = () => {
      for (let i = 0; i < 200; i++) {
        let what
        try { what = readFileSync(workerData, 'utf8') } catch (error) { what = error.code }
        seen[what] = (seen[what] ?? 0) + 1
      }
      if (isEnding) { parentPort.postMessage(seen); parentPort.close() } else setImmediate(some)
    }
    some()`
  const worker = new Worker(text, { eval: true, workerData: path })
  const ended = new Promise<Record<string, number>>((resolve) => worker.once('message', resolve))
  return async () => {
    worker.postMessage('end')
    const seen = await ended
    await worker.terminate()
    return seen
  }
}

onEach('replaced from beneath, while it is read', ['auto'], async (t, { area, mounter, target }) => {
  const version = (i: number) => {
    const dir = area.mkdir(`version-${i % 2}`)
    writeFileSync(join(dir, 'file'), `version ${i % 2}`)
    return dir
  }
  const stop = area.mkdir('stop')
  let now = await mounter.mountBind({ source: version(0), target })
  const seen = reader(join(target, 'file'))
  for (let i = 1; i <= 20; i++) {
    for (const form of i % 2 ? mountForms.slice(0, 1) : mountForms.slice(1)) {
      const next = await form.bind(mounter, { source: version(i), target, beneath: true })
      t.equal(readFileSync(join(target, 'file'), 'utf8'), `version ${(i + 1) % 2}`, 'still the old one')
      await t.rejects(form.unmount(next), { code: 'EBUSY', hint: /covers this one/ })
      await form.unmount(now)
      t.equal(readFileSync(join(target, 'file'), 'utf8'), `version ${i % 2}`)
      now = next
    }
  }
  t.same(Object.keys(await seen()).sort(), ['version 0', 'version 1'], 'it was never missing')
  await now.unmount()
  for (const form of mountForms) {
    const nothing = { source: version(0), target: stop, beneath: true }
    await t.rejects(form.bind(mounter, nothing), { code: 'EINVAL', hint: /beneath takes a target/ })
    const detached = await form.tmpfs(mounter)
    await t.rejects(form.attach(detached, stop, { beneath: true }), { code: 'EINVAL', hint: /beneath takes/ })
    t.ok(detached.detached)
    await form.unmount(detached)
  }
  t.same(optionsAt(target), {})
})
