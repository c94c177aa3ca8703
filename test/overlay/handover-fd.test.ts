/**
 * A detached rootfs passes on as an fd: to a child process as one of its stdio, also one in another mount or user
 * namespace, and to a worker thread. Whose the fd is at each moment; and what is no such fd.
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, fstatSync, mkdirSync, openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import { Mounter, Rootfs } from '../../lib/index.js'
import * as sys from '../../lib/sys.js'
import { dist, environment } from '../support/child.js'
import { startContainer } from '../support/container.js'
import { watch } from '../support/left.js'
import { optionsAt } from '../support/mount-forms.js'
import { isBelow, mounts } from '../support/mountinfo.js'
import { privileged } from '../support/needs.js'
import { propagations, withPropagation } from '../support/peers.js'
import { scratch } from '../support/scratch.js'

const typesAt = (dir: string): string[] =>
  mounts()
    .filter((mount) => isBelow(mount, dir))
    .map(({ type }) => type)

const overlays = () => mounts().filter(({ type }) => type === 'overlay').length

/** The child has the fd as its number 3, and gets `target`. */
const child = async (fd: number, target: string, text: string, before: readonly string[] = []) => {
  const module = `
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { Rootfs } from ${JSON.stringify(dist('index.js'))}
const [, target] = process.argv
${text}`
  const args = [...before, process.execPath, '--input-type=module', '--eval', module, target]
  const running = spawn('env', ['--unset=NODE_OPTIONS', ...args], {
    env: environment(),
    stdio: ['ignore', 'pipe', 'pipe', fd],
  })
  const out: string[] = []
  running.stdout!.on('data', (text) => out.push(String(text)))
  running.stderr!.on('data', (text) => out.push(String(text)))
  const [status] = await once(running, 'close')
  return { status, out: out.join('').trim() }
}

const isOpen = (fd: number): boolean => {
  try {
    return fstatSync(fd) !== undefined
  } catch {
    return false
  }
}

for (const propagation of propagations) {
  t.test(`to a child, which attaches it: / ${propagation}`, privileged, async (t) => {
    const area = scratch(t)
    const { target, ...upper } = area.container('c')
    const lowerdir = area.layers(2)
    await withPropagation(t, propagation, async () => {
      const left = watch()
      const fd = (await new Mounter().mount({ lowerdir, ...upper })).release() as number
      const { status, out } = await child(
        fd,
        target,
        `const rootfs = await Rootfs.fromFd(3)
        const flags = readFileSync('/proc/self/fdinfo/' + rootfs.fd, 'latin1').match(/flags:\\t(\\d+)/)[1]
        const isOpen = existsSync('/proc/self/fd/3/each')
        const seen = [rootfs.detached, rootfs.rung ?? 'no rung', isOpen, (parseInt(flags, 8) & 0o2000000) !== 0]
        console.log(...seen, readFileSync(rootfs.path + '/each', 'latin1'))
        await rootfs.attach(target)
        writeFileSync(target + '/by-child', 'x')
        console.log(JSON.stringify(rootfs))`,
      )
      t.equal(status, 0, out)
      const [first, json] = out.split('\n')
      t.equal(first, 'true no rung false true layer 0')
      t.ok(isOpen(fd), 'the own copy stays the caller’s')
      closeSync(fd)
      t.same(typesAt(target), ['overlay'])
      t.same(readdirSync(upper.upperdir), ['by-child'])
      const rootfs = await Rootfs.open(json!)
      t.equal(rootfs.rung, undefined)
      await rootfs.unmount()
      t.same(typesAt(target), [])
      t.same(await left(), [])
    })
  })
}

t.test('the last copy takes it down', privileged, async (t) => {
  const area = scratch(t)
  const lowerdir = area.layers(2)
  const left = watch()
  const fd = (await new Mounter().mount({ lowerdir })).release() as number
  const { out } = await child(fd, '', `await (await Rootfs.fromFd(3)).unmount(); console.log('closed')`)
  t.equal(out, 'closed')
  t.equal(readFileSync(`/proc/self/fd/${fd}/each`, 'utf8'), 'layer 0', 'not while this process has one')
  const again = Rootfs.fromFdSync(fd)
  t.notOk(isOpen(fd), 'the number that was given is closed')
  t.not(again.fd, fd)
  again.attachSync(area.mkdir('t'))
  t.same(typesAt(area.path('t')), ['overlay'])
  again.unmountSync({ wait: 'teardown' })
  t.same(await left(), [])
  t.equal(overlays(), 0)
})

t.test('to a child in namespaces of its own', privileged, async (t) => {
  const area = scratch(t)
  const target = area.mkdir('t')
  const text = `const rootfs = Rootfs.fromFdSync(3)
    await rootfs.attach(target)
    const mount = readFileSync('/proc/self/mountinfo', 'latin1').split('\\n').filter((line) => line.includes(target))
    console.log(mount.length, readFileSync(target + '/each', 'latin1'))
    await rootfs.unmount()
    console.log(readdirSync(target).length)`
  for (const before of [
    ['unshare', '-m'],
    ['unshare', '-Urm'],
  ]) {
    const fd = (await new Mounter().mount({ lowerdir: area.layers(2) })).release() as number
    const { out } = await child(fd, target, text, before)
    t.equal(out, '1 layer 0\n0', before.join(' '))
    t.same(typesAt(target), [], 'nothing of it is seen here')
    closeSync(fd)
  }
  const fd = (await new Mounter().mount({ lowerdir: area.layers(2) })).release() as number
  const without = `const rootfs = Rootfs.fromFdSync(3)
    console.log(await rootfs.attach(target).catch(({ code }) => code), rootfs.detached)`
  const { out } = await child(fd, target, without, [
    'setpriv',
    '--bounding-set=-sys_admin',
    '--inh-caps=-sys_admin',
    '--no-new-privs',
  ])
  t.equal(out, 'EPERM true', 'without the right to mount')
  closeSync(fd)
})

t.test('to a worker thread', privileged, async (t) => {
  const area = scratch(t)
  const target = area.mkdir('t')
  const left = watch()
  const fd = (await new Mounter().mount({ lowerdir: area.layers(2) })).release() as number
  const text = `
    const { parentPort, workerData: { fd, target, index } } = require('node:worker_threads')
    import(index).then(async ({ Rootfs }) => {
      const rootfs = await Rootfs.fromFd(fd)
      await rootfs.attach(target)
      parentPort.postMessage(JSON.stringify(rootfs))
    })`
  const worker = new Worker(text, {
    eval: true,
    execArgv: [],
    workerData: { fd, target, index: dist('index.js') },
  })
  const [json] = await once(worker, 'message')
  await worker.terminate()
  t.notOk(isOpen(fd))
  await (await Rootfs.open(json)).unmount()
  t.same(await left(), [])
})

t.test('a worker that ends closes what it has taken over', privileged, async (t) => {
  const area = scratch(t)
  const left = watch()
  const fd = (await new Mounter().mount({ lowerdir: area.layers(2) })).release() as number
  const text = `
    const { parentPort, workerData: { fd, index } } = require('node:worker_threads')
    import(index).then(async ({ Rootfs }) => {
      globalThis.rootfs = await Rootfs.fromFd(fd)
      parentPort.postMessage('')
      setInterval(() => {}, 1000)
    })`
  const worker = new Worker(text, { eval: true, execArgv: [], workerData: { fd, index: dist('index.js') } })
  await once(worker, 'message')
  await worker.terminate()
  t.same(await left(), [])
})

for (const nodev of [true, false]) {
  t.test(`a clone of a layer keeps its attributes: ${nodev}`, privileged, async (t) => {
    const area = scratch(t)
    const attributes = { nodev, noexec: true }
    const fd = (await new Mounter().mount({ lowerdir: area.layers(1), attributes })).release() as number
    const rootfs = await Rootfs.fromFd(fd)
    const target = area.mkdir('t')
    await rootfs.attach(target)
    t.same(optionsAt(target), { '': nodev ? 'ro,nodev,noexec,relatime' : 'ro,noexec,relatime' })
    await rootfs.unmount()
  })
}

t.test('a clone of a layer', privileged, async (t) => {
  const area = scratch(t)
  const fd = (await new Mounter().mount({ lowerdir: area.layers(1) })).release() as number
  const rootfs = await Rootfs.fromFd(fd)
  const target = area.mkdir('t')
  await rootfs.attach(target)
  t.equal(readFileSync(`${target}/each`, 'utf8'), 'layer 0')
  t.match(rootfs.toJSON(), { kind: 'clone', phase: 'attached' })
  await rootfs.unmount()
})

t.test('what is none is refused, and stays the caller’s', privileged, async (t) => {
  const area = scratch(t)
  const { target, ...upper } = area.container('c')
  const lowerdir = area.layers(2)
  const mounter = new Mounter()
  const attached = await mounter.mount({ lowerdir, ...upper, target })
  const detached = await mounter.mount({ lowerdir })
  const fs = sys.fsopen('tmpfs')
  sys.fsconfigCreate(fs)
  const tmpfs = sys.fsmount(fs)
  closeSync(fs)
  mkdirSync(area.path('d'))
  // as a clone of a layer is
  const other = await startContainer(t, { script: 'mount -n -o remount,bind,ro,nodev /' })
  const fds: [string, number, RegExp][] = [
    ['a file', openSync(area.path('layers/0/fs/each'), 'r'), /no root of a mount/],
    ['a directory', openSync(area.path('d'), 'r'), /no root of a mount/],
    ['an attached overlay', openSync(target, 'r'), /its mount is attached/],
    ['a directory of a detached one', openSync(`${detached.path}/dir`, 'r'), /no root of a mount/],
    ['another detached mount', tmpfs, /no overlay, and no read-only clone/],
    ['the root directory', openSync('/', 'r'), /its mount is attached/],
    ['a pipe', spawnedPipe(), /no root of a mount/],
    ['the root of another namespace', openSync(`/proc/${other.pid}/root`, 'r'), /root of another mount name/],
  ]
  for (const [name, fd, message] of fds) {
    const error = { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE', message }
    await t.rejects(Rootfs.fromFd(fd), error, name)
    t.throws(() => Rootfs.fromFdSync(fd), error, name)
    t.ok(isOpen(fd), 'stays open')
    closeSync(fd)
  }
  for (const fd of [-1, 1.5, '3', null, undefined, Number.NaN, {}] as number[]) {
    await t.rejects(Rootfs.fromFd(fd), { code: 'ERR_INVALID_ARG_TYPE' })
  }
  await t.rejects(Rootfs.fromFd(1_000_000), { code: 'EBADF', syscall: 'statx' })
  const aborted = { signal: AbortSignal.abort(new Error('enough')) }
  const own = detached.release() as number
  await t.rejects(Rootfs.fromFd(own, aborted), { message: 'enough' })
  await (await Rootfs.fromFd(own, { mounter })).unmount()
  t.match(other.mounts()[0]!.attributes, ['ro', 'nodev'], 'its attributes are as they were')
  await attached.unmount()
})

/** the reading end of a pipe of this process */
function spawnedPipe(): number {
  execFileSync('true')
  const pipe = readdirSync('/proc/self/fd').find((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith('pipe:')
    } catch {
      return false
    }
  })
  return openSync(`/proc/self/fd/${pipe}`, 'r+')
}

t.test('an fd that is a handle’s, or is being taken over', privileged, async (t) => {
  const area = scratch(t)
  const mounter = new Mounter()
  const left = watch()
  const rootfs = await mounter.mount({ lowerdir: area.layers(2) })
  const fd = rootfs.fd as number
  const error = { code: 'ERR_INVALID_ARG_VALUE', message: /"fd".*still a handle’s: release\(\)/ }
  await t.rejects(Rootfs.fromFd(fd, { mounter }), error)
  t.throws(() => Rootfs.fromFdSync(fd, { mounter }), error)
  t.equal(rootfs.release(), fd)
  t.ok(isOpen(fd))
  const first = Rootfs.fromFd(fd, { mounter })
  const taken = { code: 'ERR_INVALID_STATE', message: /fd \d+ is being taken over by another call/ }
  await t.rejects(Rootfs.fromFd(fd, { mounter }), taken)
  const own = await first
  t.notOk(isOpen(fd))
  await t.rejects(Rootfs.fromFd(own.fd as number, { mounter }), error)
  await own.unmount()
  await mounter.close()
  t.same(await left({ threads: true }), [])
})
